"""A scenario: the state of an agent, and the turns of a conversation with the calls that answer them. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

#: Stands in a reply for where the value was found; it is filled in from the search's result.
SOURCE = "⟨source⟩"

Begins = Literal["user", "login", "heartbeat", "timer", "page_out", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Call:
    """What the model writes: a thought, a function and its arguments."""

    thought: str
    function: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Expected:
    """By what an answer is judged.

    `functions`: those called before the reply, in order; `also` holds sequences that are as good. Stored text must
    contain each of `fact` ("a|b": either) and no word that is neither said nor known. `old` is the line to be replaced.
    A search is right if its result contains `found`; `query` are good queries, best first; where nothing is to be
    found, a query shares a word with one of them, and `absent` must be in no result. The reply contains each of
    `answer`; it names a `source`, or says that `nothing` was found.
    """

    kind: str
    functions: tuple[str, ...] = ()
    also: tuple[tuple[str, ...], ...] = ()
    fact: tuple[str, ...] = ()
    line: str = ""
    old: str | None = None
    query: tuple[str, ...] = ()
    found: str = ""
    absent: str = ""
    answer: tuple[str, ...] = ()
    source: bool = False
    nothing: bool = False
    arguments: Mapping[str, Any] | None = None
    days: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What begins a turn, the calls that answer it, and what is expected of them. `gist` is for summaries."""

    text: str
    calls: tuple[Call, ...]
    expected: Expected
    begins: Begins = "user"
    gist: str = ""
    minutes: int = 1


@dataclass(frozen=True, slots=True)
class Past:
    """An exchange of an earlier time that is out of main context."""

    time: datetime
    user: str
    agent: str


@dataclass(frozen=True, slots=True)
class UserFunction:
    """A function of the user's: what it is called, takes and returns."""

    name: str
    doc: str
    parameters: Mapping[str, Any]
    results: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scenario:
    """An agent as it is found, and the conversation that follows. `start` is the local time of the first turn.

    `told` says in which message each line of `human` was told; empty for one that was written by hand.
    """

    id: str
    start: datetime
    persona: str | None
    human: tuple[str, ...]
    past: tuple[Past, ...]
    summary: str
    documents: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    functions: tuple[UserFunction, ...]
    turns: tuple[Turn, ...]
    told: tuple[str, ...] = ()
