"""The outlines backend: what it lets through, its caps, and whole generations on a real tokenizer."""

from __future__ import annotations

import gc
import json
import re
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jsonschema
import numpy as np
import pytest
from outlines import types as outlines_types
from pydantic import BaseModel, Field

import localmem.grammar.building as building
import localmem.grammar.outlines as backend
from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.engine.scripted import BYTES, ByteVocabulary
from localmem.errors import GrammarError
from localmem.grammar.compile import compile_grammar
from localmem.grammar.json_rules import json_rules
from localmem.grammar.regex_rules import regex_of, states
from localmem.grammar.schema import arguments, call_schema, text
from localmem.grammar.sources import Choice, Regex
from localmem.protocols import Vocabulary

CALL = call_schema(
    {
        "send_message": [arguments({"message": text(30)})],
        "search": [arguments({"query": text(20), "page": {"type": "integer", "minimum": 0, "maximum": 40}})],
    },
    longest_thought=30,
)


class Pet(BaseModel):
    name: str = Field(max_length=10)
    kind: Literal["cat", "dog"]
    age: int = Field(ge=0, le=40)


@pytest.fixture(scope="module")
def engine(tiny_model_path: Path) -> Iterator[LlamaEngine]:
    engine = LlamaEngine(tiny_model_path, LlamaOptions(n_ctx=1024, threads=1))
    yield engine
    engine.close()


def accepts(given: Any, written: str, vocabulary: Vocabulary = BYTES, run_by: Any = "outlines") -> bool:
    matcher = compile_grammar(given, backend=run_by).bind(vocabulary)
    return all(matcher.accept(token) for token in vocabulary.tokenize(written)) and matcher.can_stop


# -- each keyword is enforced or refused

ENFORCED = [
    ({"type": "integer", "minimum": 3}, "3", "2"),
    ({"type": "integer", "maximum": 3}, "-7", "4"),
    ({"type": "integer", "exclusiveMinimum": 3}, "4", "3"),
    ({"type": "integer", "exclusiveMaximum": 3}, "2", "3"),
    ({"type": "number", "minimum": 0, "maximum": 1}, "0.5", "1.5"),
    ({"type": "string", "minLength": 2}, '"ab"', '"a"'),
    ({"type": "string", "maxLength": 2}, '"ab"', '"abc"'),
    ({"type": "array", "items": {"type": "null"}, "minItems": 2}, "[null, null]", "[null]"),
    ({"type": "array", "items": {"type": "null"}, "maxItems": 1}, "[]", "[null, null]"),
    ({"enum": ["a", 1]}, '"a"', '"b"'),
    ({"const": {"a": [1]}}, '{"a": [1]}', '{"a": [2]}'),
    ({"anyOf": [{"type": "null"}, {"const": 1}]}, "1", "2"),
    ({"oneOf": [{"type": "null"}, {"type": "boolean"}]}, "true", "1"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}, "null", "1"),
    (arguments({"a": {"type": "null"}}), '{"a": null}', "{}"),
    (arguments({"a": {"type": "null"}}, optional=["a"]), "{}", '{"b": null}'),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, '{"x": 1, "y": 2}', '{"x": "1"}'),
    ({"type": ["integer", "null"]}, "null", '"a"'),
    ({"type": "integer", "title": "T", "description": "D", "default": 3, "examples": [1]}, "4", "x"),
]
REFUSED = {
    "multipleOf": {"type": "integer", "multipleOf": 3},
    "uniqueItems": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    "contains": {"type": "array", "items": {"type": "integer"}, "contains": {"const": 1}},
    "minContains": {"type": "array", "items": {"type": "integer"}, "minContains": 1},
    "prefixItems": {"type": "array", "prefixItems": [{"type": "integer"}]},
    "unevaluatedItems": {"type": "array", "items": {"type": "integer"}, "unevaluatedItems": False},
    "minProperties": {"type": "object", "additionalProperties": {"type": "null"}, "minProperties": 1},
    "maxProperties": {"type": "object", "additionalProperties": {"type": "null"}, "maxProperties": 1},
    "propertyNames": {"type": "object", "additionalProperties": {"type": "null"}, "propertyNames": {"maxLength": 1}},
    "patternProperties": {"type": "object", "patternProperties": {"^a": {}}, "additionalProperties": False},
    "dependentRequired": {**arguments({"a": {"type": "null"}}), "dependentRequired": {"a": ["b"]}},
    "pattern": {"type": "string", "pattern": "^a+$"},
    "format": {"type": "string", "format": "date"},
    "not": {"not": {"type": "string"}},
    "if": {"type": "integer", "if": {"minimum": 3}, "then": {"maximum": 5}},
    "allOf": {"allOf": [{"type": "integer"}, {"minimum": 3}]},
}


@pytest.mark.parametrize(("schema", "right", "wrong"), ENFORCED)
def test_keywords_that_are_enforced(schema: dict[str, Any], right: str, wrong: str) -> None:
    assert accepts(schema, right)
    assert not accepts(schema, wrong)
    jsonschema.validate(json.loads(right), schema)


@pytest.mark.parametrize(("keyword", "schema"), REFUSED.items(), ids=list(REFUSED))
def test_keywords_that_are_refused(keyword: str, schema: dict[str, Any]) -> None:
    with pytest.raises(GrammarError, match=keyword):
        compile_grammar(schema, backend="outlines")


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "null"}}},
        {"type": "array", "items": {"$ref": "#"}},
    ],
)
def test_what_nests_without_end_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(GrammarError, match="use backend llguidance or gbnf"):
        compile_grammar(schema, backend="outlines")


# -- caps


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "maxLength": 2000},
        {"type": "array", "items": {"type": "string", "maxLength": 100}, "maxItems": 50},
        {"type": "array", "items": {"type": "null"}, "minItems": 10_000},
    ],
)
def test_a_schema_too_large_is_refused_at_once(schema: dict[str, Any]) -> None:
    begun = time.monotonic()
    with pytest.raises(GrammarError, match=r"states, and backend outlines takes 4,096; .* backend llguidance"):
        compile_grammar(schema, backend="outlines")
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("pattern", ["(a|b)*a(a|b){24}", "((a{1,99}){1,99}){1,99}"])
def test_an_expression_too_large_is_given_up(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "MOST_SECONDS", 1)
    with pytest.raises(GrammarError, match=r"more than 1 s to compile this; .* backend llguidance"):
        compile_grammar(Regex(pattern), backend="outlines").bind(BYTES)


def test_nobody_waits_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "MOST_WAIT", 0.5)
    begun = time.monotonic()
    with pytest.raises(GrammarError, match=r"more than 0.5 s to compile this"):
        compile_grammar(Regex("(a|b)*a(a|b){24}"), backend="outlines").bind(BYTES)
    assert time.monotonic() - begun < 5


def test_memory_is_capped(monkeypatch: pytest.MonkeyPatch, engine: LlamaEngine) -> None:
    monkeypatch.setattr(building, "MOST_BYTES", 200 << 20)
    with pytest.raises(GrammarError, match=r"of memory to compile this"):
        compile_grammar(Regex("[^x]{0,300}"), backend="outlines").bind(engine.vocabulary)


def test_what_else_goes_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_BUILD", "raise RuntimeError('broken')")
    with pytest.raises(GrammarError, match=r"outlines_core failed .RuntimeError: broken"):
        compile_grammar(Regex("abc"), backend="outlines").bind(ByteVocabulary())


def test_the_largest_schema_compiles_in_time(engine: LlamaEngine) -> None:
    schema = {"type": "string", "maxLength": 180}
    assert states(json_rules(schema)) > 0.9 * backend.MOST_STATES
    assert compile_grammar(schema, backend="outlines").bind(engine.vocabulary).mask().any()


def test_an_automaton_is_built_once_for_an_expression_and_a_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = ByteVocabulary()
    built: list[str] = []
    build = building.build
    monkeypatch.setattr(backend, "build", lambda regex, tokens: (built.append(regex), build(regex, tokens))[1])
    for _ in range(3):
        assert accepts({"const": 1}, "1", vocabulary)
    assert len(built) == 1
    assert accepts({"const": 2}, "2", vocabulary)
    assert len(built) == 2
    monkeypatch.setattr(backend, "KEPT_BYTES", 0)
    assert accepts({"const": 3}, "3", vocabulary)
    assert accepts({"const": 2}, "2", vocabulary)
    assert len(built) == 4


def test_a_vocabulary_is_let_go_with_its_automata() -> None:
    vocabulary = ByteVocabulary()
    matcher = compile_grammar({"const": 1}, backend="outlines").bind(vocabulary)
    assert matcher.forced() == [ord("1")]
    gone = weakref.ref(vocabulary)
    del vocabulary, matcher
    gc.collect()
    assert gone() is None


# -- the matcher


def test_a_refused_token_changes_nothing() -> None:
    matcher = compile_grammar({"const": "ab"}, backend="outlines").bind(BYTES)
    assert [matcher.accept(b) for b in b'x"xab"'] == [False, True, False, True, True, True]
    assert matcher.complete
    assert matcher.can_stop
    assert matcher.forced() == []
    assert not matcher.accept(ord("x"))


def test_complete_and_can_stop_differ_where_more_may_follow() -> None:
    matcher = compile_grammar(Regex("ab?"), backend="outlines").bind(BYTES)
    assert not matcher.can_stop
    assert matcher.forced() == [ord("a")]
    assert matcher.accept(ord("a"))
    assert (matcher.can_stop, matcher.complete, matcher.forced()) == (True, False, [])
    assert matcher.accept(ord("b"))
    assert (matcher.can_stop, matcher.complete, matcher.forced()) == (True, True, [])


def test_an_end_token_is_taken_where_the_text_may_stop() -> None:
    for end in BYTES.end_tokens:
        matcher = compile_grammar(Regex("ab?"), backend="outlines").bind(BYTES)
        assert not matcher.mask()[end]
        assert not matcher.accept(end)
        assert matcher.accept(ord("a"))
        assert matcher.mask()[end]
        assert matcher.accept(end)
        assert matcher.complete
        assert not matcher.accept(ord("b"))


def test_what_must_come_is_forced_as_the_vocabulary_cuts_it(engine: LlamaEngine) -> None:
    vocabulary = engine.vocabulary
    matcher = compile_grammar(CALL, backend="outlines").bind(vocabulary)
    whole = vocabulary.tokenize('{"thought": "')
    assert matcher.forced() == whole[:-1]  # the last could be a part of a longer token
    assert len(whole) > 3
    assert all(matcher.accept(token) for token in (*matcher.forced(), whole[-1]))
    assert matcher.forced() == []
    choice = compile_grammar(Choice(("yes, I do", "no, I do not: é🙂")), backend="outlines").bind(vocabulary)
    assert choice.forced() == []
    assert choice.accept(vocabulary.tokenize("no")[0])
    rest = choice.forced()
    assert vocabulary.detokenize(rest) == ", I do not: é🙂"
    assert all(choice.accept(token) for token in rest)
    assert choice.complete


@pytest.mark.parametrize("begun", range(9))
def test_what_is_forced_can_be_taken_from_any_byte_on(begun: int) -> None:
    """Also in the middle of a character."""
    text = "🙂🙂x".encode()
    matcher = compile_grammar(Choice(("🙂🙂x", "🙃y")), backend="outlines").bind(BYTES)
    assert all(matcher.accept(byte) for byte in text[:begun])
    forced = matcher.forced()
    assert bytes(forced) == text[begun:][: len(forced)]
    assert all(matcher.accept(token) for token in forced)
    assert matcher.complete == (begun in (4, 8) or (begun == 0 and len(forced) == 9))


@pytest.mark.parametrize("begun", ["", '{"thought": "', '{"thought": "é', '{"thought": "a", "function": "se'])
def test_the_mask_is_what_accept_takes(begun: str, engine: LlamaEngine) -> None:
    vocabulary = engine.vocabulary
    grammar = compile_grammar(CALL, backend="outlines")
    tokens = vocabulary.tokenize(begun)

    def matcher() -> Any:
        fresh = grammar.bind(vocabulary)
        assert all(fresh.accept(token) for token in tokens)
        return fresh

    mask = matcher().mask()
    assert mask.shape == (vocabulary.size,)
    assert mask.dtype == np.bool_
    assert not mask[sorted(vocabulary.control_tokens)].any()
    for token in range(0, vocabulary.size, 7):
        assert matcher().accept(token) == mask[token], (begun, vocabulary.token_bytes(token))


# -- real tokens

WALKS: list[tuple[Any, str]] = [
    (Regex("[0-9]{4}-[01][0-9]-[0-3][0-9](T[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})?)?"), ""),
    (Regex(r"[A-Z][a-zé]{0,12}( [A-Z]\.)? (Meier|Müller|Mayer)"), ""),
    (Regex("(yes|yes, but|no|(?:na )*)[.!?]?"), ""),
    (Regex("[^a-z ]{1,6}"), ""),
    (outlines_types.ipv4, ""),
    (outlines_types.email, ""),
    (Choice(("yes", "yes, please", "no", "né", "🙂")), "yes|yes, please|no|né|🙂"),
    (CALL, "schema"),
    (Pet, "schema"),
]


@pytest.mark.parametrize(("given", "pattern"), WALKS)
def test_random_walks_end_in_texts_that_fit(given: Any, pattern: str, engine: LlamaEngine) -> None:
    vocabulary = engine.vocabulary
    rng = np.random.default_rng(0)
    grammar = compile_grammar(given, backend="outlines")
    if pattern == "schema":
        schema = given if isinstance(given, dict) else given.model_json_schema()
        rules = json_rules({**schema, "additionalProperties": False} if given is Pet else schema)
        pattern = regex_of(rules, most_states=10**6)
    for _ in range(30):
        matcher, tokens = grammar.bind(vocabulary), list[int]()
        while not matcher.complete and len(tokens) < 400:
            token = int(rng.choice(np.flatnonzero(matcher.mask())))
            assert matcher.accept(token)
            if token in vocabulary.end_tokens:
                break
            tokens.append(token)
        written = vocabulary.detokenize(tokens)
        if len(tokens) < 400:
            assert re.fullmatch(pattern or given.pattern, written), written
            assert written.encode() == b"".join(map(vocabulary.token_bytes, tokens))


DOCUMENTS = [
    '{"thought": "", "function": "send_message", "arguments": {"message": "a"}}',
    '{"thought": "é\\n\\"\\\\", "function": "search", "arguments": {"query": "😀", "page": 40}}',
    '{"thought": "a", "function": "search", "arguments": {"query": "q", "page": 41}}',
    '{"thought": "a", "function": "search", "arguments": {"query": "", "page": 1}}',
    '{"thought": "a", "function": "search", "arguments": {"page": 1, "query": "q"}}',
    '{"thought": "a", "function": "send_message", "arguments": {"message": "a"} }',
    '{"thought":"a", "function": "send_message", "arguments": {"message": "a"}}',
    '{"thought": "a", "function": "send", "arguments": {"message": "a"}}',
    '{"thought": "\t", "function": "send_message", "arguments": {"message": "a"}}',
    f'{{"thought": "{"x" * 30}", "function": "send_message", "arguments": {{"message": "a"}}}}',
    f'{{"thought": "{"x" * 31}", "function": "send_message", "arguments": {{"message": "a"}}}}',
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_verdict_is_that_of_llguidance(document: str, engine: LlamaEngine) -> None:
    for vocabulary in (BYTES, engine.vocabulary):
        verdicts = {run_by: accepts(CALL, document, vocabulary, run_by) for run_by in ("outlines", "llguidance")}
        assert verdicts["outlines"] == verdicts["llguidance"]
    try:
        jsonschema.validate(json.loads(document), CALL)
    except (ValueError, jsonschema.ValidationError):
        assert not verdicts["outlines"]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_random_model_writes_only_whole_documents_at_any_budget(engine: LlamaEngine, temperature: float) -> None:
    grammar = compile_grammar(CALL, backend="outlines")
    finishes = set()
    for seed, budget in enumerate([28, 30, 32, 34, 38, 45, 60, 140]):
        out = engine.generate(
            "Please write a call of a function.",
            constraint=grammar,
            max_tokens=budget,
            temperature=temperature,
            seed=seed,
        )
        assert len(out.tokens) <= budget
        jsonschema.validate(json.loads(out.text), CALL)
        assert accepts(CALL, out.text, engine.vocabulary, "llguidance")
        assert out.finish in ("stop", "closed")
        assert out.reused_tokens > 0 or seed == 0
        assert not {*out.tokens} & engine.vocabulary.control_tokens
        finishes.add(out.finish)
    assert "closed" in finishes


def test_a_document_that_does_not_fit_the_budget_is_refused(engine: LlamaEngine) -> None:
    with pytest.raises(GrammarError, match="max_tokens"):
        engine.generate("x", constraint=compile_grammar(CALL, backend="outlines"), max_tokens=5)


def test_choices_and_types_are_whole_and_an_expression_is_not_presented_as_such(engine: LlamaEngine) -> None:
    for seed in range(4):
        choice = compile_grammar(Choice(("definitely", "certainly not")), backend="outlines")
        out = engine.generate("x", constraint=choice, max_tokens=5, temperature=1.5, seed=seed)
        assert out.text in ("definitely", "certainly not")
        out = engine.generate(
            "x", constraint=compile_grammar(Pet, backend="outlines"), max_tokens=40, temperature=1.5, seed=seed
        )
        Pet.model_validate_json(out.text)
    out = engine.generate("x", constraint=compile_grammar(Regex("[a-z ]{200}"), backend="outlines"), max_tokens=9)
    assert out.finish == "length"
