"""Events -> messages: the role and the text under which each stands in main context. Pure; knows no tokens.

A thought and the call after it are one assistant message, as the model writes calls. An assistant message has none
of its own, for it stands in the call of send_message, unless that call was interrupted. What the model does not see
renders to None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from localmem.events import Event, Kind
from localmem.grammar.call_text import JSON, write_call
from localmem.memory.core import Block
from localmem.protocols import CallFormat, Content, Role
from localmem.results import stamp


@dataclass(frozen=True, slots=True)
class Rendered:
    """One message and the ids of the events that it shows. `text` has ids among texts where control tokens stand."""

    role: Role
    text: Content
    events: tuple[int, ...]


def render(event: Event, *, after: Event | None = None, form: CallFormat = JSON) -> Rendered | None:
    """The message of one event; `after` is the event before it: a call's thought, or what tells that a day is new."""
    head = f"[#{event.id} {_time(event, after)}]"
    thought = after if after is not None and after.kind is Kind.THOUGHT else None
    match event.kind:
        case Kind.USER:
            return Rendered("user", f"{head} {event.details.get('shown_text', event.text)}", (event.id,))
        case Kind.LOGIN | Kind.HEARTBEAT | Kind.TIMER | Kind.ALERT:
            return Rendered("system", f"{head} {event.details.get('shown_text', event.text)}", (event.id,))
        case Kind.CALL if event.call is not None:
            said = thought.text if thought is not None else ""
            events = (event.id,) if thought is None else (thought.id, event.id)
            return Rendered("assistant", call_content(said, event.call.function, event.call.arguments, form), events)
        case Kind.ASSISTANT if event.details.get("interrupted"):
            said = thought.text if thought is not None else ""
            events = (event.id,) if thought is None else (thought.id, event.id)
            return Rendered("assistant", call_content(said, "send_message", {"message": event.text}, form), events)
        case Kind.RESULT:
            text = event.details.get("shown_text", event.text)
            return Rendered("tool", f"{event.details.get('status', 'ok')}: {text}", (event.id,))
        case _:
            return None


def call_content(thought: str, function: str, arguments: Mapping[str, Any], form: CallFormat = JSON) -> Content:
    """A call as the content of an assistant message."""
    marks = write_call(thought, function, arguments, form)
    if len(marks) == 1 and isinstance(marks[0], str):
        return marks[0]
    return tuple(mark if isinstance(mark, str) else mark.id for mark in marks)


def _time(event: Event, after: Event | None) -> str:
    """The local time of day, and the date where it is another than the last event's: a date is a dozen tokens."""
    if after is not None and after.time.astimezone().date() == event.time.astimezone().date():
        return event.time.astimezone().strftime("%H:%M")
    return stamp(event.time)


def render_all(
    events: Iterable[Event], parent: Callable[[Event], Event | None], form: CallFormat = JSON
) -> list[Rendered]:
    """The messages of a run of events; `parent` gives the event before each."""
    messages: list[Rendered] = []
    for event in events:
        if event.kind is Kind.ASSISTANT and not event.details.get("interrupted") and messages:
            messages[-1] = replace(messages[-1], events=(*messages[-1].events, event.id))
        message = render(event, after=parent(event), form=form)
        if message is not None:
            messages.append(message)
    return messages


def core_text(blocks: Iterable[Block], heading: str) -> str:
    """Core memory as the model sees it."""
    parts = [f"<{block.label}>\n{block.value or '(empty)'}\n</{block.label}>" for block in blocks]
    return "\n".join([heading, *parts])


def summaries_text(summaries: Iterable[tuple[Event, str]], heading: str) -> str:
    """The summaries in force, oldest first, each with as much of its text as is shown; empty if there are none."""
    lines = [_summary_line(summary, shown) for summary, shown in summaries]
    return "\n".join([heading, *lines]) if lines else ""


def _summary_line(summary: Event, shown: str) -> str:
    """One summary with the events and days that it covers: the way back down to them."""
    about = summary.details
    since, until = (datetime.fromisoformat(about[key]).astimezone() for key in ("since", "until"))
    days = f"{since:%Y-%m-%d}" if since.date() == until.date() else f"{since:%Y-%m-%d} to {until:%m-%d}"
    cut = " (cut short)" if about.get("cut") or shown != summary.text else ""
    return f"- [#{about['first']}-{about['last']} {days}] {shown}{cut}"


def login_text(who: str, away_s: float | None, messages: int) -> str:
    """What tells that somebody is here, after so long, and how many messages are remembered."""
    if away_s is None or not messages:
        return f"login: {who} is here for the first time."
    return f"login: {who} is back after {_span(away_s)}. Earlier messages: {messages}."


def _span(seconds: float) -> str:
    """A length of time in words."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return "less than a minute"
