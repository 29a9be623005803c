"""What a schema may say on the llguidance backend: the rest is refused by name and path, before the first token."""

from __future__ import annotations

import time
from typing import Any

import pytest

from localmem.engine.scripted import BYTES
from localmem.errors import GrammarError
from localmem.grammar.compile import compile_grammar
from localmem.grammar.enforced import subschemas

STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "path", "named"),
    [
        ({"not": STRING}, "$.not", "not"),
        ({"type": "array", "contains": STRING}, "$.contains", "contains"),
        ({"type": "array", "uniqueItems": True}, "$.uniqueItems", "uniqueItems"),
        ({"properties": {"a": {"if": STRING, "then": {"minLength": 2}}}}, "$.properties.a.if", "if"),
        (
            {"items": {"anyOf": [STRING, {"dependentRequired": {"a": ["b"]}}]}},
            "$.items.anyOf[1].dependentRequired",
            "d",
        ),
        ({"$defs": {"x": {"propertyNames": STRING}}, "$ref": "#/$defs/x"}, "$.$defs.x.propertyNames", "propertyNames"),
        ({"properties": {"a": {"type": "string", "format": "colour"}}}, "$.properties.a.format", "colour"),
        ({"items": {"type": "string", "pattern": "(?=a)"}}, "$.items.pattern", "look-around"),
        (
            {"properties": {"a": {"oneOf": [STRING, {"type": "string", "maxLength": 3}]}}},
            "$.properties.a.oneOf",
            "oneOf",
        ),
        (
            {"additionalProperties": {"x-guidance": {"lenient": True}, "not": {}}},
            "$.additionalProperties",
            "x-guidance",
        ),
        ({"x-guidance": {"whitespace_flexible": True}, "type": "object"}, "$.x-guidance", "x-guidance"),
        ({"type": "object", "minProperties": 2}, "$.minProperties", "minProperties"),
        ({"items": {"additionalProperties": {}, "minProperties": 3}}, "$.items.minProperties", "minProperties"),
        ({"properties": {"a": {"const": "\x01"}}}, "$", "additionalProperties"),
        ({"$ref": "#/$defs/none"}, "$", "none"),
        ({"$ref": "https://example.com/schema.json"}, "$", "example.com"),
        ({"properties": {"a": 5}}, "$.properties.a", "5"),
        ({"type": "sting"}, "$", "sting"),
        ({"type": "object", "patternProperties": {"(": {}}}, "$", "unclosed"),
    ],
)
def test_refused(schema: dict[str, Any], path: str, named: str) -> None:
    with pytest.raises(GrammarError) as caught:
        compile_grammar(schema)
    assert caught.value.path.startswith(path)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "description": "not a keyword: not, if, contains", "examples": [{"not": 1}]},
        {"properties": {"not": STRING, "if": STRING, "uniqueItems": STRING}},
        {"enum": [{"not": 1}, {"contains": 2}]},
        {"const": {"x-guidance": {"lenient": True}}},
        {"type": "string", "x-order": 3, "markdownDescription": "y"},
    ],
)
def test_what_only_looks_like_a_keyword_is_none(schema: dict[str, Any]) -> None:
    compile_grammar(schema)


@pytest.mark.parametrize(
    ("schema", "document", "fits"),
    [
        ({"items": [STRING], "additionalItems": False}, '["a", "b"]', False),
        ({"items": [STRING], "additionalItems": False}, '["a"]', True),
        ({"items": [STRING], "additionalItems": {"type": "integer"}}, '["a", 1]', True),
        ({"items": [STRING], "additionalItems": {"type": "integer"}}, '["a", "b"]', False),
        ({"items": STRING, "additionalItems": False}, '["a", "b"]', True),
        ({"additionalItems": False}, "[1]", True),
    ],
)
@pytest.mark.parametrize("draft", [{}, {"$schema": "http://json-schema.org/draft-07/schema#"}])
def test_additional_items(schema: dict[str, Any], document: str, fits: bool, draft: dict[str, str]) -> None:
    """A keyword of older drafts, which are what most schemas say they are."""
    matcher = compile_grammar({**draft, "type": "array", **schema}).bind(BYTES)
    assert (all(map(matcher.accept, document.encode())) and matcher.can_stop) is fits


@pytest.mark.parametrize(
    ("schema", "document", "fits"),
    [
        ({"properties": {"a": {"type": "integer"}}}, '{"\\u0061": "x"}', False),
        ({"properties": {"a": {"type": "integer"}}}, '{"b": "x"}', True),
        ({"properties": {"é": {"type": "integer"}}}, '{"\\u00e9": "x"}', False),
        ({"patternProperties": {"^a": {"type": "integer"}}}, '{"\\u0061": "x"}', False),
        ({"properties": {"a\nb": {"type": "integer"}}}, '{"a\\u000ab": "x"}', False),
        ({"properties": {"a\nb": {"type": "integer"}}}, '{"a\\nb": 1}', True),
        ({"additionalProperties": {"type": "string"}}, '{"\\u0007": "\\u0001"}', True),
        ({"properties": {"a": STRING}, "additionalProperties": False}, '{"a": "\\u0001"}', True),
    ],
)
def test_a_key_has_one_spelling_where_others_may_stand_beside_it(
    schema: dict[str, Any], document: str, fits: bool
) -> None:
    matcher = compile_grammar({"type": "object", **schema}).bind(BYTES)
    assert (all(map(matcher.accept, document.encode())) and matcher.can_stop) is fits


def test_what_cannot_be_compiled_in_time_is_refused() -> None:
    product = {"allOf": [{"anyOf": [{"properties": {f"a{i}{j}": STRING}} for j in range(4)]} for i in range(9)]}
    started = time.perf_counter()
    with pytest.raises(GrammarError, match="too large"):
        compile_grammar(product)
    assert time.perf_counter() - started < 30
    deep: dict[str, Any] = STRING
    for _ in range(3000):
        deep = {"type": "array", "items": deep}
    with pytest.raises(GrammarError):
        compile_grammar(deep)


def test_subschemas_have_their_paths() -> None:
    schema = {"properties": {"a": {}}, "items": [{}, True], "anyOf": [{}], "$defs": {"x": {}}}
    assert {end for _, end in subschemas(schema)} == {
        ".properties.a", ".items[0]", ".items[1]", ".anyOf[0]", ".$defs.x",
    }  # fmt: skip


def _elsewhere(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` under a word that is no keyword of the standard."""
    return {"$ref": "#/components/schemas/a%20b", "components": {"schemas": {"a b": schema}}}


def test_what_a_reference_finds_elsewhere_is_a_schema_too() -> None:
    for refused in ({"type": "object", "minProperties": 2}, {"uniqueItems": True}):
        with pytest.raises(GrammarError) as caught:
            compile_grammar(_elsewhere(refused))
        assert caught.value.path.startswith("$.components.schemas.a b.")
    for schema, document in (
        ({"type": "string", "format": "date"}, '"2023-02-29"'),
        ({"properties": {"a": {"type": "integer"}}}, '{"\\u0061": "x"}'),
    ):
        matcher = compile_grammar(_elsewhere(schema)).bind(BYTES)
        assert not all(map(matcher.accept, document.encode()))


def test_a_schema_that_contains_itself_is_refused() -> None:
    endless: dict[str, Any] = {"type": "array"}
    endless["items"] = endless
    with pytest.raises(GrammarError):
        compile_grammar(endless)
