"""One step of a turn: the model writes a call, it takes effect, and call, effect and result are committed together.

A user function is the exception: its call is committed as started before it runs, since what it does cannot be rolled
back; if the process dies meanwhile, its outcome is recorded as unknown at the next open, and it is not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from localmem.events import Event, FunctionCall, Kind
from localmem.fitting import longest
from localmem.functions import Function, Outcome
from localmem.generating import Caller, OnText, Written
from localmem.grammar.schema import Schema
from localmem.memory.store import Store
from localmem.memory_functions import MemoryFunctions
from localmem.paging import Paging
from localmem.user_functions import UserFunctions

_CUT_MARK = " [cut]"
_TOO_LONG = Outcome("Not done: the call was too long. Think shorter and call again.")


class Steps:
    """Takes the steps of turns, one at a time."""

    def __init__(
        self,
        store: Store,
        memory_functions: MemoryFunctions,
        functions: UserFunctions,
        caller: Caller,
        paging: Paging,
    ) -> None:
        self._store = store
        self._built_in = memory_functions
        self._functions = functions
        self._caller = caller
        self._paging = paging
        self._turn = 0
        self._shown: list[int | str] = []

    def begin(self, trigger: Event) -> None:
        """Begin the turn of an event."""
        self._turn = trigger.id
        self._shown = []
        said = trigger.text[: trigger.details.get("shown_chars")]
        message = said if trigger.kind is Kind.USER else ""
        self._built_in.begin_turn(message)
        self._functions.begin_turn(message)

    def take(self, *, must_send: bool, on_text: OnText | None) -> tuple[list[Event], bool]:
        """One step: its committed events, and whether it ended the turn."""
        written = self._caller.write(
            self._variants(must_send), max_tokens=self._caller.context.window.call, on_text=on_text
        )
        if written.call is None:
            return self._interrupted(written), True
        name = written.call.function
        if not written.cuts and name != "page_out":
            self._functions.called()
        if name == "page_out" and written.cuts <= {"$.arguments.summary"}:
            return self._paging.called(written, self._turn), False
        if name == "send_message":
            return self._send(written, written.call), True
        if (function := self._functions.get(name)) is not None:
            return self._run_user_function(written, written.call, function)
        return self._run_built_in(written, written.call), False

    def _variants(self, must_send: bool) -> dict[str, list[Schema]]:
        """The functions that exist now, each with the argument objects that it takes now."""
        if must_send:
            return {"send_message": [self._built_in.send_message_arguments()]}
        variants = self._built_in.variants() | self._functions.variants()
        page_out = self._paging.variants(self._turn)
        return variants | {"page_out": page_out} if page_out else variants

    # -- the kinds of calls

    def _send(self, written: Written, call: FunctionCall) -> list[Event]:
        message = str(call.arguments["message"])
        details: dict[str, Any] = {"shown": list(dict.fromkeys(self._shown))} if self._shown else {}
        if written.cuts:
            details["cut"] = True
        with self._store.transaction():
            events = self._commit_call(written, call)
            reply = self._store.append(Kind.ASSISTANT, message, details=details)
        events.append(reply)
        self._paging.add_written(written, events, self._turn)
        return events

    def _run_built_in(self, written: Written, call: FunctionCall) -> list[Event]:
        with self._store.transaction():
            events = self._commit_call(written, call)
            outcome = self._effect(written, call)
            result = self._commit_result(call.function, outcome)
        self._paging.add_written(written, events, self._turn)
        self._paging.add(result, self._turn)
        self._shown += outcome.shown
        return [*events, result]

    def _effect(self, written: Written, call: FunctionCall) -> Outcome:
        """Run a built-in function. A text to store that the budget cut is marked; a call cut elsewhere is not run."""
        if not written.cuts:
            return self._built_in.call(call.function, call.arguments)
        if written.cuts != {"$.arguments.content"}:
            return _TOO_LONG
        marked = {"content": f"{call.arguments['content']}{_CUT_MARK}"}
        outcome = self._built_in.call(call.function, {**call.arguments, **marked})
        fault = "only repeated itself" if written.generation.closed_by == "loop" else "was too long"
        return replace(outcome, text=f"Your text {fault}; its end is missing, marked{_CUT_MARK}.\n{outcome.text}")

    def _run_user_function(self, written: Written, call: FunctionCall, function: Function) -> tuple[list[Event], bool]:
        with self._store.transaction():
            events = self._commit_call(written, call, started=True)
        self._paging.add_written(written, events, self._turn)
        try:
            # Where the budget ended the call, the model may not even have chosen the function.
            outcome = _TOO_LONG if written.cuts or written.generation.closed_by else function.call(call.arguments)
            status = "ok" if outcome.ok else "failed"
        except KeyboardInterrupt:
            outcome, status = Outcome("Interrupted by the user; how far it got is unknown."), "unknown"
        except BaseException as error:
            unknown = Outcome(f"It ended the program ({type(error).__name__}); how far it got is unknown.")
            self._paging.add(self._commit_result(call.function, unknown, "unknown"), self._turn)
            raise
        with self._store.transaction():
            result = self._commit_result(call.function, outcome, status)
        self._paging.add(result, self._turn)
        return [*events, result], status == "unknown"

    def _interrupted(self, written: Written) -> list[Event]:
        """Keep what was said before the interrupt, and say that it was."""
        with self._store.transaction():
            events = [self._store.append(Kind.THOUGHT, written.thought)] if written.thought else []
            said = self._store.append(
                Kind.ASSISTANT, written.message, stats=written.generation.stats(), details={"interrupted": True}
            )
            events.append(said)
        self._paging.add_written(written, events, self._turn)
        return [*events, *self.stop()]

    def stop(self) -> list[Event]:
        """Tell that the turn ends here."""
        alert = self._store.append(Kind.ALERT, "The user interrupted you here.")
        self._paging.add(alert, self._turn)
        return [alert]

    # -- records

    def _commit_call(self, written: Written, call: FunctionCall, *, started: bool = False) -> list[Event]:
        events = [self._store.append(Kind.THOUGHT, written.thought)] if written.thought else []
        details = {"started": True} if started else {}
        events.append(self._store.append(Kind.CALL, call=call, stats=written.generation.stats(), details=details))
        return events

    def _commit_result(self, function: str, outcome: Outcome, status: str | None = None) -> Event:
        details: dict[str, Any] = {"function": function, "status": status or ("ok" if outcome.ok else "failed")}
        if outcome.shown:
            details["shown"] = list(outcome.shown)
        if outcome.search:
            details["search"] = True
        shown = self._fit(outcome.text)
        if shown != outcome.text:
            details["shown_text"] = shown
        return self._store.append(Kind.RESULT, outcome.text, details=details)

    def _fit(self, body: str) -> str:
        """A result as the window can hold it; all of it stays in recall."""
        most = self._caller.context.window.result

        def fits(part: str) -> bool:
            return self._paging.size("tool", part) + _MARGIN <= most

        if fits(body):
            return body
        kept = longest(body, lambda part: fits(part + _REST))
        return f"{kept}… ({len(body) - len(kept)} more characters)"

    def recover(self) -> None:
        """Record as unknown the outcome of a user function that was running when the process died."""
        for event, after in pairwise([*self._store.path(kinds=[Kind.CALL, Kind.RESULT]), None]):
            if event is None or event.call is None or not event.details.get("started") or event.details.get("died"):
                continue
            if after is not None and after.kind is Kind.RESULT:
                continue
            details: Mapping[str, Any] = {"function": event.call.function, "status": "unknown"}
            with self._store.transaction():
                self._store.amend(event.id, details={"died": True})
                self._store.append(Kind.RESULT, _DIED.format(function=event.call.function), details=details)


_DIED = (
    "The program ended while {function} was running; whether it was done is unknown. Do not repeat it unless asked to."
)
_MARGIN = 8
_REST = "… (1000000 more characters)"
