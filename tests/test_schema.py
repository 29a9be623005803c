"""The bounds that function schemas get, and that a user's own schema does not."""

from __future__ import annotations

from typing import Any

import pytest

from localmem.engine.scripted import BYTES
from localmem.grammar.compile import compile_grammar
from localmem.grammar.schema import MAX_ITEMS, MAX_NUMBER, arguments, bounded, call_schema, one_of, quoting, text


def allows(schema: Any, document: str) -> bool:
    matcher = compile_grammar(schema).bind(BYTES)
    return all(matcher.accept(byte) for byte in document.encode()) and matcher.can_stop


@pytest.mark.parametrize(
    ("document", "legal"),
    [
        ('"a"', True),
        ('""', False),
        ('"abcde"', True),
        ('"abcdef"', False),
        ('"é😀"', True),
        ('"a\\nb"', True),
        ('"\\"\\\\"', True),
        ('"a\nb"', False),
        ('"\x01"', False),
        ('"\x7f"', False),
        ('"\x85"', False),
        ('"\\t"', False),
        ('"\\u0041"', False),
        ('"\\u0000"', False),
        ('"\\u001b"', False),
        ('"\\ud83d\\ude00"', False),
    ],
)
def test_text(document: str, legal: bool) -> None:
    assert allows(text(5), document) is legal


def test_a_users_schema_means_exactly_what_it_says() -> None:
    assert allows({"type": "string"}, '"' + "x" * 3000 + '"')
    assert allows({"type": "string"}, '"\\t"')
    assert allows({"type": "integer"}, "9" * 30)
    assert not allows({"type": "string"}, '"\t"')


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, {**text(2000, shortest=0)}),
        ({"type": "string", "maxLength": 5, "minLength": 2}, text(5, shortest=2)),
        ({"type": "integer"}, {"type": "integer", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER}),
        ({"type": "number", "maximum": 3}, {"type": "number", "minimum": -MAX_NUMBER, "maximum": 3}),
        ({"type": "boolean"}, {"type": "boolean"}),
        ({"enum": ["a"]}, {"enum": ["a"]}),
        (
            {"type": "array", "items": {"type": "string"}},
            {"type": "array", "items": text(2000, shortest=0), "maxItems": MAX_ITEMS},
        ),
        (
            {"anyOf": [{"type": "null"}, {"type": "integer"}]},
            {"anyOf": [{"type": "null"}, bounded({"type": "integer"})]},
        ),
        (
            {"type": "object", "properties": {"a": {"type": "integer"}}},
            {"type": "object", "properties": {"a": bounded({"type": "integer"})}},
        ),
    ],
)
def test_bounded(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert bounded(schema) == expected


def test_calls_are_thought_first_and_names_go_with_their_arguments() -> None:
    schema = call_schema(
        {"a": [arguments({"x": one_of([1])})], "b": [arguments({"y": one_of(["p", "q"])}, optional=["y"])]},
        longest_thought=4,
    )
    assert allows(schema, '{"thought": "", "function": "a", "arguments": {"x": 1}}')
    assert allows(schema, '{"thought": "hm", "function": "b", "arguments": {"y": "q"}}')
    assert allows(schema, '{"thought": "hm", "function": "b", "arguments": {}}')
    for wrong in (
        '{"function": "a", "thought": "", "arguments": {"x": 1}}',
        '{"thought": "", "function": "a", "arguments": {"y": "p"}}',
        '{"thought": "", "function": "a", "arguments": {}}',
        '{"thought": "", "function": "c", "arguments": {}}',
        '{"thought": "too long", "function": "b", "arguments": {}}',
        '{"thought":"","function":"b","arguments":{}}',
        '{ "thought": "", "function": "b", "arguments": {}}',
        '{"thought": "", "function": "b", "arguments": {}, "more": 1}',
    ):
        assert not allows(schema, wrong), wrong


TEXTS = ["Ada", "the blue lamp", ""]


@pytest.mark.parametrize(
    ("schema", "document", "legal"),
    [
        ({"type": "string"}, '"the blue lamp"', True),
        ({"type": "string"}, '"lamp"', False),
        ({"type": "string"}, '""', True),
        ({"type": "string", "minLength": 1}, '""', False),
        ({"type": "string", "maxLength": 2}, '"an"', True),  # no text fits: as before
        ({"enum": ["on", "off"]}, '"on"', True),
        ({"enum": ["on", "off"]}, '"Ada"', False),
        ({"type": "string", "pattern": "^[0-9]+$"}, '"17"', True),
        ({"type": "integer"}, "17", True),
        ({"type": "array", "items": {"type": "string"}}, '["Ada", "the blue lamp"]', True),
        ({"type": "array", "items": {"type": "string"}}, '["Bob"]', False),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "null", True),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, '"Bob"', False),
    ],
)
def test_quoted_strings_are_some_of_the_texts(schema: Any, document: str, legal: bool) -> None:
    texts = ["three"] if "maxLength" in schema else TEXTS
    assert allows(quoting(bounded(schema), texts), document) is legal


def test_without_texts_nothing_is_quoted() -> None:
    assert quoting(bounded({"type": "string"}), []) == bounded({"type": "string"})
