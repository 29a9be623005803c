"""Whether no value can fit two schemas at once: where that is so, oneOf means what anyOf does.

True only where it can be shown: by types, by listed values, or by a required key whose values differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from localmem.grammar.keywords import kinds_of, target

_MOST_STEPS = 20
_ALL = {"object", "array", "string", "number", "boolean", "null"}


def all_disjoint(schemas: list[Any], root: Any) -> bool:
    """Whether no two of the schemas, parts of `root`, can fit one value."""
    return all(_disjoint(one, other, root) for one, other in combinations(schemas, 2))


def _disjoint(one: Any, other: Any, root: Any, steps: int = 0) -> bool:
    one, other = _plain(one, root), _plain(other, root)
    if steps > _MOST_STEPS or one is None or other is None:
        return False
    for first, second in ((one, other), (other, one)):
        ways = first.get("anyOf", first.get("oneOf"))
        if ways is not None:
            return all(_disjoint(way, second, root, steps + 1) for way in ways)
    if not _kinds(one) & _kinds(other):
        return True
    mine, others = _values(one), _values(other)
    if mine is not None and others is not None:
        return not any(_equal(a, b) for a in mine for b in others)
    return _kinds(one) == _kinds(other) == {"object"} and any(
        _disjoint(one["properties"][key], other["properties"][key], root, steps + 1)
        for key in set(one.get("required", ())) & set(other.get("required", ()))
        if key in one.get("properties", {}) and key in other.get("properties", {})
    )


def _plain(schema: Any, root: Any) -> Mapping[str, Any] | None:
    """The schema that a chain of references ends at; None if it has no end."""
    for _ in range(_MOST_STEPS):
        if not isinstance(schema, Mapping):
            return {} if schema is True else None
        if "$ref" in schema:
            schema = target(root, schema["$ref"], "$")
        elif "allOf" in schema:
            schema = schema["allOf"][0]
        else:
            return schema
    return None


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    """Types that a value may have, every number's being number."""
    values = _values(schema)
    if values is not None:
        return {"number" if kind == "integer" else kind for value in values for kind in kinds_of(value)}
    kind = schema.get("type", list(_ALL))
    return {"number" if each == "integer" else each for each in (kind if isinstance(kind, list) else [kind])}


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum")


def _equal(one: Any, other: Any) -> bool:
    """As JSON Schema compares: 1 is 1.0 and is not true. Lists and objects are taken to be equal if they could be."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)
