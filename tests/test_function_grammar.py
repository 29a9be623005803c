"""grammars/function_call.gbnf: fresh, and what llama.cpp makes of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from localmem.bench.function_grammar import function_call_gbnf
from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.grammar.gbnf import GbnfGrammar
from localmem.grammar.sources import Gbnf

FILE = ROOT / "grammars" / "function_call.gbnf"


@pytest.fixture(scope="module")
def engine(tiny_model_path: Path) -> Iterator[LlamaEngine]:
    engine = LlamaEngine(tiny_model_path, LlamaOptions(n_ctx=256, threads=1))
    yield engine
    engine.close()


def test_the_file_is_that_of_the_functions_as_they_are() -> None:
    assert FILE.read_text(encoding="utf-8") == function_call_gbnf()


def test_the_command_writes_it(tmp_path: Path) -> None:
    made = tmp_path / "made.gbnf"
    subprocess.run([sys.executable, "-m", "localmem.bench.function_grammar", str(made)], check=True, timeout=120)
    assert made.read_text(encoding="utf-8") == FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("call", "whole"),
    [
        ('{"thought": "", "function": "send_message", "arguments": {"message": "Hi, \\"Ada\\"!\\nWelcome."}}', True),
        ('{"thought": "é", "function": "core_memory_append", "arguments": {"block": "human", "content": "Ada"}}', True),
        ('{"thought": "", "function": "archival_memory_search", "arguments": {"query": "q", "page": 1}}', True),
        ('{"thought": "", "function": "archival_memory_insert", "arguments": {"content": "x"}}', True),
        ('{"thought": "", "function": "archival_memory_search", "arguments": {"query": "q", "page": 2}}', False),
        ('{"thought": "", "function": "send_message", "arguments": {"message": ""}}', False),
        ('{"thought": "", "function": "send_message", "arguments": {"message": "\\t"}}', False),
        ('{"thought":"", "function": "send_message", "arguments": {"message": "a"}}', False),
        ('{"thought": "", "function": "format_disk", "arguments": {}}', False),
        (
            '{"thought": "", "function": "core_memory_append", "arguments": {"block": "nobody", "content": "Ada"}}',
            False,
        ),
        ('{"function": "send_message", "arguments": {"message": "a"}}', False),
        ('{"thought": "", "function": "send_message", "arguments": {"message": "a"}} ', False),
    ],
)
def test_calls_that_it_allows(engine: LlamaEngine, call: str, whole: bool) -> None:
    """As it stands, and as a person's own grammar."""
    source = FILE.read_text(encoding="utf-8")
    for rules in (engine.vocabulary.gbnf(source), GbnfGrammar(Gbnf(source)).bind(engine.vocabulary)):
        assert (all(rules.accept(token) for token in engine.vocabulary.tokenize(call)) and rules.complete) is whole
