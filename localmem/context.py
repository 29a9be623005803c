"""Main context: its segments and their order, its budget, its pressure, and what can be evicted.

Pure: it knows no model and no store. The segments, in order: `system` (text, function list, examples: the same for
every turn and agent), `core_memory` as of the last rebase, `summaries`, and `messages`, which is only ever appended to.
Nothing that changes from turn to turn stands before the newest message, so the KV cache holds all but what is new.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from localmem.errors import ConfigError, ContextError
from localmem.meter import Meter
from localmem.protocols import Generation

WARN_AT = 0.70
EVICT_AT = 0.85
PREFIX_SHARE = 0.60
SUMMARY_SHARE = 0.15
SLACK = 256
#: So many summaries of one level are merged into one of the next; on the highest level two are.
MERGE_AT = 3
LEVELS = 2
#: The most summaries that stand at once: full lower levels, one on top, and the one being written.
MOST_SUMMARIES = (MERGE_AT - 1) * LEVELS + 2

_LEAST_SUMMARY = 24
_LEAST_CALL = 160
_LEAST_RESULT = 112
_TURN_MARKERS = 16  # what a chat template puts around a turn
_LEAST_MESSAGE = 96


@dataclass(frozen=True, slots=True)
class Overheads:
    """What the texts around the contents take in one model's vocabulary. All in tokens.

    `request` is the largest page-out request, `page_out` the JSON around a summary, a short thought included, and
    `summary` what stands before a summary's text.
    """

    request: int
    page_out: int
    summary: int


@dataclass(frozen=True, slots=True)
class Window:
    """How a window of `n_ctx` tokens is shared out. All in tokens.

    `reserve` holds the largest call, the page-out request and 256 more; `usable` is the rest. `ceiling` is the fullest
    that the context may be before a step: after it, a call, its result, a page-out request and its call still fit.
    """

    n_ctx: int
    overheads: Overheads

    @property
    def call(self) -> int:
        """The largest call."""
        return min(1024, max(_LEAST_CALL, self.n_ctx // 10))

    @property
    def result(self) -> int:
        """The largest function result."""
        return min(800, max(_LEAST_RESULT, self.n_ctx // 14))

    @property
    def summary(self) -> int:
        """The largest summary's text."""
        return self.summaries // MOST_SUMMARIES - self.overheads.summary

    @property
    def reserve(self) -> int:
        return self.call + self.overheads.request + SLACK

    @property
    def usable(self) -> int:
        return self.n_ctx - self.reserve

    @property
    def page_out_call(self) -> int:
        """The largest call of page_out: a summary and the JSON around it."""
        return min(self.call, self.summary + self.overheads.page_out)

    @property
    def ceiling(self) -> int:
        step = self.call + self.result + _TURN_MARKERS
        return min(self.usable, self.n_ctx - step - self.page_out_room)

    @property
    def page_out_room(self) -> int:
        """What a page-out takes on top of the context."""
        return self.overheads.request + self.page_out_call

    @property
    def summaries(self) -> int:
        """The most that all summaries together may take."""
        return int(self.usable * SUMMARY_SHARE)

    @property
    def message(self) -> int:
        """The largest message: with a prefix at its limit it fits, and so does a step after it."""
        return (self.ceiling - int(self.usable * PREFIX_SHARE)) * 2 // 3

    def holds(self, prefix: int) -> bool:
        """Whether a prefix of so many tokens, summaries left out, leaves room to work in."""
        fits = prefix + self.summaries <= PREFIX_SHARE * self.usable
        return fits and self.message >= _LEAST_MESSAGE and self.summary >= _LEAST_SUMMARY

    def check(self, prefix: int) -> None:
        """ConfigError, naming the smallest n_ctx that works, if the window cannot hold a prefix."""
        if self.holds(prefix):
            return
        raise ConfigError(
            f"n_ctx {self.n_ctx} is too small: the system text, the functions and the blocks at their limits take "
            f"{prefix} tokens. Use --n-ctx {self.smallest(prefix)} or more, smaller blocks, or the compact prompt."
        )

    def smallest(self, prefix: int) -> int:
        """The smallest n_ctx, in steps of 64, that holds a prefix."""
        n_ctx = 512
        while not replace(self, n_ctx=n_ctx).holds(prefix):
            n_ctx += 64
        return n_ctx


@dataclass(frozen=True, slots=True)
class Message:
    """One message in main context: its tokens, the events that it shows, and what it is for eviction.

    `opens` says that the messages before it can be evicted: it begins a turn, or a step within one. `turn` is the id of
    the event that began its turn.
    """

    tokens: tuple[int, ...]
    events: tuple[int, ...]
    turn: int
    opens: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """A way to evict: everything up to event `through`, but `pinned`, the message that the current turn answers."""

    through: int
    index: int
    pinned: Message | None
    remaining: int


class MainContext:
    """The window's contents as tokens. `opening` are the tokens that a prompt ends with."""

    def __init__(self, window: Window, opening: Sequence[int]) -> None:
        self.window = window
        self._opening = list(opening)
        self._segments: dict[str, list[int]] = {"system": [], "core_memory": [], "summaries": []}
        self.messages: list[Message] = []
        #: All events up to this id are evicted, but for one that was pinned and still stands.
        self.gone = 0
        self.meter = Meter()
        #: Rebuilds of the prefix since the agent was opened, by their cause.
        self.rebases: dict[str, int] = {}

    # -- contents

    def rebase(self, cause: str, **segments: Sequence[int]) -> None:
        """Set prefix segments (`system`, `core_memory`, `summaries`) to what they are now."""
        for name, tokens in segments.items():
            self._segments[name] = list(tokens)
        self.rebases[cause] = self.rebases.get(cause, 0) + 1

    def append(self, message: Message) -> None:
        """Add a message. ContextError if the window cannot hold it: callers make room first."""
        if self.tokens + len(message.tokens) > self.window.n_ctx:
            raise ContextError(
                f"A message of {len(message.tokens)} tokens does not fit beside {self.tokens} in {self.window.n_ctx}."
            )
        self.messages.append(message)

    def prompt(self) -> list[int]:
        """Everything, ready for a generation."""
        tokens = [token for segment in self._segments.values() for token in segment]
        for message in self.messages:
            tokens += message.tokens
        return tokens + self._opening

    @property
    def prefix(self) -> int:
        """Tokens before the first message."""
        return sum(map(len, self._segments.values()))

    @property
    def tokens(self) -> int:
        """Tokens of the whole prompt."""
        return self.prefix + sum(len(message.tokens) for message in self.messages) + len(self._opening)

    @property
    def pressure(self) -> float:
        """The used share of what is usable."""
        return self.tokens / self.window.usable

    @property
    def events(self) -> set[int]:
        """The ids of the events that can be seen in the messages."""
        return {event for message in self.messages for event in message.events}

    # -- eviction

    def fits(self, tokens: int) -> bool:
        """Whether a step can still be taken after `tokens` more."""
        return self.tokens + tokens <= self.window.ceiling

    def cuts(self, turn: int | None) -> list[Cut]:
        """All ways to evict, least first. Of `turn`, which is still going on, the message that began it stays."""
        cuts = []
        for index, message in enumerate(self.messages):
            if index and message.opens:
                cuts.append(self._cut(index, turn))
        cuts = self._worth_it(cuts)
        # What was added last in a turn that goes on has not been read yet: it goes only if nothing else can.
        if self.messages and not (cuts and self.messages[-1].turn == turn):
            cuts.append(self._cut(len(self.messages), turn))
        return self._worth_it(cuts)

    def _worth_it(self, cuts: Sequence[Cut]) -> list[Cut]:
        """Without the cuts that evict nothing new: only what stays pinned, or what an earlier page-out had pinned."""
        return [cut for cut in cuts if cut.through > self.gone and (cut.pinned is None or cut.index > 1)]

    def _cut(self, index: int, turn: int | None) -> Cut:
        evicted = self.messages[:index]
        pinned = next((m for m in evicted if turn is not None and turn in m.events), None)
        kept = sum(len(m.tokens) for m in self.messages[index:]) + (len(pinned.tokens) if pinned else 0)
        through = max(event for m in evicted for event in m.events)
        return Cut(through, index, pinned, self.prefix + len(self._opening) + kept)

    def due_cuts(self, turn: int | None) -> list[Cut]:
        """The cuts that a due page-out may choose from: those that free half of the message space, or else the most."""
        target = self.prefix + (self.window.ceiling - self.prefix) // 2
        cuts = self.cuts(turn)
        return [cut for cut in cuts if cut.remaining + self.window.summary <= target] or cuts[-1:]

    def evict(self, cut: Cut) -> None:
        """Take the messages of a cut out."""
        pinned = [cut.pinned] if cut.pinned is not None else []
        self.messages = [*pinned, *self.messages[cut.index :]]
        self.gone = cut.through

    # -- reports

    def segments(self) -> Iterator[tuple[str, int]]:
        """Each segment's name and tokens, in order."""
        for name, tokens in self._segments.items():
            yield name, len(tokens)
        yield "messages", self.tokens - self.prefix - len(self._opening)

    def locate(self, position: int) -> str:
        """The segment in which a token position of the prompt lies, and the position within it."""
        start = 0
        for name, size in self.segments():
            if position < start + size:
                return f"{name}, token {position - start}"
            start += size
        return f"end, token {position - start}"

    def measure(self, generation: Generation) -> None:
        """Count what a generation on this context's prompt cost, and name the segment in which the prefix broke."""
        at = generation.diverged_at
        self.meter.add(generation, None if at is None else self.locate(at))

    def report(self) -> dict[str, Any]:
        """Segments with their tokens, the window's use, the rebases, and the meter's report."""
        return {
            "segments": dict(self.segments()),
            "tokens": self.tokens,
            "usable": self.window.usable,
            "n_ctx": self.window.n_ctx,
            "reserve": self.window.reserve,
            "pressure": round(self.pressure, 4),
            "rebases": dict(self.rebases),
            **self.meter.report(),
        }


def merge_due(levels: Sequence[int]) -> tuple[int, int] | None:
    """Which summaries to merge: the bounds of a run of `MERGE_AT` of one level, oldest first, or None.

    Summaries merge like the digits of a counter. On the highest level, where no further digit is, two suffice.
    """
    for level in range(LEVELS + 1):
        at = [i for i, one in enumerate(levels) if one == level]
        if len(at) >= (MERGE_AT if level < LEVELS else 2):
            return at[0], at[0] + (MERGE_AT if level < LEVELS else 2)
    return None
