"""Paging: memory pressure, page-outs, levelled summaries, and main context rebuilt from events.

The model writes every summary itself, by calling `page_out` while what is to go is still before it. Only where it
cannot (interrupted, or the messages do not fit a smaller window) does a plain note stand in. Nothing is lost by a
page-out: what was evicted stays in recall, and each summary names the events that it covers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from localmem.context import EVICT_AT, LEVELS, WARN_AT, Cut, MainContext, Message, Overheads, merge_due
from localmem.errors import ContextError
from localmem.events import TRIGGERS, Event, FunctionCall, Kind
from localmem.generating import Caller, Written
from localmem.grammar.schema import Schema, arguments, one_of, text
from localmem.memory.core import Core
from localmem.memory.store import Store
from localmem.memory_functions import longest
from localmem.prefix import core_heading, prompt_text
from localmem.protocols import Engine, Role
from localmem.rendering import Rendered, core_text, render, render_all, summaries_text, write_call

_PAGE_OUT_THOUGHT = 40
_LARGE_ID = 999_999
_MOST_CUTS_OFFERED = 6


def overheads(engine: Engine) -> Overheads:
    """What paging's own texts take in the model's vocabulary, with ids as large as they may get."""
    requests = (
        prompt_text("page_out.txt").replace("{through}", str(_LARGE_ID)),
        prompt_text("merge.txt").format(first=_LARGE_ID, through=_LARGE_ID),
    )
    call = write_call("x " * (_PAGE_OUT_THOUGHT // 2), "page_out", {"through": _LARGE_ID, "summary": ""})
    head = f"- [#{_LARGE_ID}-{_LARGE_ID} 2026-12-30 to 12-31] \n"
    return Overheads(
        request=max(len(engine.chat_format.message("system", request)) for request in requests),
        page_out=len(engine.vocabulary.tokenize(call)) + len(engine.chat_format.ending),
        summary=len(engine.vocabulary.tokenize(head)),
    )


class Paging:
    """Keeps main context within its window, and in step with the events on the path to the head."""

    def __init__(self, store: Store, core: Core, caller: Caller, system: Sequence[int], preset: str) -> None:
        self._store, self._core, self._caller = store, core, caller
        self._context: MainContext = caller.context
        self._heading = core_heading(preset)
        self._system = list(system)
        self._warned = False
        #: Tokens of messages as they were generated or first rendered, so that none is tokenized twice.
        self._tokens: dict[tuple[int, ...], tuple[int, ...]] = {}
        #: Where the prefix stands: the head when it was last rebuilt.
        self._rebased_at: int | None = None

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
        rendered = render(event, after=self._parent(event))
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

    def summaries(self) -> list[Event]:
        """The summaries in force, oldest first: those that no later one has merged."""
        found = self._store.path(kinds=[Kind.SUMMARY])
        merged = {id for summary in found for id in summary.details.get("merged", ())}
        return sorted((s for s in found if s.id not in merged), key=lambda s: int(s.details["first"]))

    def rebase(self, cause: str) -> None:
        """Rebuild the prefix with core memory and summaries as they are now."""
        message = self._caller.engine.chat_format.message
        blocks = core_text(self._core.blocks(), self._heading)
        listed = summaries_text(self.summaries(), prompt_text("summaries.txt"))
        self._context.rebase(
            cause,
            system=self._system,
            core_memory=message("system", blocks),
            summaries=message("system", listed) if listed else [],
        )
        self._rebased_at = self._store.head

    def rebuild(self, cause: str) -> None:
        """Main context anew from the events on the path to the head: at open, and when the head has moved.

        The prefix stays as it is where it was rebuilt on this same path: then the KV cache still holds it.
        """
        last = next(
            (e for e in reversed(self._store.path(kinds=[Kind.RESULT])) if "evicted_through" in e.details), None
        )
        gone = int(last.details["evicted_through"]) if last is not None else 0
        path = self._store.path(after=gone)
        on_path = self._rebased_at is not None and any(event.id == self._rebased_at for event in path)
        if not on_path or (last is not None and self._rebased_at is not None and last.id > self._rebased_at):
            self.rebase(cause)
        pinned = last.details.get("pinned") if last is not None else None
        kept = [self._store.event(pinned)] if pinned is not None else []
        self._context.messages = list(self._messages([*kept, *(e for e in path if not e.details.get("paging"))]))
        self._warned = False
        self._evict_unread()

    def _messages(self, events: Sequence[Event]) -> Iterator[Message]:
        triggers = {event.id for event in events if event.kind in TRIGGERS}
        calls = {event.id for event in events if event.kind is Kind.CALL}
        turn = 0
        known = {event.id: event for event in events}
        for rendered in render_all(events, lambda event: known.get(event.parent or 0) or self._parent(event)):
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

    # -- pressure

    def make_room(self, turn: int | None, tokens: int = 0) -> Iterator[Event]:
        """Page out until a step can be taken after `tokens` more."""
        while not self._context.fits(tokens):
            if not self._context.cuts(turn):
                raise ContextError("The window is full and nothing in it can be paged out; use a larger --n-ctx.")
            yield from self.page_out(turn)

    def relieve(self) -> Iterator[Event]:
        """After a reply: page out at 85 %, warn once at 70 %."""
        if self._context.pressure >= EVICT_AT and self._context.cuts(None):
            yield from self.page_out(None)
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
        if self._context.pressure < WARN_AT:
            return []
        worth = self._context.tokens - (self._context.window.ceiling - self._context.prefix) // 4
        cuts = [cut for cut in self._context.cuts(turn) if cut.pinned is None and cut.remaining <= worth]
        cuts = cuts[:_MOST_CUTS_OFFERED]
        return [self._arguments([cut.through for cut in cuts])] if cuts else []

    def _arguments(self, through: Sequence[int]) -> Schema:
        return arguments({"through": one_of(through), "summary": text(self._context.window.summary * 4)})

    def page_out(self, turn: int | None) -> Iterator[Event]:
        """A page-out that is due: ask for it, let the model write the summary, evict, and merge summaries."""
        cuts = self._context.due_cuts(turn)[:_MOST_CUTS_OFFERED]
        request = prompt_text("page_out.txt").replace("{through}", str(cuts[0].through))
        written = self._ask(request, [cut.through for cut in cuts])
        cut = next((c for c in cuts if written.call and c.through == written.call.arguments["through"]), cuts[0])
        yield from self._evict(cut, written)
        yield from self._merge()

    def called(self, written: Written, turn: int) -> list[Event]:
        """A page-out that the model called by itself."""
        assert written.call is not None
        cut = next(c for c in self._context.cuts(turn) if c.through == written.call.arguments["through"])
        return [*self._evict(cut, written), *self._merge()]

    def _ask(self, request: str, through: Sequence[int]) -> Written:
        """A call of page_out. Its request and its tokens leave the context with what is evicted: both are temporary."""
        chat, window = self._caller.engine.chat_format, self._context.window
        self._context.append(Message(tuple(chat.message("system", request)), (), 0))
        try:
            return self._caller.write(
                {"page_out": [self._arguments(through)]},
                max_tokens=window.page_out_call,
                longest_thought=_PAGE_OUT_THOUGHT,
            )
        finally:
            self._context.messages.pop()

    def _evict(self, cut: Cut, written: Written | None) -> list[Event]:
        """Commit the call, the summary and the eviction together, then rebuild the prefix."""
        covered = [event for m in self._context.messages[: cut.index] for event in m.events]
        first, last = self._store.event(min(covered)), self._store.event(cut.through)
        body, is_cut = self._summary(written, f"{cut.index} messages, not summarized.")
        details: dict[str, Any] = {"level": 0, "first": first.id, "last": last.id, "cut": is_cut}
        details |= {"since": first.time.isoformat(), "until": last.time.isoformat()}
        pinned = cut.pinned.events[0] if cut.pinned is not None else None
        result = {"evicted_through": cut.through, "pinned": pinned}
        with self._store.transaction():
            events = self._commit(written, cut.through, body, details, result)
        self._context.evict(cut)
        self._warned = False
        self.rebase("page-out")
        return events

    def _merge(self) -> Iterator[Event]:
        """Merge summaries where one level is full: as a counter carries."""
        while True:
            standing = self.summaries()
            due = merge_due([int(summary.details["level"]) for summary in standing])
            if due is None:
                return
            run = standing[due[0] : due[1]]
            first, last = run[0].details, run[-1].details
            request = prompt_text("merge.txt").format(first=first["first"], through=last["last"])
            written = self._ask(request, [int(last["last"])])
            plain = longest(" ".join(summary.text for summary in run), self._fits_summary)
            body, is_cut = self._summary(written, plain)
            details: dict[str, Any] = {"level": min(int(first["level"]) + 1, LEVELS), "cut": is_cut}
            details |= {"first": first["first"], "last": last["last"], "since": first["since"], "until": last["until"]}
            details["merged"] = [summary.id for summary in run]
            with self._store.transaction():
                events = self._commit(written, int(last["last"]), body, details, {})
            self.rebase("merge")
            yield from events

    def _commit(
        self, written: Written | None, through: int, body: str, details: dict[str, Any], result: dict[str, Any]
    ) -> list[Event]:
        store, events = self._store, []
        stats = written.generation.stats() if written is not None else None
        if written is not None and written.thought:
            events.append(store.append(Kind.THOUGHT, written.thought, details={"paging": True}))
        call = FunctionCall("page_out", {"through": through, "summary": body})
        events.append(store.append(Kind.CALL, call=call, stats=stats, details={"paging": True}))
        events.append(store.append(Kind.SUMMARY, body, details={**details, "paging": True}))
        outcome = {"function": "page_out", "status": "ok", "paging": True, **result}
        events.append(store.append(Kind.RESULT, "Paged out.", details=outcome))
        return events

    def _summary(self, written: Written | None, plain: str) -> tuple[str, bool]:
        """The summary's text, no larger than its share of the window, and whether it was cut."""
        if written is None or written.call is None:
            return plain, False
        body = str(written.call.arguments["summary"])
        kept = longest(" ".join(body.split()) or plain, self._fits_summary)
        return kept, written.cut("summary") or len(kept) < len(" ".join(body.split()))

    def _fits_summary(self, body: str) -> bool:
        return len(self._caller.engine.vocabulary.tokenize(body)) <= self._context.window.summary
