"""Schemas brought to forms: keywords side by side mean what llguidance and the standard make of them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from localmem.engine.scripted import BYTES, ScriptedEngine
from localmem.grammar.closing import Closing
from localmem.grammar.compile import compile_grammar
from localmem.grammar.merging import Forms
from localmem.grammar.pattern_ends import NoPlan

_DEFS = {"$defs": {"n": {"minimum": 3}, "o": {"properties": {"z": {"type": "null"}}, "required": ["z"]}}}
_A = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "begun", "end"),
    [
        ({"$ref": "#/$defs/n", "type": "integer", **_DEFS}, "", "3"),
        ({"$ref": "#/$defs/o", **_A, **_DEFS}, "{", '"z": null}'),
        ({"$ref": "#/$defs/o", **_A, **_DEFS}, '{"', 'z": null}'),
        ({**_A, "required": ["z"], "allOf": [{"properties": {"b": {"const": 1}}, "required": ["b"]}]}, '{"a": 1', None),
        ({**_A, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, "{", '"a": 0}'),
        ({"allOf": [_A, {"additionalProperties": False, "properties": {"a": {"minimum": 12}}}]}, '{"a": ', "12}"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}], "minLength": 3, "minimum": 10}, "", "10"),
        ({"type": ["string", "null"], "allOf": [{"minLength": 3}, {"maxLength": 4}]}, '"', '..."'),
        ({"enum": ["a", "bb", 7, None], "type": ["string", "null"], "minLength": 2}, "", '"bb"'),
        ({"enum": [[1], [1, 2], {"a": 1}], "minItems": 2, "required": ["b"]}, "", "[1, 2]"),
        ({"const": 3, "allOf": [{"multipleOf": 1.5}]}, "", "3"),
        ({"const": 1.0}, "", "1"),
        ({"const": 1e-7}, "", "0.0000001"),
        ({"enum": [1e30, -2.0]}, "-", "2"),
        ({"minimum": 5}, '"x', '"'),
        ({"required": ["a"]}, "{", '"a": 0}'),
        ({"type": "number", "minimum": 5, "exclusiveMinimum": True}, "5", None),
        ({"type": "integer", "multipleOf": 7, "minimum": 1}, "", "7"),
        ({"type": "integer", "multipleOf": 7}, "1", "4"),
        ({"type": "integer", "allOf": [{"multipleOf": 4}, {"multipleOf": 6}], "minimum": 1}, "", "12"),
        ({"type": "integer", "multipleOf": 25, "maximum": -1}, "-", "25"),
        ({"type": "number", "multipleOf": 0.25, "minimum": 0.1, "maximum": 0.4}, "", "0.25"),
        ({"type": "number", "multipleOf": 0.01}, "3.", "0"),
        ({"type": "array", "prefixItems": [{"const": "x"}, {"type": "null"}], "minItems": 2}, "[", '"x", null]'),
        ({"type": "array", "prefixItems": [{"const": "x"}], "items": {"const": 1}, "minItems": 2}, '["x"', ", 1]"),
        ({"type": "array", "items": [{"const": 1}], "additionalItems": False}, "[1", "]"),
        ({"allOf": [{"items": [{"const": 1}]}, {"items": {"type": "integer"}, "minItems": 2}]}, "[", "1, 0]"),
        ({"type": "object", "minProperties": 1}, "", '{"": 0}'),
        ({"type": "object", "maxProperties": 1}, '{"a": 1', "}"),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "minProperties": 1, "additionalProperties": False},
         "{", '"a": 0}'),
        ({"type": "object", "patternProperties": {"^a": {"type": "null"}}, "additionalProperties": False}, '{"', None),
        ({"type": "object", "patternProperties": {"^a": {"type": "null"}}, "minProperties": 1}, '{"', None),
        ({"type": "object", "patternProperties": {"^a": {"type": "null"}}}, '{"b', '": 0}'),
        ({"type": "object", "patternProperties": {"^a$": {"type": "null"}}}, '{"a', None),
        ({"type": "object", "required": ["ab"], "patternProperties": {"^a": {"type": "null"}}}, "{", '"ab": null}'),
        ({"type": "object", "properties": {"ab": {"type": "integer"}}, "patternProperties": {"^a": {"minimum": 5}}},
         '{"ab": ', "5}"),
        ({"type": "object", "properties": {"a": False, "ab": {"const": 1}}, "additionalProperties": False},
         '{"', 'ab": 1}'),
        ({"id": "x", "title": "t", "type": "null", "x-order": 3}, "", "null"),
    ],
)  # fmt: skip
def test_ends(schema: dict[str, Any], begun: str, end: str | None) -> None:
    found = Closing(schema).end(begun)
    assert found is not None
    document = begun + "".join(map(str, found.pieces))
    assert end is None or document == begun + end
    matcher = compile_grammar(schema).bind(BYTES)
    assert all(matcher.accept(byte) for byte in document.encode()), document
    assert matcher.can_stop
    old = "additionalItems" in str(schema) or "True" in str(schema) or "'items': [" in str(schema)
    validator = jsonschema.Draft4Validator if old else jsonschema.Draft202012Validator
    validator(schema).validate(json.loads(document))


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"$ref": "#/$defs/a/1", "$defs": {"a": [{"type": "null"}, {"type": "array"}]}}, "array"),
        ({"$ref": "#/$defs/a~1b%25", "$defs": {"a/b%": {"type": "array"}}}, "array"),
        ({"$ref": "#here", "$defs": {"a": {"$anchor": "here", "type": "array"}}}, "array"),
        ({"$id": "http://x/y", "$ref": "http://x/y#/$defs/a", "$defs": {"a": {"type": "array"}}}, "array"),
        ({"$ref": "#/$defs/in", "$defs": {"in": {"$id": "http://x/z", "$ref": "#/$defs/a",
          "$defs": {"a": {"type": "array"}}}, "a": {"type": "object"}}}, "array"),
    ],
)  # fmt: skip
def test_references_that_are_followed(schema: dict[str, Any], kind: str) -> None:
    assert Forms(schema).plain(schema)["type"] == kind


@pytest.mark.parametrize(
    "reference",
    ["#/$defs/a/2", "#/$defs/a/x", "#/$defs/b", "#nowhere", "other.json", "http://x/y#/a", 7, "#/$defs/a/0/type/x"],
)
def test_references_that_lead_nowhere_are_no_plan(reference: Any) -> None:
    schema = {"$ref": reference, "$defs": {"a": [{"type": "null"}]}}
    with pytest.raises(NoPlan):
        Forms(schema).plain(schema)
    assert Closing(schema).end("") is None


_REAL: list[dict[str, Any]] = [
    {"type": "string", "pattern": "^[a-z]{4,}-[0-9]+$"},
    {"type": "object", "properties": {"when": {"type": "string", "format": "date-time"}}, "required": ["when"]},
    {"type": "array", "prefixItems": [{"type": "string", "format": "uuid"}], "items": {"multipleOf": 5}, "minItems": 3},
    {"type": "object", "patternProperties": {"^x-": {"type": "string", "minLength": 5}}, "minProperties": 1},
    {**_A, "required": ["z"], "anyOf": [{"required": ["a"]}, {"properties": {"q": {"enum": ["long", "longer"]}}}]},
]


@pytest.mark.parametrize("schema", _REAL)
def test_any_budget_gives_a_whole_document(schema: dict[str, Any]) -> None:
    shortest = Closing(schema).end("")
    assert shortest is not None
    least = shortest.most_tokens
    for budget in range(least, least + 40):
        out = ScriptedEngine(seed=budget).generate("x", constraint=compile_grammar(schema), max_tokens=budget)
        assert out.finish in ("stop", "closed")
        assert len(out.tokens) <= budget + 1
        jsonschema.Draft202012Validator(schema).validate(json.loads(out.text))
