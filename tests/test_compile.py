"""compile_grammar: what is taken, and what is refused because it could not be enforced exactly."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel

from localmem.engine.scripted import BYTES
from localmem.errors import GrammarError
from localmem.grammar.compile import compile_grammar
from localmem.grammar.sources import Cfg, Choice, Gbnf, Regex


class _Model(BaseModel):
    n: int


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        ({"type": "integer"}, "7"),
        ('{"type": "integer"}', "7"),
        (_Model, '{"n": 1}'),
        ({}, '{"any": [1, null, {"x": "y"}]}'),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"const": "x"}}}, '"x"'),
        ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, '"s"'),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, "3"),
        ({"type": "string", "pattern": "^a+$"}, '"aa"'),
        ({"type": "string", "format": "date"}, '"2024-02-29"'),
        ({"type": "array", "prefixItems": [{"type": "integer"}], "items": False}, "[1]"),
        ({"type": "integer", "title": "T", "description": "D", "default": 3}, "4"),
    ],
)
def test_accepted(schema: Any, document: str) -> None:
    matcher = compile_grammar(schema).bind(BYTES)
    assert all(matcher.accept(byte) for byte in document.encode())
    assert matcher.can_stop


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "uniqueItems": True},
        {"type": "array", "contains": {"type": "integer"}},
        {"not": {"type": "string"}},
        {"if": {}, "then": {}},
        {"type": "object", "propertyNames": {"pattern": "a"}},
        {"dependentRequired": {"a": ["b"]}},
        {"oneOf": [{"type": "integer"}, {"type": "number"}]},
        {"type": "string", "format": "nope"},
        {"type": "string", "pattern": "^a(?=b)"},
        {"type": "foo"},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"enum": []},
        {"$ref": "#/nope"},
        {"type": "object", "properties": {}, "required": ["b"], "additionalProperties": False},
        {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}},
        "{not json",
        "[1]",
        "true",
        {"const": {1, 2}},
    ],
)
def test_refused(schema: Any) -> None:
    """Also what llguidance only warns of: an ignored keyword would be a weaker promise than was asked for."""
    with pytest.raises(GrammarError) as caught:
        compile_grammar(schema)
    assert "\n" not in str(caught.value)


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(GrammarError, match=r"'xgrammar'.*llguidance, gbnf, outlines"):
        compile_grammar({}, backend="xgrammar")  # type: ignore[arg-type]


SOURCES = {
    "json": {"const": "a"},
    "regex": Regex("a"),
    "choice": Choice(("a",)),
    "cfg": Cfg('start: "a"'),
    "gbnf": Gbnf('root ::= "a"'),
}


@pytest.mark.parametrize(
    ("given", "run_by", "grammar"),
    [
        ("json", None, "LLGuidanceGrammar"),
        ("json", "llguidance", "LLGuidanceGrammar"),
        ("json", "gbnf", "GbnfGrammar"),
        ("json", "outlines", "OutlinesGrammar"),
        ("regex", None, "LLGuidanceGrammar"),
        ("regex", "llguidance", "LLGuidanceGrammar"),
        ("regex", "outlines", "OutlinesGrammar"),
        ("choice", None, "LLGuidanceGrammar"),
        ("choice", "llguidance", "LLGuidanceGrammar"),
        ("choice", "gbnf", "GbnfGrammar"),
        ("choice", "outlines", "OutlinesGrammar"),
        ("cfg", None, "LLGuidanceGrammar"),
        ("cfg", "llguidance", "LLGuidanceGrammar"),
        ("cfg", "outlines", "LLGuidanceGrammar"),
        ("gbnf", None, "GbnfGrammar"),
        ("gbnf", "gbnf", "GbnfGrammar"),
    ],
)
def test_which_backend_runs_what(given: str, run_by: Any, grammar: str) -> None:
    assert type(compile_grammar(SOURCES[given], backend=run_by)).__name__ == grammar


@pytest.mark.parametrize(
    ("given", "run_by", "instead"),
    [
        ("regex", "gbnf", "llguidance or outlines"),
        ("cfg", "gbnf", "llguidance or outlines"),
        ("gbnf", "llguidance", "gbnf"),
        ("gbnf", "outlines", "gbnf"),
    ],
)
def test_a_backend_that_cannot_run_it_names_one_that_can(given: str, run_by: Any, instead: str) -> None:
    with pytest.raises(GrammarError, match=f"not run by backend {run_by}; use backend {instead}\\."):
        compile_grammar(SOURCES[given], backend=run_by)


def test_only_the_backend_that_is_wanted_is_imported() -> None:
    code = (
        "import sys; from localmem.grammar.compile import compile_grammar; compile_grammar({}, backend='llguidance');"
        "print([m for m in ('outlines_core', 'outlines', 'pydantic', 'llama_cpp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
