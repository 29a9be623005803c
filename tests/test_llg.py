"""The llguidance matcher: forced, accept, mask, complete; and a tokenizer built once a vocabulary."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.engine.scripted import BYTES, ByteVocabulary
from localmem.errors import GrammarError
from localmem.grammar.compile import compile_grammar
from localmem.grammar.llg import LLGuidanceGrammar
from localmem.grammar.schema import arguments, call_schema, text
from localmem.grammar.shortest import dump
from localmem.grammar.sources import Cfg, Choice, Json, Regex

SCHEMA = call_schema({"send_message": [arguments({"message": text(20)})]}, longest_thought=20)


@pytest.fixture(scope="module")
def engine(tiny_model_path: Path) -> Iterator[LlamaEngine]:
    engine = LlamaEngine(tiny_model_path, LlamaOptions(n_ctx=512, threads=1))
    yield engine
    engine.close()


def test_forced_tokens_are_told_and_not_taken(engine: LlamaEngine) -> None:
    vocabulary = engine.vocabulary
    matcher = compile_grammar(SCHEMA).bind(vocabulary)
    forced = matcher.forced()
    assert forced == matcher.forced()
    assert '{"thought": "'.startswith(vocabulary.detokenize(forced))
    assert len(forced) >= 2
    assert all(matcher.accept(token) for token in forced)


def test_a_refused_token_changes_nothing() -> None:
    matcher = compile_grammar({"const": "ab"}).bind(BYTES)
    assert [matcher.accept(b) for b in b'x"xab"'] == [False, True, False, True, True, True]
    assert matcher.complete
    assert matcher.can_stop
    assert not matcher.accept(ord("x"))


def test_complete_and_can_stop_differ_where_more_may_follow() -> None:
    matcher = compile_grammar({"type": "integer"}).bind(BYTES)
    assert not matcher.can_stop
    assert matcher.accept(ord("1"))
    assert matcher.can_stop
    assert not matcher.complete


def test_the_mask_is_what_accept_takes() -> None:
    for begun in (b"", b'{"thought": "', b'{"thought": "a\\', b'{"thought": "\xc3', b'{"thought": "", "function"'):
        matcher = compile_grammar(SCHEMA).bind(BYTES)
        assert all(matcher.accept(b) for b in begun)
        mask = matcher.mask()
        assert mask.shape == (BYTES.size,)
        assert mask.dtype == np.bool_
        for token in range(256):
            fresh = compile_grammar(SCHEMA).bind(BYTES)
            assert all(fresh.accept(b) for b in begun)
            assert fresh.accept(token) == mask[token], (begun, token)
        assert not mask[256:].any()


def test_no_control_token_is_ever_allowed_inside_a_document(engine: LlamaEngine) -> None:
    vocabulary = engine.vocabulary
    matcher = compile_grammar(SCHEMA).bind(vocabulary)
    for token in vocabulary.tokenize('{"thought": "a'):
        assert matcher.accept(token)
        assert not matcher.mask()[sorted(vocabulary.control_tokens)].any()
    assert not any(matcher.accept(t) for t in vocabulary.control_tokens)


def test_a_grammar_is_bound_any_number_of_times() -> None:
    grammar = compile_grammar(SCHEMA)
    first, second = grammar.bind(BYTES), grammar.bind(BYTES)
    assert first.accept(ord("{"))
    assert not second.accept(ord('"'))
    assert second.accept(ord("{"))
    assert first.end('{"thought": "x') == second.end('{"thought": "x')
    assert first.end_bound is not None
    whole = first.end("")
    assert whole is not None
    assert list(json.loads(str(whole.pieces[0]))) == ["thought", "function", "arguments"]


def test_a_vocabulary_is_let_go_with_its_tokenizer() -> None:
    vocabulary = ByteVocabulary()
    matcher = compile_grammar({"const": 1}).bind(vocabulary)
    assert matcher.forced() == [ord("1")]
    gone = weakref.ref(vocabulary)
    del vocabulary, matcher
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("source", "accepted", "refused"),
    [
        (Regex("[0-9]{3}-[a-f]+"), ["123-a", "000-fade"], ["12-a", "123-", "123-a ", "123-g"]),
        (Regex("^(yes|no)$"), ["yes", "no"], ["y", "yesno"]),
        (Regex("a/b\\.c"), ["a/b.c"], ["a/bxc"]),
        (
            Choice(("a.b", 'quo"te', "back\\slash", "new\nline", "ünï😀", "two words")),
            ['quo"te', "ünï😀"],
            ["axb", "two"],
        ),
        (Cfg('start: "(" start? ")"'), ["()", "((()))"], ["(()", ")("]),
    ],
)
def test_free_forms(source: Regex | Choice | Cfg, accepted: list[str], refused: list[str]) -> None:
    grammar = LLGuidanceGrammar(source)

    def takes(text: str) -> bool:
        matcher = grammar.bind(BYTES)
        return all(map(matcher.accept, text.encode())) and matcher.can_stop

    assert all(map(takes, accepted))
    assert not any(map(takes, refused))
    if isinstance(source, Choice):
        assert all(map(takes, source.texts))


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (Regex("("), "unclosed"),
        (Regex("a(?=b)"), "look-around"),
        (Regex("(a)\\1"), "backreference"),
        (Regex("\\bword"), "lookaround"),
        (Cfg("start: nothing"), "nothing"),
        (Cfg('root: "a"'), "start"),
    ],
)
def test_free_forms_that_cannot_be_enforced(source: Regex | Cfg, named: str) -> None:
    with pytest.raises(GrammarError, match=named) as caught:
        LLGuidanceGrammar(source)
    assert "\n" not in str(caught.value)


def test_a_plain_string_has_one_spelling() -> None:
    written = json.dumps({"content": 'a\n"b"\\'})
    for plain, other in ((False, True), (True, False)):
        grammar = LLGuidanceGrammar(Json(arguments({"content": text(20)}), plain=plain))
        assert _takes(grammar, written)
        assert _takes(grammar, written.replace("\\n", "\\u000a")) is other


@pytest.mark.parametrize("value", ["a\tb", "\x01", "\x7f", "\u2028", "/", "\b\f\r", "é😀", "a\nb", '"\\'])
def test_a_constant_can_always_be_written(value: str) -> None:
    """A line of core memory may hold anything."""
    grammar = LLGuidanceGrammar(Json(arguments({"old": {"enum": [value, "z"]}, "new": text(5)}), plain=True))
    end = grammar.bind(BYTES).end(f'{{"old": {dump(value)[:-1]}')
    assert end is not None
    document = f'{{"old": {dump(value)[:-1]}{end.pieces[0]}'
    assert _takes(grammar, document)
    assert json.loads(document)["old"] == value


def _takes(grammar: LLGuidanceGrammar, document: str) -> bool:
    matcher = grammar.bind(BYTES)
    return all(map(matcher.accept, document.encode())) and matcher.complete


def test_a_copy_knows_nothing_of_what_another_generation_wrote() -> None:
    grammar = LLGuidanceGrammar(Json({"type": "array", "items": {"type": "integer"}}))
    first = grammar.bind(BYTES)
    assert all(map(first.accept, b"[1, 2"))
    second = grammar.bind(BYTES)
    assert second.forced() == [ord("[")]
    assert all(map(first.accept, b"]"))
    assert first.complete
    assert not second.complete
