"""In which order a JSON Schema lists the keys of an object, followed through its references and branches.

Only a first guess of where a key stands in a document; which texts a grammar accepts is for the grammar to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Parts = Sequence[Mapping[str, Any]]

_BRANCHES = ("allOf", "anyOf", "oneOf")


class KeyOrder:
    """The order of one schema. A place in a document is known by the parts of the schema that speak of it."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self.root: Parts = self._parts([schema])

    def sorted(self, keys: Mapping[str, Any], parts: Parts) -> list[str]:
        """`keys` as the properties and then the required keys of `parts` list them; the others stay behind."""
        listed: dict[str, None] = {}
        for part in parts:
            listed |= dict.fromkeys(_mapping(part.get("properties")))
        for part in parts:
            listed |= dict.fromkeys(key for key in _list(part.get("required")) if isinstance(key, str))
        rank = {key: at for at, key in enumerate(listed)}
        return sorted(keys, key=lambda key: rank.get(key, len(rank)))

    def of_key(self, key: str, parts: Parts) -> Parts:
        """The parts that speak of the value of `key`."""
        return self._parts(list(_of_key(key, parts)))

    def of_item(self, at: int, parts: Parts) -> Parts:
        """The parts that speak of an array's item."""
        found: list[Any] = []
        for part in parts:
            first = _list(part.get("prefixItems")) or _list(part.get("items"))
            found.append(first[at] if at < len(first) else part.get("items", part.get("additionalItems")))
        return self._parts(found)

    def _parts(self, schemas: Sequence[Any]) -> Parts:
        """The schemas and, in place, what their references and branches lead to; each once."""
        found: list[Mapping[str, Any]] = []
        seen: set[int] = set()
        waiting = list(schemas)
        while waiting:
            schema = waiting.pop(0)
            if not isinstance(schema, Mapping) or id(schema) in seen:
                continue
            seen.add(id(schema))
            found.append(schema)
            inner = [branch for word in _BRANCHES for branch in _list(schema.get(word))]
            waiting[:0] = [*self._targets(schema), *inner]
        return found

    def _targets(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return
        target = self._schema
        for part in reference[1:].strip("/").split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            target = _mapping(target).get(name) if name else target
        yield target


def _of_key(key: str, parts: Parts) -> Iterator[Any]:
    for part in parts:
        known = _mapping(part.get("properties"))
        if key in known:
            yield known[key]
            continue
        patterns = _mapping(part.get("patternProperties")).items()
        yield from (value for pattern, value in patterns if _found(pattern, key))
        yield part.get("additionalProperties")


def _found(pattern: str, key: str) -> bool:
    try:
        return re.search(pattern, key) is not None
    except re.error:
        return False


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
