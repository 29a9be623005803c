"""The built-in searches: of earlier messages, of days, and of stored texts; what is offered now, and what each shows.

What cannot help is not offered: a search where there is nothing to find (what is in main context is no hit), in one
turn the same search again and again, or pages that a search does not have; small models get stuck in these. Only a
message may be answered with a search of the conversation whether or not there is more of it than main context holds: a
model cannot see that, and should rather be told than guess.

Nor can it see what is on disk, and a small one takes a question about a document for one about an earlier message. So a
search of one place that comes near to nothing shows what is near in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import date

from localmem.functions import Outcome
from localmem.grammar.schema import Schema, arguments, one_of, text
from localmem.limits import Limits
from localmem.memory.archival import Archival
from localmem.memory.recall import Recall
from localmem.nearness import Nearness
from localmem.results import shown
from localmem.searches import Searches

_LONGEST_QUERY = 120
_PAGE_SIZE = 4
_SEARCHES_A_TURN = 2
_EVER = 2**62

#: Searches for a query: one page, in so many tokens.
_Search = Callable[[str, int, int], Outcome]

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
        near, new = self._nearness, page == 1 and not self._searches.sought(_STORED, query)
        if new and len(self._archival) and near.said(query) is False and near.stored(query):
            return self._with_near(self._said, self._stored, "stored texts", query)
        return self._said(query, page, self._limits.result_tokens)

    def conversation_search_date(self, start_date: str, end_date: str, page: int) -> Outcome:
        """The messages of some days, in whichever order these two are."""
        until = self._searches.until(_DAYS, (start_date, end_date), page)
        start, end = sorted((date.fromisoformat(start_date), date.fromisoformat(end_date)))
        exclude = self._in_context() if until is None else ()
        found = self._recall.search(start=start, end=end, page=page, page_size=_PAGE_SIZE, until=until, exclude=exclude)
        self._searches.keep(_DAYS, {"start_date": start_date, "end_date": end_date}, found)
        nothing = "All messages of these days are in main context."
        return shown(found, self._limits.result_tokens, self._limits.count, nothing)

    def archival_memory_search(self, query: str, page: int) -> Outcome:
        """Stored texts; if none is near, earlier messages that are."""
        near, new = self._nearness, page == 1 and not self._searches.sought(_SAID, query)
        if new and self._days_out_of_sight() and near.stored(query) is False and near.said(query):
            return self._with_near(self._stored, self._said, "earlier messages", query)
        return self._stored(query, page, self._limits.result_tokens)

    def _with_near(self, search: _Search, other: _Search, place: str, query: str) -> Outcome:
        """What is found where it is sought, in half the room, and in what that leaves what is near in another place."""
        sought = search(query, 1, self._limits.result_tokens // 2)
        head = f"{sought.text}\nNear in {place}: "
        near = other(query, 1, self._limits.result_tokens - self._limits.count(head))
        return replace(near, text=f"{head}{near.text}", shown=(*sought.shown, *near.shown)) if near.shown else sought

    def _said(self, query: str, page: int, room: int) -> Outcome:
        """Earlier messages, in so many tokens."""
        until = self._searches.until(_SAID, (query,), page)
        if until is None and not self._days_out_of_sight():
            self._answers = False  # told once; after a page-out there is something to find
            return Outcome("All earlier messages are in main context.", search=True)
        exclude = self._in_context() if until is None else ()
        found = self._recall.search(query, page=page, page_size=_PAGE_SIZE, until=until, exclude=exclude)
        self._searches.keep(_SAID, {"query": query}, found)
        return shown(found, room, self._limits.count, f"No earlier message matches {query!r}.")

    def _stored(self, query: str, page: int, room: int) -> Outcome:
        """Stored texts, in so many tokens."""
        until = self._searches.until(_STORED, (query,), page)
        found = self._archival.search(query, page=page, page_size=_PAGE_SIZE, until=until)
        self._searches.keep(_STORED, {"query": query}, found)
        return shown(found, room, self._limits.count, f"Nothing stored matches {query!r}.")
