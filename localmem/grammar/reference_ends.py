"""Where a $ref leads, within one schema. Fetches nothing: what another document defines is out of reach."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from localmem.grammar.pattern_ends import NoPlan
from localmem.grammar.pointers import pointed


class References:
    """Follows references by JSON pointer from the resource they stand in, by anchor, and by a resource's full $id."""

    def __init__(self, root: Any) -> None:
        self._root = root

    @cached_property
    def _places(self) -> tuple[dict[int, Any], dict[str, Any], dict[tuple[int, str], Any]]:
        """By a part's identity the resource it lies in; resources by $id; and anchors by their resource and name."""
        homes: dict[int, Any] = {}
        named: dict[str, Any] = {}
        anchors: dict[tuple[int, str], Any] = {}
        old = isinstance(self._root, Mapping) and "draft-04" in str(self._root.get("$schema"))
        todo: list[tuple[Any, Any]] = [(self._root, self._root)]
        while todo:
            part, home = todo.pop()
            if isinstance(part, list):
                todo += [(each, home) for each in part]
            if not isinstance(part, Mapping):
                continue
            name = part.get("$id", part.get("id") if old else None)
            if isinstance(name, str) and not name.startswith("#"):
                home = named[name.rstrip("#")] = part
            if isinstance(name := part.get("$anchor", name), str):
                anchors[id(home), name.removeprefix("#")] = part
            homes[id(part)] = home
            todo += [(each, home) for each in part.values()]
        return homes, named, anchors

    def target(self, schema: Mapping[str, Any]) -> Any:
        """What the $ref of `schema` means. Raises NoPlan if that cannot be said."""
        reference = schema["$ref"]
        if not isinstance(reference, str):
            raise NoPlan
        homes, named, anchors = self._places
        document, _, fragment = reference.partition("#")
        home = named.get(document) if document else homes.get(id(schema), self._root)
        if home is None:
            raise NoPlan
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            if (id(home), fragment) not in anchors:
                raise NoPlan
            return anchors[id(home), fragment]
        try:
            return pointed(home, fragment)[0]
        except LookupError:
            raise NoPlan from None
