"""The built-in searches: of earlier messages, of days, and of stored texts; what is offered now, and what each shows.

A model cannot see what is on disk, and a small one takes a question about a document for one about an earlier message.
So a search of one place that comes near to nothing shows what is near in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import date

from localmem.functions import Outcome
from localmem.grammar.schema import Schema, arguments, one_of, text
from localmem.limits import Limits
from localmem.memory.archival import Archival
from localmem.memory.recall import Recall
from localmem.memory.search import Page
from localmem.nearness import Nearness
from localmem.results import shown
from localmem.searches import Searches

_LONGEST_QUERY = 120
_PAGE_SIZE = 4
_SEARCHES_A_TURN = 2
_EVER = 2**62

_SAID, _DAYS, _STORED = "conversation_search", "conversation_search_date", "archival_memory_search"


class Lookups:
    """The searches of one agent. `in_context` gives the ids of the events in main context."""

    def __init__(
        self,
        recall: Recall,
        archival: Archival,
        limits: Limits,
        in_context: Callable[[], Collection[int]],
        nearness: Nearness,
    ) -> None:
        self._recall, self._archival = recall, archival
        self._limits, self._in_context, self._nearness = limits, in_context, nearness
        self._searches = Searches()
        #: Whether a message began the turn, and what it asks may still be sought.
        self._answers = False

    def begin_turn(self, answers: bool) -> None:
        """In a new turn, everything may be sought again. `answers` says whether a message began it."""
        self._answers = answers
        self._searches.begin_turn()

    def forget_pages(self) -> None:
        """The head has moved: no search is in the conversation any more."""
        self._searches.forget_pages()

    # -- what the grammar allows now

    def variants(self, queries: Sequence[str] | None) -> dict[str, list[Schema]]:
        """The argument objects that each search takes now, for one of `queries`; for any text if that is None."""
        days = self._days_out_of_sight()
        return {
            _SAID: self._query_variants(_SAID, self._answers or bool(days), queries),
            _DAYS: self._date_variants(days),
            _STORED: self._query_variants(_STORED, len(self._archival) > 0, queries),
        }

    def _days_out_of_sight(self) -> Sequence[date]:
        """The days of messages that main context does not hold."""
        return self._recall.days(before=min(self._in_context(), default=_EVER))

    def _query_variants(self, name: str, useful: bool, queries: Sequence[str] | None) -> list[Schema]:
        """A search, where it may be of use, and further pages of earlier searches."""
        further = self._searches.further_pages(name)
        left = None if queries is None else [query for query in queries if not self._searches.sought(name, query)]
        if not useful or self._searches.made[name] >= _SEARCHES_A_TURN or left == []:
            return further
        query = one_of(left) if left else text(_LONGEST_QUERY)
        return [arguments({"query": query, "page": {"const": 1}}), *further]

    def _date_variants(self, days: Sequence[date]) -> list[Schema]:
        further = self._searches.further_pages(_DAYS)
        if not days or self._searches.made[_DAYS] >= _SEARCHES_A_TURN:
            return further
        listed = one_of([day.isoformat() for day in days])
        return [arguments({"start_date": listed, "end_date": listed, "page": {"const": 1}}), *further]

    # -- what a search shows

    def conversation_search(self, query: str, page: int) -> Outcome:
        """Earlier messages; if none is near, stored texts that are."""
        if page > 1 or self._nearness.said(query) != 0 or not self._nearness.stored(query):
            return self._said(query, page)
        return _both(self._said(query, page, parts=2), "Stored texts", self._stored(query, page, parts=2))

    def conversation_search_date(self, start_date: str, end_date: str, page: int) -> Outcome:
        """The messages of some days, in whichever order these two are."""
        until = self._searches.until(_DAYS, (start_date, end_date), page)
        start, end = sorted((date.fromisoformat(start_date), date.fromisoformat(end_date)))
        exclude = self._in_context() if until is None else ()
        found = self._recall.search(start=start, end=end, page=page, page_size=_PAGE_SIZE, until=until, exclude=exclude)
        self._searches.keep(_DAYS, {"start_date": start_date, "end_date": end_date}, found)
        return self._shown(found, "All messages of these days are in main context.")

    def archival_search(self, query: str, page: int) -> Outcome:
        """Stored texts; if none is near, earlier messages that are."""
        if page > 1 or self._nearness.stored(query) != 0 or not self._nearness.said(query):
            return self._stored(query, page)
        return _both(self._stored(query, page, parts=2), "Earlier messages", self._said(query, page, parts=2))

    def _said(self, query: str, page: int, parts: int = 1) -> Outcome:
        """Earlier messages, in one of so many parts of the room of a result."""
        until = self._searches.until(_SAID, (query,), page)
        if until is None and not self._days_out_of_sight():
            self._answers = False  # told once; after a page-out there is something to find
            return Outcome("All earlier messages are in main context.", search=True)
        exclude = self._in_context() if until is None else ()
        found = self._recall.search(query, page=page, page_size=_PAGE_SIZE, until=until, exclude=exclude)
        self._searches.keep(_SAID, {"query": query}, found)
        return self._shown(found, f"No earlier message matches {query!r}.", parts)

    def _stored(self, query: str, page: int, parts: int = 1) -> Outcome:
        """Stored texts, in one of so many parts of the room of a result."""
        until = self._searches.until(_STORED, (query,), page)
        found = self._archival.search(query, page=page, page_size=_PAGE_SIZE, until=until)
        self._searches.keep(_STORED, {"query": query}, found)
        return self._shown(found, f"Nothing stored matches {query!r}.", parts)

    def _shown(self, found: Page, nothing: str, parts: int = 1) -> Outcome:
        return shown(found, self._limits.result_tokens // parts, self._limits.count, nothing)


def _both(sought: Outcome, place: str, nearer: Outcome) -> Outcome:
    """What was found where it was sought, and what is nearer in the other place."""
    text = f"{sought.text}\n{place} are nearer: {nearer.text}"
    return Outcome(text, shown=(*sought.shown, *nearer.shown), search=True)
