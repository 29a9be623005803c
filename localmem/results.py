"""What a search found, as the model is shown it: every hit in a line, all of them in the room that a result has."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from localmem.fitting import longest
from localmem.functions import Outcome
from localmem.memory.search import Hit, Page

_LEAST_HIT = 40


def shown(found: Page, room: int, count: Callable[[str], int], nothing: str) -> Outcome:
    """One page of hits in `room` tokens, as `count` counts them; `nothing` is what it says if there are none."""
    note = f" ({found.note})" if found.note else ""
    if not found.hits:
        return Outcome(f"{nothing}{note}", search=True)
    head = f"{found.total} found, page {found.page} of {found.pages}{note}:"
    chars = max(_LEAST_HIT, *(len(hit.text) for hit in found.hits))
    while True:  # every hit is shown, all cut to one length, until the result fits its share of the window
        body = "\n".join([head, *(_line(hit, chars) for hit in found.hits)])
        if chars <= _LEAST_HIT or count(body) <= room:
            break
        chars = max(_LEAST_HIT, chars * 2 // 3)
    body = longest(body, lambda part: count(part) <= room)
    return Outcome(body, shown=tuple(hit.source for hit in found.hits), search=True)


def _line(hit: Hit, chars: int) -> str:
    """A hit in one line: where it comes from, and its text, cut to `chars` characters and saying so."""
    who = {"user_message": "user", "assistant_message": "you"}.get(str(hit.kind), str(hit.kind or ""))
    where = f"#{hit.source}" if isinstance(hit.source, int) else hit.source
    body = " ".join(hit.text.split())
    if len(body) > chars:
        body = f"{body[:chars]}… ({len(body) - chars} more characters)"
    return f"- [{where} {stamp(hit.time)}{f' {who}' if who else ''}] {body}"


def stamp(time: datetime) -> str:
    """A time as the model sees it, local: `Sat 2026-11-21 08:15`."""
    return time.astimezone().strftime("%a %Y-%m-%d %H:%M")
