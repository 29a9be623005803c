"""llama.cpp's matcher as token rules: exact masks, bad grammars as errors, and nothing that ends the process."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from localmem.engine.gbnf import unfinished
from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.engine.vocabulary import LlamaVocabulary
from localmem.errors import GrammarError, ModelError
from localmem.protocols import TokenRules

ANY_TEXT = 'root ::= [^"]*'


@pytest.fixture(scope="module")
def vocabulary(tiny_model_path: Path) -> Iterator[LlamaVocabulary]:
    engine = LlamaEngine(tiny_model_path, LlamaOptions(n_ctx=256, threads=1))
    yield engine.vocabulary
    engine.close()


def take(rules: TokenRules, vocabulary: LlamaVocabulary, text: str) -> bool:
    """Whether all of `text`, as the model's own tokens, is taken."""
    return all(rules.accept(token) for token in vocabulary.tokenize(text))


def byte_tokens(vocabulary: LlamaVocabulary, data: bytes) -> list[int]:
    """One token a byte."""
    single = {vocabulary.token_bytes(t): t for t in range(vocabulary.size) if len(vocabulary.token_bytes(t)) == 1}
    return [single[bytes([byte])] for byte in data]


@pytest.mark.parametrize(
    ("grammar", "cause"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("# nothing", "failed to parse grammar"),
        ('root ::= "a', "unexpected end of input"),
        ("root ::= y", "Undefined rule identifier 'y'"),
        ('x ::= "a"', "root"),
        ('root ::= root "a" | "b"', "left recursion"),
        ('root ::= "a"{5000}', "number of repetitions"),
        ('root = "a"', "expecting ::="),
        ('root ::= "a\0"', "NUL"),
    ],
)
def test_a_bad_grammar_is_an_error_and_no_sampler(
    vocabulary: LlamaVocabulary, grammar: str, cause: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(GrammarError, match=cause) as caught:
        vocabulary.gbnf(grammar)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_the_mask_is_what_accept_takes(vocabulary: LlamaVocabulary) -> None:
    grammar = 'root ::= ("red" | "green" | "réd" | [0-9]+) "!"?'
    for begun in ("", "r", "gre", "red", "7", "red!"):

        def begin(text: str = begun) -> TokenRules:
            rules = vocabulary.gbnf(grammar)
            assert take(rules, vocabulary, text)
            return rules

        rules = begin()
        mask = rules.mask()
        assert mask.shape == (vocabulary.size,)
        assert mask.dtype == np.bool_
        assert (mask[sorted(vocabulary.end_tokens)] == rules.can_stop).all()
        taken = np.zeros_like(mask)
        for token in range(vocabulary.size):
            if rules.accept(token):  # a refusal leaves the rules as they are
                taken[token] = True
                rules = begin()
        mask[sorted(vocabulary.end_tokens)] = False
        assert (mask == taken).all(), begun


def test_a_refused_token_changes_nothing(vocabulary: LlamaVocabulary) -> None:
    rules = vocabulary.gbnf('root ::= "abc"')
    a, b, c, x = byte_tokens(vocabulary, b"abcx")
    assert [rules.accept(t) for t in (x, a, a, b, x, c, c)] == [False, True, False, True, False, True, False]
    assert rules.complete


def test_no_token_that_is_not_text_is_ever_accepted(vocabulary: LlamaVocabulary) -> None:
    """llama.cpp takes a control token for the text of its name, and aborts at an end that it does not expect."""
    rules = vocabulary.gbnf(ANY_TEXT)
    for token in (*vocabulary.control_tokens, *vocabulary.end_tokens, -1, vocabulary.size, 2**31 - 1):
        assert not rules.accept(token)
    mask = rules.mask()
    assert not mask[sorted(vocabulary.control_tokens - vocabulary.end_tokens)].any()
    assert mask[sorted(vocabulary.end_tokens)].all()
    rules = vocabulary.gbnf('root ::= "<|im_start|>"')
    assert take(rules, vocabulary, "<|im_start|>")
    assert rules.complete


def test_a_character_in_several_tokens(vocabulary: LlamaVocabulary) -> None:
    rules = vocabulary.gbnf('root ::= [^"]{2}')
    first, *rest = byte_tokens(vocabulary, "😀".encode())
    assert rules.accept(first)
    assert not rules.can_stop
    mask = rules.mask()
    assert mask.any()
    assert not mask[sorted(vocabulary.end_tokens)].any()
    assert not rules.accept(byte_tokens(vocabulary, b"a")[0])
    assert all(rules.accept(token) for token in rest)
    assert rules.accept(first)
    assert [rules.accept(token) for token in rest] == [True, True, True]
    assert rules.complete


@pytest.mark.parametrize(
    "data", [b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xff"]
)
def test_what_is_no_utf8_is_refused(vocabulary: LlamaVocabulary, data: bytes) -> None:
    """llama.cpp itself would follow most of these."""
    singles = {vocabulary.token_bytes(t): t for t in range(vocabulary.size)}
    rules = vocabulary.gbnf(ANY_TEXT)
    for byte in data:
        token = singles.get(bytes([byte]))
        if token is None or not rules.accept(token):
            return
        assert rules.mask()[[singles[bytes([b])] for b in range(0x80, 0xC0) if bytes([b]) in singles]].any()
    raise AssertionError("all of it was taken")


def test_the_mask_keeps_utf8_valid(vocabulary: LlamaVocabulary) -> None:
    for begun in (b"", b"\xc3", b"\xe0", b"\xed", b"\xf0\x9f", b"\xf4"):
        rules = vocabulary.gbnf(ANY_TEXT)
        assert all(rules.accept(token) for token in byte_tokens(vocabulary, begun))
        assert rules.can_stop is not bool(begun)
        assert not rules.complete
        for token in np.flatnonzero(rules.mask()):
            if token in vocabulary.end_tokens:
                assert not begun
            else:
                assert unfinished(begun + vocabulary.token_bytes(int(token))) is not None


@pytest.mark.parametrize(
    ("data", "rest"),
    [
        (b"a", b""),
        (b"\xc3", b"\xc3"),
        (b"\xc3\xa9", b""),
        (b"a\xf0\x9f", b"\xf0\x9f"),
        (b"\xc3a", None),
        (b"\xe0\x9f", None),
        (b"\xed\x9f", b"\xed\x9f"),
        (b"\xed\xa0", None),
    ],
)
def test_unfinished(data: bytes, rest: bytes | None) -> None:
    assert unfinished(data) == rest


def test_complete_and_can_stop_differ_where_more_may_follow(vocabulary: LlamaVocabulary) -> None:
    rules = vocabulary.gbnf('root ::= "a" "é"?')
    assert not rules.can_stop
    assert take(rules, vocabulary, "a")
    assert rules.can_stop
    assert not rules.complete
    assert take(rules, vocabulary, "é")
    assert rules.complete
    assert rules.forced() == []


def test_a_grammar_is_bound_any_number_of_times(vocabulary: LlamaVocabulary) -> None:
    for number in range(30):  # more than are kept
        grammar = f'root ::= "{number}"'
        first, second = vocabulary.gbnf(grammar), vocabulary.gbnf(grammar)
        assert take(first, vocabulary, str(number))
        assert not second.complete
        assert take(second, vocabulary, str(number))
        assert first.complete
        assert second.complete


def test_two_thousand_repetitions_are_quick_enough(vocabulary: LlamaVocabulary) -> None:
    rules = vocabulary.gbnf(f"root ::= c{{0,1999}}\nc ::= [^a] | {json.dumps('a')}")
    assert take(rules, vocabulary, "x" * 1999)
    assert rules.complete


def test_after_the_engine_is_closed(tiny_gguf: Callable[..., Path]) -> None:
    engine = LlamaEngine(tiny_gguf(), LlamaOptions(n_ctx=256, threads=1))
    vocabulary = engine.vocabulary
    rules, unused = vocabulary.gbnf(ANY_TEXT), vocabulary.gbnf(ANY_TEXT)
    token = vocabulary.tokenize("a")[0]
    engine.close()
    with pytest.raises(ModelError, match="closed"):
        rules.accept(token)
    with pytest.raises(ModelError, match="closed"):
        rules.mask()
    with pytest.raises(ModelError, match="closed"):
        _ = rules.can_stop
    with pytest.raises(ModelError, match="closed"):
        _ = rules.complete
    with pytest.raises(ModelError, match="closed"):
        vocabulary.gbnf(ANY_TEXT)
    with pytest.raises(ModelError, match="closed"):
        vocabulary.gbnf('root ::= "new"')
    del rules, unused, vocabulary, engine
    gc.collect()  # samplers are freed after their model: nothing happens
