"""Agent: the loop. An event comes in, the model writes calls until it sends a message, and all of it is committed.

event -> make room -> call (valid by grammar) -> effect and result, committed together -> event ... -> send_message.
Knows neither files nor flags: `opening.open_agent` puts the parts together.
"""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from localmem.context import MainContext
from localmem.documents import document_from_text
from localmem.edits import BlockEdits
from localmem.errors import ConfigError, ContextError
from localmem.events import TRIGGERS, Event, Kind
from localmem.extracting import Asking, extract
from localmem.generating import Caller, OnText, Speech
from localmem.memory.archival import Archival
from localmem.memory.core import Core
from localmem.memory.indexing import Indexer
from localmem.memory.recall import Recall
from localmem.memory.store import Store
from localmem.memory_functions import MemoryFunctions
from localmem.paging import Paging
from localmem.prefix import BLOCK_LIMIT, prefix_at_limits
from localmem.protocols import Engine
from localmem.rendering import login_text
from localmem.reopening import Reopening
from localmem.steps import Steps
from localmem.user_functions import UserFunctions


@dataclass(frozen=True, slots=True)
class Parts:
    """What an agent is made of."""

    store: Store
    core: Core
    recall: Recall
    archival: Archival
    indexer: Indexer
    engine: Engine
    context: MainContext
    memory_functions: MemoryFunctions
    functions: UserFunctions
    system: Sequence[int]
    preset: str
    speech: Speech
    reopening: Reopening


class Agent:
    """A conversation partner with a memory. Made by `open_agent`; use it as a context manager, from one thread."""

    def __init__(self, name: str, parts: Parts, *, max_steps: int = 8) -> None:
        self.name = name
        self.engine = parts.engine
        self.store, self.core = parts.store, parts.core
        self.recall, self.archival = parts.recall, parts.archival
        self.context = parts.context
        self.indexer = parts.indexer
        #: Whether closing the agent closes the model too: one that was handed over loaded stays with its owner.
        self.owns_engine = False
        self._max_steps, self._stop = max_steps, False
        self._system, self._preset, self._memory_functions = parts.system, parts.preset, parts.memory_functions
        caller = Caller(parts.engine, parts.context, parts.indexer, parts.speech)
        self._paging = Paging(parts.store, parts.core, caller, parts.system, parts.preset)
        self._steps = Steps(parts.store, parts.memory_functions, parts.functions, caller, self._paging)
        self._edits = BlockEdits(parts.store, parts.core, self._paging, self._check_window)
        self._steps.recover()
        self._reopening, self._idle_before = parts.reopening, parts.engine.idle_tokens
        self._paging.remember(*parts.reopening.remembered(parts.system, parts.context.window.n_ctx))
        self._paging.rebuild("open")
        parts.reopening.restore(parts.context)
        # A program that ends without closing would leave DuckDB and llama.cpp to be torn down in any order.
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Save the caches and let go of the file and the model. What was said is on disk already."""
        atexit.unregister(self.close)
        with ExitStack() as closing:
            if self.owns_engine:
                closing.callback(self.engine.close)
            closing.callback(self.store.close)
            closing.callback(self.indexer.close)
            closing.callback(self._reopening.save, self.context)
            closing.callback(self._paging.settle)

    # -- what begins a turn

    def send(self, text: str, *, on_text: OnText | None = None) -> Iterator[Event]:
        """Say something to the agent. Yields each event once it is committed: your message, the calls, the reply.

        Where room has to be made first, the events of that come before. The turn goes on as the iterator is read.
        `on_text` gets the kind (THOUGHT or ASSISTANT) and the next piece of its text as it is generated: provisional
        until the event comes.
        """
        if not text.strip():
            raise ConfigError("The message is empty; say something.")
        return self._turn(Kind.USER, text, {}, on_text)

    def reply(self, text: str) -> str:
        """Say something to the agent and return what it answers."""
        said = [event.text for event in self.send(text) if event.kind is Kind.ASSISTANT]
        return said[-1] if said else ""

    def extract(
        self, text: str, type: Any, *, max_tokens: int = 512, temperature: float = 0.0, allow_cut: bool = False
    ) -> Any:
        """What `type` asks for, out of `text`; see `localmem.extracting`. GrammarError if cut, unless `allow_cut`."""
        with self.indexer.paused():
            found = extract(self.engine, text, type, Asking(max_tokens, temperature))
        self.idle()
        return found.value if allow_cut else found.whole()

    def heartbeat(self, *, on_text: OnText | None = None) -> Iterator[Event]:
        """Let the agent act without being spoken to."""
        return self._turn(Kind.HEARTBEAT, "heartbeat: time to act, if there is something to do.", {}, on_text)

    def timer(self, text: str, *, on_text: OnText | None = None) -> Iterator[Event]:
        """A timer has run out; `text` says what it was set for."""
        return self._turn(Kind.TIMER, f"timer: {text}", {}, on_text)

    def login(self, who: str = "the user", *, opener: bool = False, on_text: OnText | None = None) -> Iterator[Event]:
        """Somebody is here, after so long. With `opener`, the agent speaks first."""
        last = self.store.last()
        away = None if last is None else (self.store.clock() - last.time).total_seconds()
        text, details = login_text(who, away, len(self.recall)), {"who": who, "away_s": away}
        self.indexer.load()  # while the first message is typed
        if opener:
            return self._turn(Kind.LOGIN, text, details, on_text)
        return self._note(Kind.LOGIN, text, details)

    def alert(self, text: str) -> Event:
        """Tell the agent something without asking for an answer."""
        *_, alert = self._note(Kind.ALERT, text, {})
        return alert

    def _note(self, kind: Kind, text: str, details: Mapping[str, Any]) -> Iterator[Event]:
        shown = self._paging.shown(text)
        yield from self._paging.make_room_for(shown)
        cut = {} if shown == text else {"shown_text": f"{shown}…"}
        event = self.store.append(kind, text, details={**details, **cut})
        self._paging.add(event, event.id)
        self.idle()
        yield event

    # -- the turn

    def _turn(self, kind: Kind, text: str, details: Mapping[str, Any], on_text: OnText | None) -> Iterator[Event]:
        shown = self._paging.shown(text)
        yield from self._paging.make_room_for(shown)
        trigger = self._commit_trigger(kind, text, shown, details)
        self._paging.add(trigger, trigger.id)
        yield trigger
        yield from self._answer(trigger, on_text)

    def _commit_trigger(self, kind: Kind, text: str, shown: str, details: Mapping[str, Any]) -> Event:
        """Commit what begins the turn; a message too long for the window becomes a document as well."""
        if shown == text:
            return self.store.append(kind, text, details=details)
        with self.store.transaction():
            event = self.store.append(kind, text, details={**details, "shown_chars": len(shown)})
            name = f"message-{event.id}"
            self.archival.add_document(document_from_text(name, text), tied=True)
            note = f"(a long message of {len(text)} characters; all of it is in the document {name}: search it)"
            return self.store.amend(event.id, details={"document": name, "shown_text": f"{shown}… {note}"})

    def _answer(self, trigger: Event, on_text: OnText | None) -> Iterator[Event]:
        """Steps until the model sends a message, which the last step always does; then relieve the pressure."""
        self._stop = False
        self._steps.begin(trigger)
        for number in range(1, self._max_steps + 1):
            yield from self._paging.make_room(trigger.id)
            if self._stop:
                yield from self._steps.stop()
                return
            events, ended = self._steps.take(must_send=number == self._max_steps, on_text=on_text)
            yield from events
            if ended:
                break
        if not self._stop and events[-1].kind is Kind.ASSISTANT:
            yield from self._paging.relieve()
        self.idle()

    def idle(self) -> None:
        """Nobody waits for the agent now: what the next turn begins with is read, in the background and until then."""
        self._paging.idle()

    def interrupt(self) -> None:
        """Stop the generation that is going on; the turn ends, and what was said so far is kept. From any thread."""
        self._stop = True
        self.engine.interrupt()

    # -- the head: undo, checkpoints

    @property
    def unanswered(self) -> Event | None:
        """The event of the newest turn if it never got a reply: the process died, or the turn was interrupted."""
        last = self.store.last(*TRIGGERS, Kind.ASSISTANT)
        return last if last is not None and last.kind in TRIGGERS - {Kind.LOGIN} else None

    def resume(self, *, on_text: OnText | None = None) -> Iterator[Event]:
        """Answer the message that was left unanswered."""
        trigger = self.unanswered
        return iter(()) if trigger is None else self._answer(trigger, on_text)

    def retry(self, *, on_text: OnText | None = None) -> Iterator[Event]:
        """Answer the last message of the user anew, from the state in which it was first read."""
        last = self.store.last(Kind.USER)
        if last is None:
            raise ContextError("There is no message to answer again; say something first.")
        self.move(last.id)
        return self._answer(last, on_text)

    def pop(self, count: int = 1) -> Event | None:
        """Go back before the last `count` messages of the user, memory edits undone. The first of those messages."""
        users = self.store.path(kinds=[Kind.USER])
        if count < 1 or not users:
            return None
        first = users[-min(count, len(users))]
        self.move(first.parent)
        return first

    def save(self, name: str) -> None:
        """Give the present state a name."""
        self.store.bookmark(name)

    def load(self, name: str) -> None:
        """Go back (or forward) to the state that has this name."""
        saved = self.store.bookmarks()
        if name not in saved:
            raise ConfigError(f"Nothing is saved as {name!r}; saved are: {', '.join(saved) or 'none'}.")
        self.move(saved[name])

    def move(self, head: int | None) -> None:
        """Move the head; nothing is deleted."""
        self.store.move_head(head)
        self._memory_functions.forget_pages()
        self._paging.rebuild("rewind")
        self.idle()

    def summarize(self) -> Iterator[Event]:
        """Page out now, whatever the pressure."""
        if self.context.cuts(None):
            yield from self._paging.page_out(None)
            self.idle()

    def memory_warning(self) -> Event:
        """Tell the model of memory pressure now."""
        deque(self._paging.make_room_for(""), maxlen=0)
        return self._paging.warn()

    def set_block(self, label: str, value: str) -> Event:
        """Change a block by hand; the model is told. ConfigError for an unknown block, FunctionError over its limit."""
        return self._edits.set(label, value)

    def add_block(self, label: str, value: str = "", *, limit: int = BLOCK_LIMIT, description: str = "") -> Event:
        """Add a block to core memory; the model is told. ConfigError if the label is taken, or the window too small."""
        return self._edits.add(label, value, limit=limit, description=description)

    def undo_block(self, label: str) -> Event:
        """Take the last edit of a block back; the model is told. ConfigError if there is none."""
        return self._edits.undo(label)

    def _check_window(self) -> None:
        self.context.window.check(prefix_at_limits(self.engine, self.core, self._system, self._preset))

    def stats(self) -> dict[str, Any]:
        """Counts of what is stored and what it cost since the agent was opened."""
        return {
            "messages": len(self.recall),
            "passages": len(self.archival),
            "documents": len(self.archival.documents()),
            "not_embedded": self.indexer.pending,
            "idle_tokens": self.engine.idle_tokens - self._idle_before,
            "restored_tokens": self._reopening.restored,
            **self.context.report(),
        }

    def why(self) -> dict[str, Any] | None:
        """What the last reply was shown: its sources, and the calls of its turn. None before the first reply."""
        reply = self.store.last(Kind.ASSISTANT)
        if reply is None:
            return None
        begun = max((e.id for e in self.store.path(kinds=[*TRIGGERS]) if e.id < reply.id), default=0)
        calls = [e for e in self.store.path(after=begun, kinds=[Kind.CALL]) if e.id < reply.id]
        return {"reply": reply, "shown": list(reply.details.get("shown", ())), "calls": calls}
