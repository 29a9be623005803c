"""What a JSON Schema may say on the llguidance backend, checked before it sees the schema.

llguidance refuses what it does not know of the standard's keywords; here those are named with their path, and what
would change its own settings is refused. A word that is no keyword of the standard is documentation, as the standard
says, and is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from localmem.errors import GrammarError
from localmem.grammar.pointers import pointed

_NOT_ENFORCED = {
    "$dynamicRef", "$recursiveRef", "contains", "dependencies",
    "dependentRequired", "dependentSchemas", "else", "if", "maxContains", "minContains", "not", "propertyNames",
    "then", "unevaluatedItems", "unevaluatedProperties", "uniqueItems", "x-guidance",
}  # fmt: skip

_ONE = ("additionalProperties", "additionalItems", "items")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
#: Keywords whose values are schemas by name.
SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")


def subschemas(schema: Any) -> Iterator[tuple[Any, str]]:
    """The schemas directly inside one, each with the end of its path."""
    if not isinstance(schema, Mapping):
        return
    for key in _ONE:
        if isinstance(schema.get(key), Mapping | bool):
            yield schema[key], f".{key}"
    for key in _LISTS:
        if isinstance(schema.get(key), list):
            yield from ((part, f".{key}[{i}]") for i, part in enumerate(schema[key]))
    for key in SCHEMAS_BY_NAME:
        if isinstance(schema.get(key), Mapping):
            yield from ((part, f".{key}.{name}") for name, part in schema[key].items())


def _all_schemas(root: Any) -> Iterator[tuple[Any, str]]:
    """A schema and all that it uses, each with its path: those inside it, and those that a $ref finds elsewhere."""
    todo: list[tuple[Any, str]] = [(root, "$")]
    pointers: set[str] = set()
    while todo:
        part, path = todo.pop()
        yield part, path
        todo += [(inner, path + end) for inner, end in subschemas(part)]
        pointer = str(part.get("$ref", "")).partition("#")[2] if isinstance(part, Mapping) else ""
        if pointer.startswith("/") and pointer not in pointers:
            pointers.add(pointer)
            with suppress(LookupError):  # whether it must lead somewhere is for llguidance to say
                todo.append(pointed(root, unquote(pointer)))


def refuse_unenforced(schema: Mapping[str, Any]) -> None:
    """Raise GrammarError for the first keyword that llguidance does not enforce, or for what is no schema."""
    for part, path in _all_schemas(schema):
        if isinstance(part, bool):
            continue
        if not isinstance(part, Mapping):
            raise GrammarError(f"At {path} stands {part!r}, which is no schema.", path)
        for word in part:
            if word in _NOT_ENFORCED:
                at = f"{path}.{word}"
                raise GrammarError(f"{word} at {path} cannot be enforced; leave it out.", at)
        _refuse_counted_keys(part, path)


def _refuse_counted_keys(schema: Mapping[str, Any], path: str) -> None:
    """llguidance counts a key as often as it is written, where its name is free."""
    least = schema.get("minProperties", 0)
    if isinstance(least, int | float) and least >= 2 and _is_open(schema):
        raise GrammarError(
            f"minProperties of {least} at {path} cannot be enforced on keys of any name.", f"{path}.minProperties"
        )


def _is_open(schema: Mapping[str, Any]) -> bool:
    return schema.get("additionalProperties", True) is not False or bool(schema.get("patternProperties"))


def has_other_keys(schema: Any) -> bool:
    """Whether a schema has an object with named keys beside which others may stand, with other values."""
    return any(
        isinstance(part, Mapping) and _is_open(part) and bool(part.get("properties") or part.get("patternProperties"))
        for part, _ in _all_schemas(schema)
    )
