"""Summaries: what stands in for evicted messages, written by the model and merged like the digits of a counter.

A summary names the events that it covers, so that the model can go back down to them by searching. Each takes no more
than its share of the window; where one was written in a larger window, its beginning is listed. Knows nothing of which
messages there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localmem.context import Message, merge_due
from localmem.events import Event, FunctionCall, Kind
from localmem.fitting import longest
from localmem.generating import Caller, Written
from localmem.grammar.call_text import JSON
from localmem.grammar.schema import Schema, arguments, one_of, text
from localmem.memory.store import Store
from localmem.prefix import prompt_text
from localmem.protocols import CallFormat, Engine
from localmem.rendering import call_content, summaries_text
from localmem.window import LEVELS, Overheads

#: Why the next prompt leaves the cache: neither the request for a page-out nor its call stays in main context.
CALL_TAKEN_OUT = "a page-out's call was taken out"

_THOUGHT = 40
_LARGE_ID = 999_999


def overheads(engine: Engine, form: CallFormat = JSON) -> Overheads:
    """What paging's own texts take in the model's vocabulary, with ids as large as they may get."""
    requests = (
        prompt_text("page_out.txt").replace("{through}", str(_LARGE_ID)),
        prompt_text("merge.txt").format(first=_LARGE_ID, through=_LARGE_ID),
    )
    call = call_content("x " * (_THOUGHT // 2), "page_out", {"through": _LARGE_ID, "summary": ""}, form)
    head = f"- [#{_LARGE_ID}-{_LARGE_ID} 2026-12-30 to 12-31] \n"
    return Overheads(
        request=max(len(engine.chat_format.message("system", request)) for request in requests),
        page_out=len(engine.chat_format.message("assistant", call)) - len(engine.chat_format.opening),
        summary=len(engine.vocabulary.tokenize(head)),
    )


class Summaries:
    """The summaries of one agent."""

    def __init__(self, store: Store, caller: Caller) -> None:
        self._store, self._caller = store, caller

    def standing(self) -> list[Event]:
        """The summaries in force, oldest first: those that no later one has merged."""
        found = self._store.path(kinds=[Kind.SUMMARY])
        merged = {id for summary in found for id in summary.details.get("merged", ())}
        return sorted((s for s in found if s.id not in merged), key=lambda s: int(s.details["first"]))

    def listed(self) -> str:
        """What main context shows of them; empty if there are none."""
        shown = [(summary, self._shown(summary.text)) for summary in self.standing()]
        return summaries_text(shown, prompt_text("summaries.txt"))

    def _shown(self, body: str) -> str:
        """All of a summary, or as much as fits beside the words that say so."""
        return body if self._fits(body) else longest(body, lambda part: self._fits(part + " (cut short)"))

    def _fits(self, body: str) -> bool:
        return len(self._caller.engine.vocabulary.tokenize(body)) <= self._caller.context.window.summary

    # -- writing one

    def arguments(self, through: Sequence[int]) -> Schema:
        """What `page_out` takes, for one of these last events."""
        return arguments({"through": one_of(through), "summary": text(self._caller.context.window.summary * 4)})

    def ask(self, request: str, through: Sequence[int]) -> Written | None:
        """A call of page_out, or None where there is no room to ask. Neither request nor call stays in main context."""
        context = self._caller.context
        tokens = tuple(self._caller.engine.chat_format.message("system", request))
        if context.tokens + len(tokens) + context.window.page_out_call > context.window.n_ctx:
            return None
        context.append(Message(tokens, (), 0))
        try:
            return self._caller.write(
                {"page_out": [self.arguments(through)]},
                max_tokens=context.window.page_out_call,
                longest_thought=_THOUGHT,
            )
        finally:
            context.messages.pop()
            context.changed(CALL_TAKEN_OUT)

    def commit(
        self, written: Written | None, plain: str, details: dict[str, Any], result: dict[str, Any]
    ) -> list[Event]:
        """The call, the summary and the result, in the transaction of the moment; `plain` where none was written."""
        store, events = self._store, []
        body, cut = self._body(written, plain)
        through = int(details["last"])
        if written is not None and written.thought:
            events.append(store.append(Kind.THOUGHT, written.thought, details={"paging": True}))
        call = FunctionCall("page_out", {"through": through, "summary": body})
        stats = written.generation.stats() if written is not None else None
        events.append(store.append(Kind.CALL, call=call, stats=stats, details={"paging": True}))
        events.append(store.append(Kind.SUMMARY, body, details={**details, "cut": cut, "paging": True}))
        outcome = {"function": "page_out", "status": "ok", "paging": True, **result}
        events.append(store.append(Kind.RESULT, "Paged out.", details=outcome))
        return events

    def _body(self, written: Written | None, plain: str) -> tuple[str, bool]:
        """The summary's text, no larger than its share of the window, and whether it was cut."""
        if written is None or written.call is None:
            return plain, False
        body = " ".join(str(written.call.arguments["summary"]).split()) or plain
        kept = longest(body, self._fits)
        return kept, "$.arguments.summary" in written.cuts or len(kept) < len(body)

    # -- merging

    def merge_next(self) -> list[Event]:
        """Merge the summaries of one level that is full; nothing if none is."""
        standing = self.standing()
        due = merge_due([int(summary.details["level"]) for summary in standing])
        if due is None:
            return []
        run = standing[due[0] : due[1]]
        first, last = run[0].details, run[-1].details
        request = prompt_text("merge.txt").format(first=first["first"], through=last["last"])
        # What was written since the prefix in force was built cannot be seen in it.
        new = [summary.text for summary in run if summary.id > self._caller.context.in_force.head]
        written = self.ask(" ".join([request, *new]), [int(last["last"])])
        plain = longest(" ".join(summary.text for summary in run), self._fits)
        details: dict[str, Any] = {"level": min(int(first["level"]) + 1, LEVELS)}
        details |= {"first": first["first"], "last": last["last"], "since": first["since"], "until": last["until"]}
        details["merged"] = [summary.id for summary in run]
        with self._store.transaction():
            return self.commit(written, plain, details, {})
