"""How a text of each source is brought to its shortest legal end: a JSON document, or one of several texts.

No end of a free-form grammar (a regular expression, GBNF, CFG) can be planned from its text.
"""

from __future__ import annotations

from typing import Protocol

from localmem.grammar.closing import Closing
from localmem.grammar.sources import Choice, Json, Source
from localmem.protocols import End


class Plan(Protocol):
    """Plans ends for the texts of one source."""

    def end(self, text: str) -> End | None:
        """The shortest end of `text`; None if none can be planned."""
        ...

    def bound(self) -> int | None:
        """The bytes that no end exceeds; None where that cannot be said."""
        ...


class Unplanned:
    """There is never a plan."""

    def end(self, text: str) -> End | None:
        return None

    def bound(self) -> int | None:
        return None


class Choosing:
    """Ends a text as the shortest of the choices that begin with it."""

    def __init__(self, choices: tuple[str, ...]) -> None:
        self._choices = choices

    def end(self, text: str) -> End | None:
        if text in self._choices:
            return End()
        ends = [choice[len(text) :] for choice in self._choices if choice.startswith(text)]
        return End((min(ends, key=len),), ("$",) if len(ends) > 1 else ()) if ends else None

    def bound(self) -> int | None:
        return max(len(choice.encode()) for choice in self._choices)


def plan_for(source: Source) -> Plan:
    """The plan that suits a source."""
    match source:
        case Json(schema=schema):
            return Closing(schema)
        case Choice(texts=texts):
            return Choosing(texts)
        case _:
            return Unplanned()
