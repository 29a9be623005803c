"""Recall storage: every event that the head can see, searchable by words, meaning, date and kind.

Keeps nothing: events are the store's, and matching is the indexer's. Dates are the user's, in the local time zone.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
from numpy.typing import NDArray

from localmem.events import Kind
from localmem.memory.indexing import Indexer
from localmem.memory.records import to_utc
from localmem.memory.search import Hit, Page, Ranking, Rankings, fuse, one_page
from localmem.memory.store import Store

#: What was said: the kinds that a search is about unless it says otherwise, and that stand around a hit.
MESSAGES = (Kind.USER, Kind.ASSISTANT)

#: A quarter of an hour: all time zones are at a whole number of them from UTC, so that one never spans two local days.
_QUARTER_S = 900


class Recall:
    """The events of one agent, as the head of its store sees them."""

    def __init__(self, store: Store, indexer: Indexer) -> None:
        self._store, self._indexer = store, indexer
        self._rankings = Rankings()
        self._days: list[date] = []
        self._days_at: tuple[int, int] | None = None

    def __len__(self) -> int:
        """How many messages there are."""
        sql = f"SELECT count(*) FROM events e WHERE {self._store.ancestors_sql('e')} AND {_one_of(MESSAGES)}"
        count: int = self._store.query(sql)[0][0]
        return count

    def search(
        self,
        query: str = "",
        *,
        start: date | None = None,
        end: date | None = None,
        kinds: Collection[Kind] = MESSAGES,
        page: int = 1,
        page_size: int = 5,
        until: int | None = None,
        exclude: Collection[int] = (),
        wait: bool = False,
    ) -> Page:
        """One page of the events that match `query`, best first; of all events, oldest first, if it is empty.

        `start` and `end` are days, both inclusive, or datetimes; in either order. `until` is the `newest` of the first
        page: later pages are then cut from the first one's ranking. Events in `exclude` are no hits. With `wait`, an
        embedder that is not loaded yet is waited for.
        """
        newest = until if until is not None else self._store.head or 0
        key = (query, start, end, frozenset(kinds), newest, self._store.moves)
        ranking = self._rankings.get(key) if until is not None else None
        if ranking is None:
            among = self._among(start, end, kinds, newest)
            if exclude:
                among = among[~np.isin(among, np.fromiter(exclude, dtype=np.int64))]
            ranking = self._rank(query, among, wait=wait)
            self._rankings.keep(key, ranking)
        hits = [self._hit(id, score) for id, score in ranking.page(page, page_size)]
        return one_page(hits, ranking, page=page, page_size=page_size, newest=newest)

    def is_near(self, vector: NDArray[np.float32], exclude: Collection[int], *, least: float) -> bool | None:
        """Whether a message but for those in `exclude` is `least` like `vector`, as by the indexer."""
        said = self._among(None, None, MESSAGES, self._store.head or 0)
        among = said[~np.isin(said, np.fromiter(exclude, dtype=np.int64))]
        return self._indexer.is_near("recall", vector, among, least=least)

    def days(self, *, before: int | None = None) -> list[date]:
        """The local days on which something was said, ascending; only what was said before event `before`, if given."""
        if before is not None:
            return sorted(self._days_with("e.id < ?", before))
        # As long as the head only moves forward, the days so far stay and only what is new has to be read.
        seen = 0
        if self._days_at is not None and self._days_at[0] == self._store.moves:
            seen = self._days_at[1]
        head = self._store.head or 0
        if seen < head or not seen:
            self._days = sorted(self._days_with("e.id > ?", seen).union(self._days if seen else ()))
            self._days_at = (self._store.moves, head)
        return list(self._days)

    def _days_with(self, condition: str, id: int) -> set[date]:
        quarters = self._store.ids(
            f"SELECT DISTINCT epoch_us(e.time) // {_QUARTER_S * 1_000_000} FROM events e "
            f"WHERE {self._store.ancestors_sql('e')} AND {_one_of(MESSAGES)} AND {condition}",
            [id],
        )
        return {datetime.fromtimestamp(quarter * _QUARTER_S, UTC).astimezone().date() for quarter in quarters.tolist()}

    def _among(self, start: date | None, end: date | None, kinds: Collection[Kind], newest: int) -> NDArray[np.int64]:
        """The ids of the events that may be hits, ascending."""
        since, before = _span(start, end)
        conditions = [self._store.ancestors_sql("e"), "e.searchable", _one_of(kinds), "e.id <= ?"]
        parameters: list[object] = [newest]
        if since is not None:
            conditions.append("e.time >= ?")
            parameters.append(since)
        if before is not None:
            conditions.append("e.time < ?")
            parameters.append(before)
        return self._store.ids(f"SELECT e.id FROM events e WHERE {' AND '.join(conditions)} ORDER BY e.id", parameters)

    def _rank(self, query: str, among: NDArray[np.int64], *, wait: bool) -> Ranking:
        if not query.strip():
            return Ranking(tuple((id, 0.0) for id in among.tolist()))
        matches = self._indexer.match("recall", query, among, wait=wait)
        return Ranking(tuple(fuse(matches.by_keyword, matches.by_vector)), matches.note)

    def _hit(self, id: int, score: float) -> Hit:
        event = self._store.event(id)
        before, after = self._neighbour(id, "<", "DESC"), self._neighbour(id, ">", "ASC")
        return Hit(event.text, score, event.time, id, event.kind, before, after)

    def _neighbour(self, id: int, side: str, order: str) -> str:
        """The message next to event `id`; empty at either end."""
        rows = self._store.query(
            f"SELECT e.text FROM events e WHERE {self._store.ancestors_sql('e')} AND {_one_of(MESSAGES)} "
            f"AND e.id {side} ? ORDER BY e.id {order} LIMIT 1",
            [id],
        )
        return rows[0][0] if rows else ""


def _one_of(kinds: Collection[Kind]) -> str:
    names = ", ".join(f"'{kind}'" for kind in sorted(set(kinds)))
    return f"e.kind IN ({names})" if names else "FALSE"


def _span(start: date | None, end: date | None) -> tuple[datetime | None, datetime | None]:
    """The first instant of `start` and the first one behind `end`, in UTC as stored; reversed ones are swapped."""
    if start is not None and end is not None and _first_instant(start) > _first_instant(end):
        start, end = end, start
    return (None if start is None else _first_instant(start)), (None if end is None else _instant_after(end))


def _first_instant(day: date) -> datetime:
    instant = day if isinstance(day, datetime) else datetime.combine(day, time.min)
    try:
        return to_utc(instant)
    except (OverflowError, ValueError, OSError):
        # The local zone of the first or the last day of the calendar is beyond the calendar.
        return instant.replace(tzinfo=None)


def _instant_after(day: date) -> datetime:
    step = timedelta(microseconds=1) if isinstance(day, datetime) else timedelta(days=1)
    try:
        return _first_instant(day) + step if isinstance(day, datetime) else _first_instant(day + step)
    except OverflowError:
        return datetime.max
