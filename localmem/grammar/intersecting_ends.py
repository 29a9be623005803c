"""The keywords that two forms of one type have in common. Knows forms of one type only; see `merging`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import lcm
from typing import Any

from localmem.grammar.pattern_ends import NoPlan
from localmem.grammar.string_ends import matches

Keywords = Mapping[str, Any]


def common(one: Keywords, other: Keywords) -> dict[str, Any] | None:
    """The keywords of what both forms allow; None if their types are apart."""
    if apart(one, other):
        return None
    kind = "integer" if "integer" in (one["type"], other["type"]) else one["type"]
    special: dict[str, Callable[[Keywords, Keywords], dict[str, Any]]] = {
        "string": _strings,
        "array": _arrays,
        "object": _objects,
    }
    merged = {**one, **other, **_limits(one, other), "type": kind}
    return merged | special.get(kind, _numbers)(one, other)


def apart(one: Any, other: Keywords) -> bool:
    """Whether a schema and a form say outright that they are of different types."""
    kinds = {one.get("type"), other.get("type")} if isinstance(one, Mapping) else set()
    said = all(isinstance(kind, str) for kind in kinds)
    return said and len(kinds) > 1 and kinds != {"integer", "number"}


def schema_of_key(form: Keywords, key: str) -> Any:
    """What an object's form says of the value of a key."""
    properties = form.get("properties") or {}
    if key in properties:
        return properties[key]
    patterns = form.get("patternProperties") or {}
    fitting = [schema for pattern, schema in patterns.items() if matches((pattern,), key)]
    return _all(*fitting) if fitting else form.get("additionalProperties", True)


def _all(*schemas: Any) -> Any:
    said = [schema for schema in schemas if schema is not True]
    return True if not said else said[0] if len(said) == 1 else {"allOf": said}


def _limits(one: Keywords, other: Keywords) -> dict[str, Any]:
    """The narrower of two limits; the words say which that is."""
    narrower: dict[str, Any] = {}
    for word in set(one) & set(other):
        if word.startswith(("min", "exclusiveMin")):
            narrower[word] = max(one[word], other[word])
        elif word.startswith(("max", "exclusiveMax")):
            narrower[word] = min(one[word], other[word])
    return narrower


def _numbers(one: Keywords, other: Keywords) -> dict[str, Any]:
    if "multipleOf" not in one or "multipleOf" not in other:
        return {}
    first, second = Fraction(str(one["multipleOf"])), Fraction(str(other["multipleOf"]))
    scale = lcm(first.denominator, second.denominator)
    return {"multipleOf": Fraction(lcm(int(first * scale), int(second * scale)), scale)}


def _strings(one: Keywords, other: Keywords) -> dict[str, Any]:
    patterns = [pattern for form in (one, other) for pattern in (form.get("pattern"), *form.get("patterns", ()))]
    said = tuple(dict.fromkeys(pattern for pattern in patterns if pattern is not None))
    if "pattern" in one or "pattern" in other:
        if len(said) > 1:
            raise NoPlan  # the text of function calls, which nothing else is said of
        return {}
    return {"patterns": said} if said else {}


def _arrays(one: Keywords, other: Keywords) -> dict[str, Any]:
    first, second = one.get("prefixItems", []), other.get("prefixItems", [])
    items = one.get("items", True), other.get("items", True)
    length = max(len(first), len(second))
    first, second = [*first, *[items[0]] * (length - len(first))], [*second, *[items[1]] * (length - len(second))]
    return {"prefixItems": list(map(_all, first, second)), "items": _all(*items)}


def _objects(one: Keywords, other: Keywords) -> dict[str, Any]:
    named = [key for form in (one, other) for key in form["properties"] if key not in form["extra"]]
    required = list(dict.fromkeys((*one.get("required", ()), *other.get("required", ()))))
    extra = tuple(key for key in required if key not in named)
    merged: dict[str, Any] = {
        "properties": {key: _all(schema_of_key(one, key), schema_of_key(other, key)) for key in (*named, *extra)},
        "required": required,
        "extra": extra,
        "additionalProperties": _all(one.get("additionalProperties", True), other.get("additionalProperties", True)),
    }
    patterns = _patterns(one, other)
    return merged | ({"patternProperties": patterns} if patterns else {})


def _patterns(one: Keywords, other: Keywords) -> dict[str, Any]:
    sides = one.get("patternProperties", {}), other.get("patternProperties", {})
    patterns: dict[str, Any] = {}
    for pattern in dict.fromkeys((*sides[0], *sides[1])):
        said = []
        for side, form in zip(sides, (one, other), strict=True):
            beside = form.get("additionalProperties", True)
            if pattern not in side and side and beside is not True:
                raise NoPlan  # which of its keys fit a pattern of the other, too?
            said.append(side.get(pattern, beside))
        patterns[pattern] = _all(*said)
    return patterns
