"""Ends of unfinished documents: legal, shortest, and never missing for a function call."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localmem.engine.scripted import BYTES, ScriptedEngine
from localmem.errors import GrammarError
from localmem.grammar.closing import Closing
from localmem.grammar.compile import compile_grammar
from localmem.grammar.format_ends import PATTERNS
from localmem.grammar.schema import arguments, bounded, call_schema, one_of, text
from localmem.protocols import End

_CLOSED = {"additionalProperties": False}
_PAIR = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]}
_TREE: dict[str, Any] = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"const": 1}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["v", "next"],
            **_CLOSED,
        }
    },
    "$ref": "#/$defs/node",
}


def _text(end: End) -> str:
    return "".join(map(str, end.pieces))


@pytest.mark.parametrize(
    ("schema", "begun", "end", "cut"),
    [
        ({"type": "string"}, "", '""', ("$",)),
        ({"type": "string"}, '"ab', '"', ("$",)),
        ({"type": "string"}, '"ab"', "", ()),
        ({"type": "string"}, '"ab\\', 'n"', ("$",)),
        ({"type": "string"}, '"ab\\u00', '0a"', ("$",)),
        ({"type": "string"}, '"ab\\u001', '0"', ("$",)),
        ({"type": "string", "minLength": 3}, '"a\\n', '."', ("$",)),
        ({"type": "integer"}, "", "0", ("$",)),
        ({"type": "integer"}, "-", "0", ("$",)),
        ({"type": "integer"}, "12", "", ("$",)),
        ({"type": "integer", "minimum": 5, "maximum": 80}, "", "5", ("$",)),
        ({"type": "integer", "minimum": 10, "maximum": 80}, "", "10", ("$",)),
        ({"type": "integer", "minimum": 15, "maximum": 80}, "1", "5", ("$",)),
        ({"type": "integer", "minimum": 120, "maximum": 800}, "1", "20", ("$",)),
        ({"type": "integer", "minimum": -80, "maximum": -20}, "-", "80", ("$",)),
        ({"type": "number"}, "1.", "0", ("$",)),
        ({"type": "number"}, "1e", "0", ("$",)),
        ({"type": "number", "minimum": 0.25, "maximum": 0.5}, "0", ".3", ("$",)),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.02}, "", ".01", None),
        ({"type": "boolean"}, "f", "alse", ("$",)),
        ({"enum": ["long", "longer", 7]}, "", "7", ("$",)),
        ({"enum": ["long", "longer"]}, '"lo', 'ng"', ("$",)),
        ({"enum": ["long", "longer"]}, '"longe', 'r"', ("$",)),
        ({"const": "x"}, "", '"x"', ()),
        ({"anyOf": [{"type": "string", "maxLength": 0}, {"type": "string", "minLength": 2}]}, '"P', '."', ("$",)),
        ({"enum": ["a\nb", "c"]}, '"a\\u00', '0ab"', ("$",)),
        ({"enum": ["a\nb", "c"]}, '"a\\', 'nb"', ("$",)),
        ({"enum": ["\x01\x7f", "c"]}, '"\\u0001', '\\u007f"', ("$",)),
        ({"enum": ["\x1f!", "c"]}, '"\\u001F', '!"', ("$",)),
        ({"type": ["string", "null"]}, "", '""', ("$",)),
        ({"type": ["string", "null"]}, "n", "ull", ()),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, "[", "0, 0]", ("$[0]", "$[1]")),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, "[7, ", "0]", ("$[1]",)),
        ({"type": "array", "items": {"type": "integer"}}, "[7, ", "0]", ("$[1]",)),
        ({"type": "array", "items": {"const": 1}}, "[1", "]", ()),
        ({**_PAIR, **_CLOSED}, "{", '"a": 0}', ("$.a",)),
        ({**_PAIR, **_CLOSED}, '{"a": 1', "}", ("$.a",)),
        ({**_PAIR, **_CLOSED}, '{"a": 1, ', '"b": ""}', ("$.b",)),
        (_PAIR, '{"a": 1, ', '"": 0}', None),
        (_PAIR, '{"a": 1, "c', '": 0}', None),
        (_PAIR, '{"a": 1, "c": {"x": [1, {', "}]}}", None),
        ({"type": "object"}, '{"x": tr', "ue}", None),
        (_TREE, '{"v": 1, "next": ', "null}", ()),
        (_TREE, '{"v": 1, "next": {', '"v": 1, "next": null}}', ()),
    ],
)
def test_ends(schema: dict[str, Any], begun: str, end: str, cut: tuple[str, ...] | None) -> None:
    found = Closing(schema).end(begun)
    assert found is not None
    if schema.get("exclusiveMaximum") == 0.02:
        assert 0 < json.loads(_text(found)) < 0.02
        return
    assert _text(found) == end
    if cut is not None:
        assert found.cut == cut


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^(?i:a)+$"},
        {"type": "string", "pattern": r"^\p{L}$"},
        {"type": "string", "format": "iri"},
        {"type": "array", "uniqueItems": True},
        {"type": "array", "contains": {"type": "null"}},
        {"not": {"type": "null"}, "type": "integer"},
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "https://example.com/schema.json"},
        {"type": "number", "multipleOf": 0},
        {"$defs": {"x": {"$ref": "#/$defs/x"}}, "$ref": "#/$defs/x"},
    ],
)
def test_a_keyword_that_is_not_understood_is_never_ignored(schema: dict[str, Any]) -> None:
    assert Closing(schema).end("") is None
    assert Closing(schema).bound() is None


def test_many_optional_keys_take_no_longer_than_few() -> None:
    schema = {"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(60)}, **_CLOSED}
    for begun, end in [("", "{}"), ("{", "}"), ('{"k3": "x"', "}"), ('{"k3": "x", ', '"k4": ""}')]:
        found = Closing(schema).end(begun)
        assert found is not None
        assert _text(found) == end
    many = {**schema, "required": []} | {"properties": {f"k{i}": {"anyOf": [schema] * 3} for i in range(20)}}
    assert Closing(many).end("") == End(("{}",))


# -- against the grammar itself: whatever llguidance lets a random writer begin, the plan ends

_texts = st.text('aé\n"\\😀', max_size=4)
_scalars: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(
        lambda a, b: {"type": "integer", "minimum": min(a, b), "maximum": max(a, b)}, *[st.integers(-999, 999)] * 2
    ),
    st.builds(lambda a, b: {"type": "number", "minimum": a, "maximum": a + b}, st.integers(-9, 9), st.integers(1, 50)),
    st.sampled_from(
        [{"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}, {"type": "string"}]
    ),
    st.builds(
        lambda a, b: {"type": "string", "minLength": a, "maxLength": a + b}, st.integers(0, 4), st.integers(0, 6)
    ),
    st.builds(lambda a, b: text(a + b, shortest=a), st.integers(0, 4), st.integers(1, 30)),
    st.lists(st.one_of(_texts, st.integers(-50, 50), st.none()), min_size=1, max_size=4, unique=True).map(
        lambda values: {"enum": values}
    ),
    _texts.map(lambda value: {"const": value}),
    st.just({"type": ["string", "integer"]}),
    st.builds(
        lambda step, kind, low: {"type": kind, "multipleOf": step, "minimum": low},
        st.sampled_from([1, 3, 7, 25]),
        st.sampled_from(["integer", "number"]),
        st.integers(-30, 30),
    ),
    st.sampled_from([{"type": "number", "multipleOf": step} for step in (0.5, 0.25, 2.5)]),
    st.builds(
        lambda pattern, more: {"type": "string", "pattern": pattern, **more},
        st.sampled_from(["^a+$", "b", "^[a-c]{2,4}$", "x$|^y", "^(?:[0-9]{2}-)*[0-9]$", "[^a-z]", '^\\s"é?$', "."]),
        st.sampled_from([{}, {}, {"maxLength": 9}]),
    ),
    st.sampled_from([{"type": "string", "format": name} for name in PATTERNS]),
    st.just({}),
    st.sampled_from([{"minimum": 3, "minLength": 2}, {"required": ["a"]}, {"items": [{"type": "null"}]}]),
)


def _objects(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    keys = st.dictionaries(st.sampled_from(["a", "b", "cd", "é", 'q"']), inner, max_size=4)
    return st.builds(
        lambda properties, chosen, extra: {
            "type": "object",
            "properties": properties,
            "required": [key for i, key in enumerate(properties) if chosen >> i & 1],
            **({} if extra else _CLOSED),
        },
        keys,
        st.integers(0, 15),
        st.booleans(),
    )


_schemas = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        _objects(inner),
        st.builds(
            lambda i, a, b: {"type": "array", "items": i, "minItems": a, "maxItems": a + b},
            inner,
            *[st.integers(0, 2)] * 2,
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
        st.builds(lambda a, b: {"allOf": [a, b]}, _objects(inner), _objects(inner)),
        st.builds(lambda a, b: {**a, "anyOf": [b, {}]}, _objects(inner), _objects(inner)),
        st.builds(lambda a, b: {"type": "object", "patternProperties": {"^a": a, "^[^a]": b}}, inner, inner),
        st.builds(
            lambda a, b: {"type": "object", "patternProperties": {"^a.$": a}, "additionalProperties": b}, *[inner] * 2
        ),
        st.builds(
            lambda a, b, n: {"type": "array", "prefixItems": [a], "items": b, "minItems": n},
            inner,
            inner,
            st.integers(0, 2),
        ),
        inner.map(
            lambda value: {"type": "object", "additionalProperties": value, "minProperties": 1, "maxProperties": 2}
        ),
    ),
    max_leaves=6,
)


def _fits(schema: dict[str, Any], document: str) -> bool:
    matcher = compile_grammar(schema).bind(BYTES)
    return all(matcher.accept(byte) for byte in document.encode()) and matcher.can_stop


def _prefixes(schema: dict[str, Any], seed: int) -> list[str]:
    """What a random legal writer had written after each character."""
    engine = ScriptedEngine(seed=seed)
    pieces: list[str] = []
    engine.generate("x", constraint=compile_grammar(schema), max_tokens=120, on_text=pieces.append)
    whole = "".join(pieces)
    return [whole[:n] for n in range(len(whole) + 1)]


@given(schema=_schemas, seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_whatever_was_begun_legally_has_a_legal_end_within_the_bound(schema: dict[str, Any], seed: int) -> None:
    closing = Closing(schema)
    bound = closing.bound()
    try:
        prefixes = _prefixes(schema, seed)
    except GrammarError:  # no document fits, or llguidance does not merge it
        return
    for begun in random.Random(seed).sample(prefixes, min(12, len(prefixes))):
        found = closing.end(begun)
        assert found is not None, begun
        assert _fits(schema, begun + _text(found)), (begun, found)
        jsonschema.Draft202012Validator(schema).validate(json.loads(begun + _text(found)))
        assert bound is None or len(_text(found).encode()) <= bound


def _shortest_by_force(schema: dict[str, Any], begun: str, most: int) -> int | None:
    """The least number of bytes that end `begun`, by trying every legal byte, up to `most`."""
    frontier = [begun.encode()]
    for length in range(most + 1):
        grown = []
        for document in frontier:
            matcher = compile_grammar(schema).bind(BYTES)
            assert all(matcher.accept(byte) for byte in document)
            if matcher.can_stop:
                return length
            classes: dict[int, int] = {}  # one byte of each sort: letters are as good as each other
            for byte in matcher.mask()[:128].nonzero()[0]:
                classes.setdefault(
                    ord("x") if 32 < byte < 127 and chr(byte).isalpha() and len(schema) > 9 else byte, byte
                )
            grown += [document + bytes([b]) for b in classes.values() if b in b'{}[]":, 0123456789.-alsetruniyxd\\']
        frontier = grown[:4000]
    return None


@pytest.mark.parametrize(
    ("schema", "begun"),
    [
        ({"type": "integer", "minimum": 15, "maximum": 80}, "1"),
        ({"type": "integer", "minimum": -3, "maximum": 120}, ""),
        ({"type": "number", "minimum": 0.25, "maximum": 0.5}, "0"),
        ({"enum": ["al", "ale", 12]}, '"a'),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 1}, ""),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 3}, "[1,"),
        ({**_PAIR, **_CLOSED}, '{"a": 1'),
        ({"anyOf": [{"type": "null"}, {"const": "al"}, {"type": "integer", "minimum": 100}]}, ""),
    ],
)
def test_no_end_is_shorter(schema: dict[str, Any], begun: str) -> None:
    found = Closing(schema).end(begun)
    assert found is not None
    assert _shortest_by_force(schema, begun, len(_text(found))) == len(_text(found))


# -- function calls

_PARAMETERS = {"who": one_of(["Ada", "Bob"]), "n": bounded({"type": "integer"}), "x": bounded({"type": "number"})}
_CALLS = call_schema(
    {
        "send_message": [arguments({"message": text(200)})],
        "core_memory_append": [arguments({"block": {"const": b}, "content": text(80)}) for b in ("human", "persona")],
        "core_memory_replace": [
            arguments({"old_content": one_of(["a", 'b "c"\n']), "new_content": text(40, shortest=0)})
        ],
        "own": [
            arguments({**_PARAMETERS, "l": bounded({"type": "array", "items": {"type": "string"}})}, optional=["l"])
        ],
    },
    longest_thought=60,
)


@pytest.mark.parametrize("seed", range(12))
def test_a_function_call_always_has_an_end(seed: int) -> None:
    closing = Closing(_CALLS)
    bound = closing.bound()
    assert bound is not None
    for begun in _prefixes(_CALLS, seed):
        found = closing.end(begun)
        assert found is not None, begun
        call = json.loads(begun + _text(found))
        assert list(call) == ["thought", "function", "arguments"]
        assert len(_text(found).encode()) <= bound
    assert _fits(_CALLS, begun + _text(found))
