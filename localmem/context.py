"""Main context: its segments and their order, its budget, its pressure, and what can be evicted.

Pure: it knows no model and no store. The segments, in order: `system` (text, function list, examples: the same for
every turn and agent), `core_memory` as of the last rebase, `summaries`, and `messages`, which is only ever appended to.
Nothing that changes from turn to turn stands before the newest message, so the KV cache holds all but what is new.

A page-out does not change the prompt at once, since everything behind the change would have to be read again: the new
prefix and what is kept behind it are `pending` until they have been read, or until there is no room left to wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from localmem.errors import ContextError
from localmem.meter import Meter
from localmem.protocols import Generation
from localmem.window import LEVELS, MERGE_AT, Window

#: Why a prompt leaves the cache though nothing in it has changed: somebody else has used the engine meanwhile.
ANOTHER_PROMPT = "another prompt came between"


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


@dataclass(frozen=True, slots=True)
class Prefix:
    """What stands before the messages, as tokens, by segment. `head` is the event as of which it was built.

    `parts` are labels in the segment `core_memory`, each with the token at which its block begins.
    """

    system: tuple[int, ...] = ()
    core_memory: tuple[int, ...] = ()
    summaries: tuple[int, ...] = ()
    parts: tuple[tuple[str, int], ...] = ()
    head: int = 0

    @property
    def tokens(self) -> list[int]:
        return [*self.system, *self.core_memory, *self.summaries]

    def __len__(self) -> int:
        return len(self.system) + len(self.core_memory) + len(self.summaries)


@dataclass(frozen=True, slots=True)
class Pending:
    """A page-out that is committed and not in force: the prefix to come, and the messages to go."""

    cut: Cut
    prefix: Prefix


class MainContext:
    """The window's contents as tokens. `opening` are the tokens that a prompt ends with."""

    def __init__(self, window: Window, opening: Sequence[int]) -> None:
        self.window = window
        self._opening = list(opening)
        self._in_force = Prefix()
        self.pending: Pending | None = None
        self.messages: list[Message] = []
        #: All events up to this id are evicted, but for one that was pinned and still stands.
        self.gone = 0
        self.meter = Meter()
        #: Rebuilds of the prefix since the agent was opened, by their cause.
        self.rebases: dict[str, int] = {}
        self._changed: str | None = None

    # -- contents

    def rebase(self, cause: str, prefix: Prefix) -> None:
        """Put another prefix before the messages, at once."""
        self._in_force = prefix
        self.pending = None
        self.rebases[cause] = self.rebases.get(cause, 0) + 1
        self.changed(cause)

    def restore(self, prefix: Prefix) -> None:
        """Begin with a prefix that was in force before: the cache of that time holds it."""
        self._in_force = prefix

    def defer(self, cut: Cut, prefix: Prefix) -> None:
        """A page-out is committed: its prefix and its eviction are to come."""
        self.pending = Pending(cut, prefix)

    def adopt(self, cause: str) -> None:
        """Put what is pending into force."""
        assert self.pending is not None
        pending = self.pending
        self.evict(pending.cut)
        self.rebase(cause, pending.prefix)

    def changed(self, cause: str) -> None:
        """The next prompt may leave the cache before its end, and this is why."""
        self._changed = cause

    def append(self, message: Message) -> None:
        """Add a message. ContextError if the window cannot hold it: callers make room first."""
        if self.tokens + len(message.tokens) > self.window.n_ctx:
            raise ContextError(
                f"A message of {len(message.tokens)} tokens does not fit beside {self.tokens} in {self.window.n_ctx}."
            )
        self.messages.append(message)

    def prompt(self) -> list[int]:
        """Everything, ready for a generation."""
        return self.written + self._opening

    @property
    def written(self) -> list[int]:
        """Everything as it stands: what the next prompt begins with."""
        return _tokens(self._in_force, self.messages)

    @property
    def coming(self) -> list[int]:
        """What the next prompt begins with once nothing is pending."""
        if self.pending is None:
            return self.written
        return _tokens(self.pending.prefix, self._kept(self.pending.cut))

    @property
    def in_force(self) -> Prefix:
        return self._in_force

    @property
    def prefix(self) -> int:
        """Tokens before the first message."""
        return len(self._in_force)

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
        through = max((event for m in evicted for event in m.events), default=0)
        return Cut(through, index, pinned, self.prefix + len(self._opening) + kept)

    def due_cuts(self, turn: int | None) -> list[Cut]:
        """The cuts that a due page-out may choose from: those that free half of the message space, or else the most."""
        target = self.prefix + (self.window.ceiling - self.prefix) // 2
        cuts = self.cuts(turn)
        return [cut for cut in cuts if cut.remaining + self.window.summary <= target] or cuts[-1:]

    def cut_through(self, through: int, pinned: int | None) -> Cut:
        """The cut that was made through an event, `pinned` being the event that stayed."""
        index = sum(max(message.events, default=0) <= through for message in self.messages)
        return replace(self._cut(index, pinned), through=through)

    def evict(self, cut: Cut) -> None:
        """Take the messages of a cut out."""
        self.messages = self._kept(cut)
        self.gone = cut.through

    def _kept(self, cut: Cut) -> list[Message]:
        return [*([cut.pinned] if cut.pinned is not None else []), *self.messages[cut.index :]]

    # -- reports

    def segments(self) -> Iterator[tuple[str, int]]:
        """Each segment's name and tokens, in order."""
        prefix = self._in_force
        yield "system", len(prefix.system)
        yield "core_memory", len(prefix.core_memory)
        yield "summaries", len(prefix.summaries)
        yield "messages", self.tokens - self.prefix - len(self._opening)

    def locate(self, position: int) -> str:
        """The segment in which a token position of the prompt lies (in core memory also the block), and the token."""
        start = 0
        for name, size in self.segments():
            if position < start + size:
                block = self._block_at(position - start) if name == "core_memory" else ""
                return f"{name}{block}, token {position}"
            start += size
        return f"end, token {position}"

    def _block_at(self, position: int) -> str:
        labels = [label for label, start in self._in_force.parts if start <= position]
        return f".{labels[-1]}" if labels else ""

    def measure(self, generation: Generation) -> None:
        """Count what a generation on this context's prompt cost, and name where and why the prefix broke."""
        at, cause = generation.diverged_at, self._changed
        self._changed = None
        self.meter.add(generation, None if at is None else self.locate(at), cause or ANOTHER_PROMPT)

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
            "pending": None if self.pending is None else len(self.coming),
            **self.meter.report(),
        }


def _tokens(prefix: Prefix, messages: Sequence[Message]) -> list[int]:
    tokens = prefix.tokens
    for message in messages:
        tokens += message.tokens
    return tokens


def merge_due(levels: Sequence[int]) -> tuple[int, int] | None:
    """Which summaries to merge: the bounds of a run of `MERGE_AT` of one level, oldest first, or None.

    Summaries merge like the digits of a counter. On the highest level, where no further digit is, two suffice.
    """
    for level in range(LEVELS + 1):
        at = [i for i, one in enumerate(levels) if one == level]
        if len(at) >= (MERGE_AT if level < LEVELS else 2):
            return at[0], at[0] + (MERGE_AT if level < LEVELS else 2)
    return None
