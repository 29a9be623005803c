"""Events as rows and rows as events: the one place that knows how a record is written down.

Knows no connection. JSON columns are plain text, so that the file needs no DuckDB extension.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from localmem.events import Event, FunctionCall, Kind

#: Kinds whose text search finds. A RESULT is searchable too, unless it is what a search found.
SEARCHABLE = frozenset({Kind.USER, Kind.ASSISTANT, Kind.SUMMARY, Kind.TIMER, Kind.ALERT})

#: The columns that `to_event` reads, of table `events` as `e`.
EVENT_COLUMNS = "e.id, e.time, e.kind, e.parent, e.text, e.call, e.stats, e.details"


def storable(text: str) -> str:
    """`text` with lone surrogates replaced: no UTF-8 stands for them, so no file or index can hold them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def to_utc(time: datetime) -> datetime:
    """As the file keeps it: UTC, without a zone. A naive time is local."""
    return time.astimezone(UTC).replace(tzinfo=None)


def from_utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC)


def to_json(data: Mapping[str, Any] | None) -> str | None:
    return json.dumps(dict(data)) if data else None


def is_searchable(event: Event) -> bool:
    """What a search found is an event, but finding it again by its own words would drown what it was found in."""
    if not event.text.strip():
        return False
    return event.kind in SEARCHABLE or (event.kind is Kind.RESULT and not event.details.get("search"))


def to_row(event: Event, branch: int) -> tuple[Any, ...]:
    """A row of table `events`, in the order of its columns."""
    call = None
    if event.call is not None:
        call = json.dumps({"function": event.call.function, "arguments": dict(event.call.arguments)})
    return (
        event.id, event.parent, branch, to_utc(event.time), str(event.kind), event.text, call,
        to_json(event.stats), to_json(event.details), is_searchable(event),
    )  # fmt: skip


def to_event(row: tuple[Any, ...]) -> Event:
    """An event from the columns of `EVENT_COLUMNS`."""
    id, time, kind, parent, text, call, stats, details = row
    return Event(
        id=id,
        time=from_utc(time),
        kind=Kind(kind),
        parent=parent,
        text=text,
        call=FunctionCall(**json.loads(call)) if call else None,
        stats=json.loads(stats) if stats else None,
        details=json.loads(details) if details else {},
    )
