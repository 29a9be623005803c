"""The keywords of JSON Schema that can be said exactly as rules; whatever else a schema says is refused by name.

Knows schemas only. Paths are those of the schema itself: `$.properties.a.minLength`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn

from localmem.errors import GrammarError
from localmem.grammar.shortest import dump

Schema = Mapping[str, Any]
Form = Literal["any", "$ref", "anyOf", "oneOf", "allOf", "literals", "types"]

_ANNOTATIONS = {
    "title", "description", "default", "examples", "$schema", "$id", "$defs", "definitions", "$comment", "deprecated",
    "readOnly", "writeOnly",
}  # fmt: skip
_LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
_OF_TYPE: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern"},
    "integer": _LIMITS,
    "number": _LIMITS,
    "boolean": set(),
    "null": set(),
}
_BRANCHES: tuple[Form, ...] = ("$ref", "anyOf", "oneOf", "allOf")


def form(schema: Any, path: str) -> Form:
    """Which one of its forms a schema has. Raises GrammarError at the first word that cannot be enforced."""
    if schema is True:
        return "any"
    if schema is False:
        raise GrammarError(f"Nothing fits the schema at {path}; take it out.", path)
    if not isinstance(schema, Mapping):
        raise GrammarError(f"What stands at {path} is no JSON Schema.", path)
    words = [word for word in schema if word not in _ANNOTATIONS]
    if not words:
        return "any"
    for branches in _BRANCHES:
        if branches in words:
            _only(words, {branches}, path)
            return branches
    if "enum" in words or "const" in words:
        _only(words, {"enum" if "enum" in words else "const", "type"}, path)
        return "literals"
    if "type" not in words:
        raise GrammarError(f"The keyword {words[0]!r} at {path} is enforced only beside a type; add one.", path)
    known = [_OF_TYPE.get(kind) if isinstance(kind, str) else None for kind in types(schema)]
    if not known or None in known:
        raise GrammarError(f"The type at {path} is none that JSON has.", f"{path}.type")
    _only(words, {"type"}.union(*(each for each in known if each is not None)), path)
    return "types"


def _only(words: Sequence[str], allowed: set[str], path: str) -> None:
    for word in words:
        if word not in allowed:
            refuse(word, path, f" beside {' and '.join(map(repr, sorted(allowed)))}" if len(allowed) < 3 else "")


def refuse(word: str, path: str, why: str = "") -> NoReturn:
    """Raises the GrammarError of a keyword that cannot be enforced."""
    raise GrammarError(
        f"The keyword {word!r} at {path} cannot be enforced exactly by this backend{why}; "
        "take it out or use another backend.",
        key_path(path, word),
    )


def types(schema: Schema) -> list[Any]:
    """The type, or types, of a schema, each once."""
    kind = schema.get("type")
    return list(dict.fromkeys(map(str, kind))) if isinstance(kind, list) else [kind]


def key_path(path: str, key: str) -> str:
    """The path of what stands at `key` below `path`."""
    return f"{path}.{key}" if re.fullmatch(r"[$\w-]+", key) else f"{path}[{dump(key)}]"


def branches(schema: Schema, word: str, path: str) -> list[Any]:
    """The schemas in a list of them."""
    found = schema[word]
    if not isinstance(found, list) or not found:
        raise GrammarError(f"{path}.{word} is no list of schemas.", f"{path}.{word}")
    return found


def members(schema: Schema, path: str) -> tuple[dict[str, Any], list[str]]:
    """The properties of an object's schema and its required keys, all of which it allows."""
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, Mapping):
        raise GrammarError(f"{path}.properties is no object.", f"{path}.properties")
    if not isinstance(required, list) or not all(isinstance(key, str) for key in required):
        raise GrammarError(f"{path}.required is no list of keys.", f"{path}.required")
    for key in required:
        if key not in properties and schema.get("additionalProperties", True) is False:
            raise GrammarError(f"{path} requires the key {dump(key)} and allows no such key.", f"{path}.required")
    for key in (*properties, *required):
        written(key, path)
    return dict(properties), required


def counts(schema: Schema, words: tuple[str, str], path: str) -> tuple[int, int | None]:
    """The least and the most of a length."""
    for word in words:
        value = schema.get(word, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise GrammarError(f"{path}.{word} is no count.", f"{path}.{word}")
    least, most = schema.get(words[0], 0), schema.get(words[1])
    if most is not None and least > most:
        raise GrammarError(f"{path}: {words[0]} {least} is above {words[1]} {most}.", f"{path}.{words[0]}")
    return least, most


def literals(schema: Schema, path: str) -> list[str]:
    """The values of an enum or const as they are written: those of the schema's type."""
    if "enum" in schema and not isinstance(schema["enum"], list):
        raise GrammarError(f"{path}.enum is no list.", f"{path}.enum")
    values = schema["enum"] if "enum" in schema else [schema["const"]]
    kinds = types(schema)
    found = [written(value, path) for value in values if kinds == [None] or any(_is_of(value, k) for k in kinds)]
    if not found:
        raise GrammarError(f"No value fits the schema at {path}.", path)
    return list(dict.fromkeys(found))


def written(value: Any, path: str) -> str:
    """A value as `dump` writes it, if it can be written at all."""
    try:
        text = dump(value)
        text.encode()
        if not _finite(value):
            raise ValueError("no JSON number")
    except (TypeError, ValueError) as error:
        raise GrammarError(f"A value at {path} cannot be written as JSON: {error}.", path) from error
    return text


def _finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _is_of(value: Any, kind: str) -> bool:
    return kind in kinds_of(value)


def kinds_of(value: Any) -> set[str]:
    """The types that a value is of: a whole number is a number too."""
    match value:
        case None:
            return {"null"}
        case bool():
            return {"boolean"}
        case str():
            return {"string"}
        case int() | float():
            return {"number", "integer"} if math.isfinite(value) and value == int(value) else {"number"}
        case Mapping():
            return {"object"}
        case _:
            return {"array"}


def target(root: Any, reference: Any, path: str) -> Any:
    """What a reference inside the schema `root` points to."""
    found = root
    parts = str(reference).removeprefix("#").strip("/").split("/")
    known = isinstance(reference, str) and reference.startswith("#") and reference[1:2] in ("", "/")
    for part in parts if known else ():
        name = part.replace("~1", "/").replace("~0", "~")
        if part and (not isinstance(found, Mapping) or name not in found):
            known = False
            break
        found = found[name] if part else found
    if not known:
        raise GrammarError(f"The $ref {reference!r} at {path} points to nothing in this schema.", f"{path}.$ref")
    return found
