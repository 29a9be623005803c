"""The searches that an agent has made: which of them have further pages, and how often one turn made each."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from localmem.grammar.schema import Schema, arguments, one_of
from localmem.memory.search import Page

_MOST_PAGES = 25
_KEPT = 4


@dataclass(frozen=True, slots=True)
class _Search:
    """A search that has further pages."""

    arguments: Mapping[str, str]
    pages: int
    newest: int


class Searches:
    """What a turn has sought, and the pages of the last searches by each function."""

    def __init__(self) -> None:
        self._kept: dict[str, OrderedDict[tuple[str, ...], _Search]] = {}
        self._sought: set[tuple[str, str]] = set()
        #: How often the turn called each function.
        self.made: Counter[str] = Counter()

    def begin_turn(self) -> None:
        """In a new turn, everything may be sought again."""
        self.made.clear()
        self._sought.clear()

    def sought(self, name: str, query: str) -> bool:
        """Whether the turn has sought this already."""
        return (name, query) in self._sought

    def keep(self, name: str, given: Mapping[str, str], found: Page) -> None:
        """Note a search that was made, and its pages."""
        self.made[name] += 1
        self._sought.add((name, given.get("query", "")))
        searches = self._kept.setdefault(name, OrderedDict())
        key = tuple(given.values())
        searches.pop(key, None)
        if found.pages > 1:
            searches[key] = _Search(given, found.pages, found.newest)
        while len(searches) > _KEPT:
            searches.popitem(last=False)

    def further_pages(self, name: str) -> list[Schema]:
        """The argument objects that turn the pages of a function's searches."""
        return [
            arguments(
                {key: {"const": value} for key, value in search.arguments.items()}
                | {"page": one_of(range(2, min(search.pages, _MOST_PAGES) + 1))}
            )
            for search in self._kept.get(name, {}).values()
        ]

    def until(self, name: str, key: tuple[str, ...], page: int) -> int | None:
        """Where the first page was frozen; None for a first page, which is always searched anew."""
        kept = self._kept.get(name)
        search = kept.get(key) if kept is not None else None
        return search.newest if search is not None and page > 1 else None

    def forget_pages(self) -> None:
        """The head has moved: no search is in the conversation any more."""
        self._kept.clear()
