"""JSON Schema as rules: exactly its documents, in localmem's layout; and what is refused, by keyword and path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule_texts import fits

from localmem.errors import GrammarError
from localmem.grammar.json_rules import json_rules
from localmem.grammar.schema import TEXT_PATTERN

_OPEN = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}}, "required": ["b"]}
_PAIR = {**_OPEN, "additionalProperties": False}
_CHAIN: dict[str, Any] = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["next"],
            "additionalProperties": False,
        }
    },
}
_KINDS = {
    "oneOf": [
        {"type": "object", "properties": {"k": {"const": kind}, kind: {"type": "integer"}}, "required": ["k", kind]}
        for kind in ("x", "y")
    ]
}


@pytest.mark.parametrize(
    ("schema", "documents", "others"),
    [
        ({"const": 'a"\\\n\t\x01\x7f/é😀'}, ['"a\\"\\\\\\n\\t\\u0001\\u007f/é😀"'], ['"a"', '"a\\"\\\\\\u000a"']),
        (
            {"enum": ["a", "ab", 1, 1.5, None, True]},
            ['"a"', '"ab"', "1", "1.5", "null", "true"],
            ['"b"', "1.0", "false"],
        ),
        ({"enum": ["a", 1, None], "type": ["string", "null"]}, ['"a"', "null"], ["1"]),
        ({"const": {"x": [1, {}], "y": ""}}, ['{"x": [1, {}], "y": ""}'], ['{"x":[1,{}],"y":""}']),
        ({"type": "boolean"}, ["true", "false"], ["null", "True", ""]),
        ({"type": "null"}, ["null"], ["nul"]),
        ({"type": ["integer", "null"], "minimum": 3}, ["3", "null"], ["2", '""']),
        (
            {"type": "string"},
            ['""', '"é😀"', '"\\u0041"', '"\\uD7ff"', '"\\/"', '"\x80"'],
            ['"\n"', '"', '"\\ud800"', '"\\x"', '"\x7f"'],
        ),
        (
            {"type": "string", "minLength": 2, "maxLength": 3},
            ['"ab"', '"\\u00e9\\n"', '"\\"\\"\\""', '"😀😀"'],
            ['"a"', '"abcd"', '"\\n"'],
        ),
        ({"type": "string", "maxLength": 0}, ['""'], ['"a"']),
        ({"type": "string", "pattern": TEXT_PATTERN}, ['"a\\n\\"\\\\/é"'], ['"\\t"', '"\\u0041"', '"\x85"', '"\\/"']),
        ({"type": "array", "items": {"const": 1}}, ["[]", "[1]", "[1, 1]"], ["[1,1]", "[2]", "[1, ]", "[ ]"]),
        (
            {"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 3},
            ["[1, 1]", "[1, 1, 1]"],
            ["[1]", "[]", "[1, 1, 1, 1]"],
        ),
        ({"type": "array", "items": {"const": 1}, "minItems": 1, "maxItems": 1}, ["[1]"], ["[]", "[1, 1]"]),
        ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
        (
            _PAIR,
            ['{"a": 1, "b": null}', '{"b": null}'],
            ["{}", '{"a": 1}', '{"b": null, "a": 1}', '{"b": null, "c": 1}'],
        ),
        (
            _OPEN,
            ['{"b": null, "c": [1]}', '{"b": null, "": 1, "aa": 1}', '{"a": 1, "b": null, "\\n": {}}'],
            ['{"b": null, "a": 1}', '{"b": null, "b": 1}', '{"c": 1, "b": null}', '{"b": null, "\\u0061": ""}'],
        ),
        (
            {
                "type": "object",
                "required": ["z"],
                "properties": {"a": True},
                "additionalProperties": {"type": "integer"},
            },
            ['{"z": 1}', '{"a": "", "z": 1, "y": 2}'],
            ['{"a": 1}', '{"z": ""}', '{"z": 1, "y": ""}', '{"z": 1, "z": 2}'],
        ),
        (
            {"type": "object", "properties": {k: {"const": 0} for k in "abc"}, "additionalProperties": False},
            ["{}", '{"a": 0}', '{"c": 0}', '{"a": 0, "c": 0}', '{"b": 0, "c": 0}', '{"a": 0, "b": 0, "c": 0}'],
            ['{"a": 0, }', '{, "b": 0}', '{"c": 0, "a": 0}', '{"a": 0 "b": 0}'],
        ),
        ({"type": "object"}, ["{}", '{"x": {"y": [null, 1e5, -0.5, "z"]}, "x": 1}'], ['{"x":1}', "{x: 1}", "[]"]),
        ({}, ["1", '"a"', "[[], {}]", "-0", "1.50E-7", "true"], ["", "01", "1.", ".5", "+1", "[1,2]", "NaN"]),
        (_CHAIN, ['{"next": null}', '{"next": {"next": null}}'], ["null", '{"next": {}}']),
        ({"anyOf": [{"const": "a"}, {"type": "integer"}]}, ['"a"', "7"], ['"b"', "null"]),
        ({"oneOf": [{"type": "integer"}, {"type": ["string", "null"]}]}, ["1", '""', "null"], ["1.5", "true"]),
        (_KINDS, ['{"k": "x", "x": 1}', '{"k": "y", "y": 1}'], ['{"k": "x", "y": 1}']),
        ({"allOf": [{"const": 1}]}, ["1"], ["2"]),
        (
            {"title": "t", "description": "d", "default": 2, "examples": [1], "type": "integer", "$comment": "c"},
            ["1"],
            ["x"],
        ),
        ({"$defs": {"a/b~": {"const": 1}}, "$ref": "#/$defs/a~1b~0"}, ["1"], ["2"]),
    ],
)
def test_documents(schema: dict[str, Any], documents: list[str], others: list[str]) -> None:
    rules = json_rules(schema)
    assert [document for document in documents if not fits(rules, document)] == []
    assert [document for document in others if fits(rules, document)] == []


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "array", "uniqueItems": True}, "$.uniqueItems"),
        ({"type": "object", "properties": {"a": {"type": "number", "multipleOf": 2}}}, "$.properties.a.multipleOf"),
        ({"type": "object", "properties": {"a b": {"not": {}}}}, '$.properties["a b"]'),
        ({"type": "array", "items": [{"type": "integer"}]}, "$.items"),
        ({"type": "array", "prefixItems": [{"type": "integer"}]}, "$.prefixItems"),
        ({"type": "array", "items": {"contains": {}, "type": "array"}}, "$.items.contains"),
        ({"type": "string", "pattern": "^a+$"}, "$.pattern"),
        ({"type": "string", "format": "date"}, "$.format"),
        ({"type": "object", "patternProperties": {}}, "$.patternProperties"),
        ({"type": "object", "minProperties": 1}, "$.minProperties"),
        ({"anyOf": [{"type": "string"}], "minLength": 1}, "$.minLength"),
        ({"anyOf": [{"type": "string"}, {"if": {}}]}, "$.anyOf[1]"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "$.oneOf"),
        ({"oneOf": [{"enum": [1, 2]}, {"enum": [2.0]}]}, "$.oneOf"),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, "$.allOf[1]"),
        ({"allOf": [{"type": "integer"}, {"type": "integer"}]}, "$.allOf"),
        ({"enum": [1], "minimum": 3}, "$.minimum"),
        ({"enum": [1], "const": 1}, "$.const"),
        ({"minLength": 3}, "$"),
        ({"type": "foo"}, "$.type"),
        ({"type": []}, "$.type"),
        ({"type": "integer", "minLength": 3}, "$.minLength"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "$"),
        ({"type": "integer", "minimum": 3.2, "maximum": 3.8}, "$"),
        ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 4}, "$"),
        ({"type": "number", "minimum": 1, "exclusiveMaximum": 1}, "$"),
        ({"type": "number", "minimum": "1"}, "$.minimum"),
        ({"type": "number", "exclusiveMaximum": 0.1234567890123456}, "$"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "$.minLength"),
        ({"type": "string", "maxLength": -1}, "$.maxLength"),
        ({"type": "array", "minItems": 2, "maxItems": 1}, "$.minItems"),
        ({"type": "array", "items": False}, "$.items"),
        ({"enum": []}, "$"),
        ({"enum": [1], "type": "string"}, "$"),
        ({"enum": ["\ud800"]}, "$"),
        ({"const": float("nan")}, "$"),
        ({"const": {1, 2}}, "$"),
        ({"anyOf": []}, "$.anyOf"),
        ({"properties": 1, "type": "object"}, "$.properties"),
        ({"$ref": "#/nope"}, "$.$ref"),
        ({"$ref": "other.json"}, "$.$ref"),
        ({"$ref": "#"}, "$"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "$"),
        (
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"$ref": "#/$defs/x"}}},
            "$.$defs.x",
        ),
        (
            {
                "anyOf": [{"$ref": "#/$defs/x"}, {"type": "null"}],
                "$defs": {"x": {"anyOf": [{"$ref": "#"}, {"const": 1}]}},
            },
            "$.$defs.x",
        ),
        ({"type": "object", "properties": {}, "required": ["b"], "additionalProperties": False}, "$.required"),
        ({"type": "object", "properties": {str(i): {"type": "null"} for i in range(6000)}}, "$.properties.4999"),
    ],
)
def test_refused(schema: dict[str, Any], path: str) -> None:
    with pytest.raises(GrammarError) as caught:
        json_rules(schema)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)
    if path.rpartition(".")[2] in ("uniqueItems", "multipleOf", "pattern", "format", "prefixItems", "contains"):
        assert repr(path.rpartition(".")[2]) in str(caught.value)


def test_a_schema_that_is_nested_too_deep_is_one_error() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(3000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(GrammarError):
        json_rules(schema)


def test_branches_that_begin_alike_are_one_way() -> None:
    """Not for looks: every way that is open costs a matcher as much as one grammar."""
    branch = {
        "type": "object",
        "properties": {"t": {"type": "string"}},
        "required": ["t"],
        "additionalProperties": False,
    }
    one = json_rules(branch)
    both = json_rules({"anyOf": [branch, branch]})
    assert one == both


_NUMBERS = st.one_of(st.integers(-1200, 1200), st.integers(-1200, 1200).map(lambda n: n / 100))
_LIMITS = st.dictionaries(
    st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]), _NUMBERS, max_size=3
)


def _within(value: float, limits: dict[str, float]) -> bool:
    return (
        limits.get("minimum", value) <= value <= limits.get("maximum", value)
        and value > limits.get("exclusiveMinimum", value - 1)
        and value < limits.get("exclusiveMaximum", value + 1)
    )


@given(
    limits=_LIMITS, values=st.lists(st.one_of(_NUMBERS, st.integers(-9999, 9999).map(lambda n: n / 1000)), max_size=30)
)
def test_numbers_are_exactly_those_within_their_limits(limits: dict[str, float], values: list[float]) -> None:
    for kind in ("integer", "number"):
        near = [limit + step for limit in limits.values() for step in (-1, -0.01, 0, 0.01, 1)]
        documents = {repr(round(value, 4)) for value in (*values, *near)} | {str(int(value)) for value in values}
        within = {
            text
            for text in documents
            if _within(json.loads(text), limits) and (kind == "number" or "." not in text) and text != "-0.0"
        }
        try:
            rules = json_rules({"type": kind, **limits})
        except GrammarError:
            assert within == set()
            continue
        found = {text for text in documents if fits(rules, text)}
        assert found - {"-0.0"} == within


@pytest.mark.parametrize(
    ("schema", "documents", "others"),
    [
        (
            {"type": "integer", "minimum": -5, "maximum": 120},
            ["-5", "-0", "0", "99", "120"],
            ["-6", "121", "00", "1.0"],
        ),
        ({"type": "integer", "minimum": 0}, ["0", "12345678901234567890"], ["-0", "-1"]),
        ({"type": "integer", "exclusiveMaximum": 0}, ["-1", "-99"], ["0", "-0", "-01"]),
        (
            {"type": "number", "minimum": 0, "maximum": 1},
            ["0", "1", "0.0", "1.00", "0.123456789123456789"],
            ["1.01", "-0", "1e0"],
        ),
        (
            {"type": "number", "exclusiveMinimum": 0},
            ["0.000000000000001", "7", "7.5"],
            ["0", "0.0", "0.0000000000000001"],
        ),
        (
            {"type": "number", "exclusiveMinimum": -1.5, "maximum": -0.25},
            ["-1.49", "-0.25", "-1"],
            ["-1.5", "-0.2", "0"],
        ),
        (
            {"type": "number", "minimum": -1e12, "maximum": 1e12},
            ["1000000000000", "-999999999999.5"],
            ["1000000000000.5"],
        ),
        ({"type": "number", "minimum": 1e-7}, ["0.0000001", "1"], ["0.00000009"]),
    ],
)
def test_numbers(schema: dict[str, Any], documents: list[str], others: list[str]) -> None:
    rules = json_rules(schema)
    assert [document for document in documents if not fits(rules, document)] == []
    assert [document for document in others if fits(rules, document)] == []
