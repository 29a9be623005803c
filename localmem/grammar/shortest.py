"""The shortest document of a JSON Schema, and how long an end may ever be. Knows schemas only, no text begun.

Schemas outside what can be planned raise `NoPlan`: a keyword that is not understood here is never ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localmem.grammar.number_ends import finish_number
from localmem.grammar.schema import TEXT_PATTERN

Schema = Mapping[str, Any]

_ANNOTATIONS = {
    "title", "description", "default", "examples", "$schema", "$id", "$defs", "definitions", "$comment", "deprecated",
    "readOnly", "writeOnly",
}  # fmt: skip
_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "boolean": set(),
    "null": set(),
}
_TYPES: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "null": type(None),
    "object": dict,
    "array": list,
    "number": (int, float),
}

#: What a schema without a word about it allows.
ANY: Schema = {"anyOf": [{"type": kind} for kind in ("number", "string", "boolean", "null", "array", "object")]}


class NoPlan(Exception):
    """The schema has a part whose end cannot be planned from its text alone."""


@dataclass(frozen=True, slots=True)
class Open:
    """What closes an unfinished value, and the JSON paths of the values that it cuts or fills.

    `steady` says that ordinary characters after the text leave `suffix` as it is.
    """

    suffix: str
    cut: tuple[str, ...] = ()
    steady: bool = False


def dump(value: Any) -> str:
    """A value as the grammar writes it: DEL counts as a control character, which Python's JSON does not think."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": ")).replace("\x7f", "\\u007f")


class Shapes:
    """A schema's parts, brought to branches, choices or one type. All is worked out once."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        self._plain: dict[int, tuple[Schema, Schema]] = {}
        self._least: dict[int, Open | None] = {}
        self._open: set[int] = set()

    def plain(self, schema: Any) -> Schema:
        """The same schema with references followed; its only keywords are anyOf, or enum, or those of one type."""
        known = self._plain.get(id(schema))
        if known is None:
            known = self._plain[id(schema)] = (schema, self._simplify(schema))
        return known[1]

    def _simplify(self, schema: Any) -> Schema:
        if schema is True:
            return ANY
        if not isinstance(schema, Mapping):
            raise NoPlan
        words = set(schema) - _ANNOTATIONS
        if not words:
            return ANY
        if words == {"$ref"}:
            return self.plain(self._target(str(schema["$ref"])))
        for branches in ("anyOf", "oneOf", "allOf"):
            if words == {branches} and (branches != "allOf" or len(schema[branches]) == 1):
                return {"anyOf": schema[branches]}
        kind = schema.get("type")
        if words <= {"const", "enum", "type"} and ("const" in words) != ("enum" in words):
            values = schema["enum"] if "enum" in schema else [schema["const"]]
            return {"enum": [value for value in values if _is_of(value, kind)]}
        if isinstance(kind, list):
            return {"anyOf": [_only(schema, words, each) for each in kind]}
        if not isinstance(kind, str) or not words - {"type"} <= _KEYWORDS.get(kind, set()):
            raise NoPlan
        if kind == "string" and schema.get("pattern", TEXT_PATTERN) != TEXT_PATTERN:
            raise NoPlan
        return {"enum": [True, False]} if kind == "boolean" else {"enum": [None]} if kind == "null" else schema

    def _target(self, reference: str) -> Any:
        target: Any = self.root
        for part in reference.removeprefix("#").strip("/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")] if part else target
        return target

    def least(self, schema: Any) -> Open:
        """The shortest document of `schema`; its paths begin at the document itself. NoPlan if there is none."""
        found = self._shortest(schema)
        if found is None:
            raise NoPlan
        return found

    def _shortest(self, schema: Any) -> Open | None:
        """None where `schema` has no end that does not lead back into itself."""
        plain = self.plain(schema)
        key = id(plain)
        if key in self._open:
            return None
        if key not in self._least:
            self._open.add(key)
            try:
                found = self._build(plain)
            finally:
                self._open.discard(key)
            if found is None and self._open:
                return None  # perhaps only because of what is being worked out further up
            self._least[key] = found
        return self._least[key]

    def _build(self, schema: Schema) -> Open | None:
        if "anyOf" in schema:
            ends = [end for branch in schema["anyOf"] if (end := self._shortest(branch)) is not None]
            return min(ends, key=lambda end: len(end.suffix), default=None)
        if "enum" in schema:
            texts = [dump(value) for value in schema["enum"]]
            return Open(min(texts, key=len), ("",) if len(texts) > 1 else ()) if texts else None
        match schema["type"]:
            case "string":
                return Open(dump("." * int(schema.get("minLength", 0))), ("",))
            case "object":
                return self._object(schema)
            case "array":
                count = int(schema.get("minItems", 0))
                item = self._shortest(schema.get("items", True)) if count else Open("")
                if item is None:
                    return None
                paths = tuple(f"[{i}]{path}" for i in range(count) for path in item.cut)
                return Open(f"[{', '.join([item.suffix] * count)}]", paths)
            case _:
                number = finish_number("", schema)
                return None if number is None else Open(number, ("",))

    def _object(self, schema: Schema) -> Open | None:
        members, cut = [], []
        properties = schema.get("properties", {})
        for key in [*properties, *extra_required(schema)]:
            if key in schema.get("required", ()):
                value = self._shortest(properties.get(key, schema.get("additionalProperties", True)))
                if value is None:
                    return None
                members.append(f"{dump(key)}: {value.suffix}")
                cut += [f".{key}{path}" for path in value.cut]
        return Open("{" + ", ".join(members) + "}", tuple(cut))

    def bound(self, schema: Any, seen: tuple[int, ...] = ()) -> int:
        """Bytes of the longest end that any text of `schema` may need. NoPlan if there is no such number."""
        plain = self.plain(schema)
        if id(plain) in seen:
            raise NoPlan
        seen = (*seen, id(plain))
        if "anyOf" in plain:
            return max(self.bound(branch, seen) for branch in plain["anyOf"])
        if "enum" in plain:
            return max(map(_width, plain["enum"]))
        match plain["type"]:
            case "object":
                if plain.get("additionalProperties", True) is not False:
                    raise NoPlan
                members = plain.get("properties", {}).items()
                return 2 + sum(_width(key) + 4 + self.bound(value, seen) for key, value in members)
            case "array":
                return 2 + (int(plain.get("minItems", 0)) + 1) * (2 + self.bound(plain.get("items", True), seen))
            case "string":
                return 2 + int(plain.get("minLength", 0)) + 6
            case _:
                return 32


def _width(value: Any) -> int:
    """Bytes of a literal at most: a control character that was begun by its number is longer than `dump` makes it."""
    written = dump(value)
    return len(written.encode()) + (4 if "\\" in written else 0)


def extra_required(schema: Schema) -> list[str]:
    """Keys that are required though no property describes them."""
    return [key for key in schema.get("required", ()) if key not in schema.get("properties", {})]


def _is_of(value: Any, kind: Any) -> bool:
    if kind is None:
        return True
    if isinstance(kind, list):
        return any(_is_of(value, each) for each in kind)
    if isinstance(value, bool):
        return bool(kind == "boolean")
    if kind == "integer":
        return isinstance(value, int | float) and value == int(value)
    return isinstance(value, _TYPES.get(str(kind), ()))


def _only(schema: Schema, words: set[str], kind: str) -> Schema:
    """`schema` narrowed to one of the types that it lists; a keyword of none of them is not understood."""
    if not words - {"type"} <= set().union(*(_KEYWORDS.get(each, set()) for each in schema["type"])):
        raise NoPlan
    return {"type": kind} | {word: schema[word] for word in words & _KEYWORDS.get(kind, set())}
