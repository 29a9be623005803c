"""Paging: memory pressure, page-outs, and main context rebuilt from events.

The model writes every summary itself, by calling `page_out` while what is to go is still before it. Only where it
cannot (interrupted, or the messages do not fit a smaller window) does a plain note stand in. Nothing is lost by a
page-out: what was evicted stays in recall, and each summary names the events that it covers.

A page-out is committed at once and takes effect later: the conversation goes on behind what the KV cache holds, while
the prefix to come and the messages kept behind it are read in idle time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from localmem.context import Cut, MainContext, Message, Prefix
from localmem.errors import ContextError
from localmem.events import TRIGGERS, Event, Kind
from localmem.fitting import longest
from localmem.generating import Caller, Written
from localmem.grammar.schema import Schema
from localmem.memory.core import Core
from localmem.memory.store import Store
from localmem.prefix import core_heading, live_prefix, prompt_text
from localmem.protocols import Role
from localmem.rendering import Rendered, render, render_all
from localmem.summaries import CALL_TAKEN_OUT, Summaries
from localmem.window import EVICT_AT, WARN_AT

_MOST_CUTS_OFFERED = 6
_HEAD_TOKENS = 40  # the id, the time and the notes around a message's text


class Paging:
    """Keeps main context within its window, and in step with the events on the path to the head."""

    def __init__(self, store: Store, core: Core, caller: Caller, system: Sequence[int], preset: str) -> None:
        self._store, self._core, self._caller = store, core, caller
        self.summaries = Summaries(store, caller)
        self._context: MainContext = caller.context
        self._heading = core_heading(preset)
        self._system = list(system)
        self._warned = False
        #: Whether a page-out came without the merge that follows it: at open, or if the turn was left in between.
        self._merge_may_be_due = True
        #: Tokens of messages as they were generated or first rendered, so that none is tokenized twice.
        self._tokens: dict[tuple[int, ...], tuple[int, ...]] = {}
        #: Whether a page-out waits, before it changes the prompt, until what it changes has been read in idle time.
        self.deferred = True

    def remember(self, prefix: Prefix, tokens: Mapping[tuple[int, ...], tuple[int, ...]]) -> None:
        """Take up the prefix and the tokens of messages of an earlier time."""
        self._context.restore(prefix)
        self._tokens.update(tokens)

    # -- from events to main context

    def message(self, rendered: Rendered) -> tuple[int, ...]:
        """The tokens of a message, the same each time it is asked for."""
        tokens = self._tokens.get(rendered.events)
        if tokens is None:
            tokens = tuple(self._caller.engine.chat_format.message(rendered.role, rendered.text))
            self._tokens[rendered.events] = tokens
        return tokens

    def add(self, event: Event, turn: int) -> None:
        """Append the message of an event that was just committed."""
        rendered = render(event, after=self._parent(event), form=self._caller.format)
        if rendered is not None:
            self._context.append(Message(self.message(rendered), rendered.events, turn, event.kind in TRIGGERS))

    def _parent(self, event: Event) -> Event | None:
        return None if event.parent is None else self._store.event(event.parent)

    def add_written(self, written: Written, events: Sequence[Event], turn: int) -> None:
        """Append a generation as it was generated: its tokens are in the KV cache already."""
        ids = tuple(event.id for event in events)
        tokens = self._tokens[ids] = self._caller.message_tokens(written)
        self._context.append(Message(tokens, ids, turn, opens=True))

    def size(self, role: Role, body: str) -> int:
        """Tokens of a message that is not added yet."""
        return len(self._caller.engine.chat_format.message(role, body))

    def shown(self, body: str) -> str:
        """As much of a text as a message may hold: all of it, or a beginning that leaves room to say so."""
        most = self._context.window.message
        if self.size("user", body) + _HEAD_TOKENS <= most:
            return body
        return longest(body, lambda part: self.size("user", part) + 2 * _HEAD_TOKENS <= most // 2)

    def _built(self) -> Prefix:
        """The prefix with core memory and summaries as they are now."""
        engine, blocks = self._caller.engine, self._core.blocks()
        prefix = live_prefix(engine, self._system, blocks, self._heading, self.summaries.listed())
        return replace(prefix, head=self._store.head or 0)

    def _renew(self, cause: str) -> None:
        """Build the prefix anew: the one to come if a page-out is pending, else the one in force."""
        if self._context.pending is not None:
            self._context.defer(self._context.pending.cut, self._built())
        else:
            self._context.rebase(cause, self._built())

    def rebuild(self, cause: str) -> None:
        """Main context anew from the events on the path to the head: at open, and when the head has moved.

        The prefix stays as it is where it was built on this same path: then the KV cache still holds it. So does what
        the last page-out evicts, if it was not in force yet.
        """
        results = self._store.path(kinds=[Kind.RESULT])
        before, last = [None, None, *(e for e in results if "evicted_through" in e.details)][-2:]
        prefix = self._context.in_force
        self._context.changed(cause)
        self._warned = False
        self._context.pending = None
        if last is not None and self.deferred and last.id > prefix.head and self._stands(prefix, before):
            self._show(before)
            if self._context.tokens + self._context.window.page_out_room <= self._context.window.n_ctx:
                cut = self._context.cut_through(int(last.details["evicted_through"]), last.details.get("pinned"))
                self._context.defer(cut, self._built())
                return
        if not self._stands(prefix, last):
            self._context.rebase(cause, self._built())
        self._show(last)
        self._evict_unread()

    def _stands(self, prefix: Prefix, out: Event | None) -> bool:
        """Whether a prefix was built on the path to the head, after the page-out whose result is `out`."""
        if not len(prefix) or (out is not None and out.id > prefix.head):
            return False
        return prefix.head == 0 or any(event.id == prefix.head for event in self._store.path(after=prefix.head - 1))

    def _show(self, out: Event | None) -> None:
        """The messages since the page-out whose result is `out`, and the one that it pinned."""
        gone = int(out.details["evicted_through"]) if out is not None else 0
        pinned = out.details.get("pinned") if out is not None else None
        kept = [self._store.event(pinned)] if pinned is not None else []
        path = [event for event in self._store.path(after=gone) if not event.details.get("paging")]
        self._context.gone = gone
        self._context.messages = list(self._messages([*kept, *path]))

    def _messages(self, events: Sequence[Event]) -> Iterator[Message]:
        triggers = {event.id for event in events if event.kind in TRIGGERS}
        calls = {event.id for event in events if event.kind is Kind.CALL}
        turn = 0
        known = {event.id: event for event in events}

        def before(event: Event) -> Event | None:
            return known.get(event.parent or 0) or self._parent(event)

        for rendered in render_all(events, before, self._caller.format):
            if rendered.events[0] in triggers:
                turn = rendered.events[0]
            opens = not calls.isdisjoint(rendered.events) or rendered.events[0] in triggers
            yield Message(self.message(rendered), rendered.events, turn, opens)

    def _evict_unread(self) -> None:
        """What a smaller window than before cannot even be shown is evicted with a plain note in place of a summary."""
        window = self._context.window
        while self._context.tokens + window.page_out_room > window.n_ctx:
            cuts = self._context.cuts(None)
            if not cuts:
                raise ContextError("The newest message does not fit this window; use a larger --n-ctx.")
            enough = [cut for cut in cuts if cut.remaining <= window.ceiling]
            self._evict(enough[0] if enough else cuts[-1], None)
            self._forced()

    # -- pressure

    def make_room_for(self, body: str) -> Iterator[Event]:
        """Page out until a message with this text, and a step after it, fit."""
        self.settle()
        yield from self.make_room(None, self.size("user", body) + _HEAD_TOKENS)

    def make_room(self, turn: int | None, tokens: int = 0) -> Iterator[Event]:
        """Page out until a step can be taken after `tokens` more."""
        if self._context.prefix + tokens > self._context.window.ceiling:
            raise ContextError("That is too long for this window; shorten it, or use a larger --n-ctx.")
        if self._merge_may_be_due:
            yield from self._merge()
        while not self._context.fits(tokens):
            if self._forced():
                continue
            if not self._context.cuts(turn):
                raise ContextError("The window is full and nothing in it can be paged out; use a larger --n-ctx.")
            yield from self.page_out(turn)

    def relieve(self) -> Iterator[Event]:
        """After a reply: page out at 85 %, warn once at 70 %."""
        if self._context.pending is not None:
            return
        if self._context.pressure >= EVICT_AT and self._context.cuts(None):
            yield from self.page_out(None, forced=False)
        elif self._context.pressure >= WARN_AT and not self._warned:
            yield self.warn()

    def warn(self) -> Event:
        """Tell the model of memory pressure."""
        self._warned = True
        percent = round(100 * self._context.pressure)
        event = self._store.append(Kind.ALERT, prompt_text("pressure.txt").format(percent=percent))
        self.add(event, event.id)
        return event

    # -- page-out

    def variants(self, turn: int) -> list[Schema]:
        """What `page_out` takes when the model calls it by itself: whole turns before `turn`, under pressure only."""
        if self._context.pressure < WARN_AT or self._context.pending is not None:
            return []
        worth = self._context.tokens - (self._context.window.ceiling - self._context.prefix) // 4
        cuts = [cut for cut in self._context.cuts(turn) if cut.pinned is None and cut.remaining <= worth]
        cuts = cuts[:_MOST_CUTS_OFFERED]
        return [self.summaries.arguments([cut.through for cut in cuts])] if cuts else []

    def page_out(self, turn: int | None, *, forced: bool = True) -> Iterator[Event]:
        """A page-out that is due: ask for it, let the model write the summary, evict, and merge summaries.

        Interrupted, one that is not `forced` evicts nothing: it stays due.
        """
        self._forced()
        cuts = self._context.due_cuts(turn)[:_MOST_CUTS_OFFERED]
        request = prompt_text("page_out.txt").replace("{through}", str(cuts[0].through))
        written = self.summaries.ask(request, [cut.through for cut in cuts])
        if not forced and written is not None and written.call is None:
            return
        chosen = written.call.arguments["through"] if written is not None and written.call is not None else None
        cut = next((cut for cut in cuts if cut.through == chosen), cuts[0])
        yield from self._evict(cut, written)
        yield from self._merge()

    def called(self, written: Written, turn: int) -> list[Event]:
        """A page-out that the model called by itself."""
        assert written.call is not None
        self._context.changed(CALL_TAKEN_OUT)
        cut = next(c for c in self._context.cuts(turn) if c.through == written.call.arguments["through"])
        return [*self._evict(cut, written), *self._merge()]

    def _evict(self, cut: Cut, written: Written | None) -> list[Event]:
        """Commit call, summary and eviction together; they take effect when the new prefix has been read."""
        evicted = self._context.messages[: cut.index]
        # A message that was kept by an earlier cut is covered by that one's summary already.
        covered = [id for message in evicted for id in message.events if id > self._context.gone]
        first, last = self._store.event(min(covered)), self._store.event(max(covered))
        details: dict[str, Any] = {"level": 0, "first": first.id, "last": last.id}
        details |= {"since": first.time.isoformat(), "until": last.time.isoformat()}
        pinned = cut.pinned.events[0] if cut.pinned is not None else None
        result = {"evicted_through": cut.through, "pinned": pinned}
        plain = f"{len(evicted) - (pinned is not None)} messages, not summarized."
        with self._store.transaction():
            events = self.summaries.commit(written, plain, details, result)
        self._context.defer(cut, self._built())
        self._merge_may_be_due = True
        self._warned = False
        if not self.deferred:
            self._adopt("page-out")
        return events

    def _adopt(self, cause: str) -> None:
        """Put the page-out that is pending into force."""
        before = self._context.messages
        self._context.adopt(cause)
        for message in before:
            if message not in self._context.messages:
                self._tokens.pop(message.events, None)

    def _forced(self) -> bool:
        """Put what is pending into force though it has not been read; whether anything was."""
        if self._context.pending is None:
            return False
        self._adopt("page-out, not read in time")
        return True

    # -- idle time

    def settle(self) -> None:
        """Put a page-out that is pending into force if nothing of it has to be read any more."""
        if self._context.pending is not None and not self._caller.engine.missing(self._context.coming):
            self._adopt("page-out")

    def idle(self) -> None:
        """Let the engine read ahead what the next prompt will begin with."""
        engine, coming = self._caller.engine, self._context.coming
        if engine.missing(coming):
            engine.read_ahead(coming)
        if not engine.reading:
            self.settle()

    def _merge(self) -> Iterator[Event]:
        while events := self.summaries.merge_next():
            self._renew("merge")
            yield from events
        self._merge_may_be_due = False
