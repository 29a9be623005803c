"""What is wanted of a generation, in words for its prompt: the fields of a schema with their types and descriptions.

A grammar makes a model write the right form; it does not tell it what belongs there. Pure; knows no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from localmem.grammar.sources import Choice, Json, Regex, Source

_DEEPEST = 5
_MOST_CHOICES = 40


def in_words(source: Source) -> str:
    """One line or a few that say what the text is to be."""
    match source:
        case Json(schema):
            return "\n".join(_Schema(schema).document())
        case Choice(texts):
            return f"Answer with one of: {', '.join(texts)}"
        case Regex(pattern):
            return f"Answer with a text that this regular expression matches: {pattern}"
        case _:
            return "Write the answer and nothing else."


class _Schema:
    """One JSON Schema in words."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def document(self) -> Iterator[str]:
        schema = self._plain(self._root)
        about = f": {schema['description']}" if schema.get("description") else ""
        if schema.get("properties"):
            yield f"Write JSON with these fields{about}"
            yield from self._fields(schema, 0)
        else:
            yield f"Write JSON: {self._kind(schema)}{about}"
            yield from self._inside(schema, 0)

    def _fields(self, schema: Mapping[str, Any], depth: int) -> Iterator[str]:
        required = schema.get("required", ())
        for name, value in schema["properties"].items():
            field = self._plain(value)
            optional = "" if name in required else ", may be left out"
            about = field.get("description")
            yield f"{'  ' * depth}- {name} ({self._kind(field)}{optional}){f': {about}' if about else ''}"
            yield from self._inside(field, depth + 1)

    def _inside(self, schema: Mapping[str, Any], depth: int) -> Iterator[str]:
        """The fields of an object, or of the objects in a list. Not without end: a schema may contain itself."""
        if depth >= _DEEPEST:
            return
        parts = [schema, *map(self._plain, _branches(schema))]
        for part in parts:
            items = part.get("items")
            for inner in (part, self._plain(items) if isinstance(items, Mapping) else {}):
                if isinstance(inner.get("properties"), Mapping):
                    yield from self._fields(inner, depth)

    def _kind(self, schema: Mapping[str, Any]) -> str:
        if "const" in schema:
            return _written(schema["const"])
        if "enum" in schema:
            values = schema["enum"]
            more = ", ..." if len(values) > _MOST_CHOICES else ""
            return "one of " + ", ".join(map(_written, values[:_MOST_CHOICES])) + more
        if branches := _branches(schema):
            return " or ".join(dict.fromkeys(self._kind(self._plain(branch)) for branch in branches))
        kind = schema.get("type", "any value")
        if kind == "array" and isinstance(schema.get("items"), Mapping):
            return f"list of {self._kind(self._plain(schema['items']))}"
        name = " or ".join(kind) if isinstance(kind, list) else str(kind)
        return f"{name}, {schema['format']}" if isinstance(schema.get("format"), str) else name

    def _plain(self, given: Any) -> Mapping[str, Any]:
        """A schema with its local reference followed; what stands beside the reference (a description) is kept."""
        schema: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        for _ in range(_DEEPEST):
            reference = schema.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#"):
                break
            target: Any = self._root
            for part in filter(None, reference[1:].split("/")):
                target = (
                    target.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, Mapping) else {}
                )
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**target, **beside} if isinstance(target, Mapping) else beside
        return schema


def _branches(schema: Mapping[str, Any]) -> list[Any]:
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            return list(schema[word])
    return []


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
