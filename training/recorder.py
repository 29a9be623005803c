"""The recorder: lets the product live through a scenario, calls dictated, and keeps what main context held.

Each agent is a real one: real DuckDB, tantivy and FAISS files, the real embedder, the real grammar. A search's result
is what the search found; where that is not what the scenario's reply says, the scenario ends there. Nothing is rendered
here: tokens are those of the product's prompts and of what was written under its grammars.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import Any

from localmem.agent import Agent
from localmem.bench.kv_engine import cuts_offered
from localmem.config import Paths, load_config
from localmem.documents import document_from_text
from localmem.engine.llama import LlamaEngine
from localmem.errors import LocalmemError
from localmem.events import Event, FunctionCall, Kind, write_call
from localmem.memory.core import Core
from localmem.memory.store import Store
from localmem.opening import Setting, open_agent, open_store
from localmem.prefix import BLOCK_LIMIT, QUOTED_LIMIT, prompt_text
from localmem.protocols import Embedder, Grammar
from localmem.quoting import whole
from training.dictation import DictatedEngine
from training.embedding import SharedEmbedder
from training.functions import callable_of
from training.quoting import Quotations, Unfit, asked, in_words_of
from training.scenario import SOURCE, Call, Expected, Scenario, Turn

_SEARCHES = ("conversation_search", "archival_memory_search")
_SHOWN = 4
_LONGEST_SUMMARY = 400
#: How much a choice counts in learning: of the first ones in a thought, in arguments, and in a reply of free wording.
_FIRST, _DECIDES, _ARGUMENTS, _FREE = 2, 4.0, 2.0, 0.4
_LABEL = re.compile(r"^- \[(\S+) ", re.MULTILINE)


@dataclass(slots=True)
class Trace:
    """Tokens that main context held, and which of them the model is to write. `kinds` says where each turn begins."""

    tokens: list[int]
    written: list[tuple[int, int]] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    kinds: list[tuple[int, str]] = field(default_factory=list)


class Recorder:
    """Lives through scenarios, one after the other, with one model and one embedder."""

    def __init__(
        self,
        engine: LlamaEngine,
        embedder: Embedder,
        *,
        prompt: str = "compact",
        quoting: bool = True,
        max_steps: int = 8,
    ) -> None:
        self.engine = engine
        self._dictated = DictatedEngine(engine, self._next, self._wrote)
        self.prompt, self.quoting, self._max_steps = prompt, quoting, max_steps
        self._quotations = Quotations()
        self._embedder = SharedEmbedder(embedder)
        self._config = load_config()
        self._calls: deque[Call] = deque()
        self._agent: Agent | None = None
        self._now = datetime.now().astimezone()
        self._gists: list[tuple[int, str]] = []
        self.traces: list[Trace] = []

    # -- one scenario

    def record(self, scenario: Scenario) -> list[Trace]:
        """What main context held, page-outs apart. A scenario that comes to something else ends there."""
        self.traces, self._gists = [], []
        with self.opened(scenario) as agent:
            for turn in scenario.turns:
                try:
                    self.take(agent, turn)
                except (Unfit, LocalmemError):
                    break
        return [trace for trace in self.traces if trace.written]

    @contextmanager
    def opened(self, scenario: Scenario) -> Iterator[Agent]:
        """The scenario's agent, as it is found."""
        # In memory where the system has such a place: each commit is synced.
        where = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
        home = Path(tempfile.mkdtemp(prefix="localmem-", dir=where))
        setting = Setting(
            self._config,
            Paths.under(home),
            engine=self._dictated.engine,
            embedder=self._embedder,
            call_format="json",
            quoting=self.quoting,
            clock=lambda: self._now,
        )
        replies = (str(call.arguments.get("message")) for turn in scenario.turns for call in turn.calls)
        self._embedder.unsought = frozenset(replies)
        with ExitStack() as closing:
            closing.callback(shutil.rmtree, home, ignore_errors=True)
            self._seed(scenario, setting)
            functions = [callable_of(function, self._ran) for function in scenario.functions]
            agent = closing.enter_context(
                open_agent("test", setting=setting, functions=functions, prompt=self.prompt, max_steps=self._max_steps)
            )
            self._agent = agent
            self._now = scenario.start.astimezone()
            for note in scenario.notes:
                agent.archival.insert(note)
            for name, text in scenario.documents:
                agent.archival.add_document(document_from_text(name, text))
            if scenario.documents:
                names = ", ".join(name for name, _ in scenario.documents)
                agent.alert(f"The user gave you documents: {names}. Read them with archival_memory_search.")
            agent.indexer.flush()
            agent.indexer.query_vector("", wait=True)  # so that what is offered does not depend on when it is loaded
            yield agent
            self._agent = None

    def _seed(self, scenario: Scenario, setting: Setting) -> None:
        """Blocks, and what was said on earlier days, paged out since."""
        store = open_store("test", setting)
        self._quotations = Quotations()
        told = scenario.told if self.quoting else ()
        limit = QUOTED_LIMIT if self.quoting else BLOCK_LIMIT
        human = [self._quotations.told(*line) for line in zip_longest(scenario.human, told, fillvalue="")]
        try:
            core = Core(store)
            persona = scenario.persona or prompt_text("personas/default.txt")
            with store.transaction():
                core.add("persona", persona, limit=BLOCK_LIMIT, description="who you are")
                core.add("human", "\n".join(human), limit=limit, description="who the user is")
            if scenario.past:
                self._seed_past(scenario, store)
        finally:
            store.close()

    def _seed_past(self, scenario: Scenario, store: Store) -> None:
        events: list[Event] = []
        for past in scenario.past:
            self._now = past.time.astimezone()
            with store.transaction():
                events.append(store.append(Kind.USER, past.user))
                store.append(Kind.CALL, call=FunctionCall("send_message", {"message": past.agent}))
                events.append(store.append(Kind.ASSISTANT, past.agent))
        self._now = min(self._now + timedelta(minutes=5), scenario.start.astimezone())
        first, last = events[0], events[-1]
        covered: dict[str, Any] = {"level": 0, "first": first.id, "last": last.id, "cut": False}
        covered |= {"since": first.time.isoformat(), "until": last.time.isoformat()}
        call = FunctionCall("page_out", {"through": last.id, "summary": scenario.summary})
        result = {"function": "page_out", "status": "ok", "evicted_through": last.id, "pinned": None}
        with store.transaction():
            store.append(Kind.CALL, call=call, details={"paging": True})
            store.append(Kind.SUMMARY, scenario.summary, details={**covered, "paging": True})
            store.append(Kind.RESULT, "Paged out.", details={**result, "paging": True})

    # -- turns

    def take(self, agent: Agent, turn: Turn, *, dictated: bool = True) -> list[Event]:
        """One turn: its events. Where it is not `dictated` the model answers by itself."""
        self._now += timedelta(minutes=turn.minutes, seconds=7)
        self._calls = deque(turn.calls if dictated else ())
        self._turn = turn
        events = list(self._begin(agent, turn))
        if turn.begins != "page_out":
            self._gists.append((events[0].id, turn.gist))
        agent.indexer.flush()
        if self._calls:
            raise Unfit(f"not all calls were made: {self._calls}")
        return events

    def tried(self, agent: Agent, turn: Turn) -> tuple[list[Event], float]:
        """What the model itself makes of a turn, and in how many seconds. The scenario then goes on behind the turn as
        dictated, if it has calls.

        Unfit if that one does not go as it says. The model may search for what was said, in those very words.
        """
        head, now = agent.store.head, self._now
        if turn.calls:
            self.take(agent, turn)
        after, then, gists = agent.store.head, self._now, list(self._gists)
        unsought, self._embedder.unsought = self._embedder.unsought, frozenset()
        agent.move(head)
        self._now = now
        started = time.perf_counter()
        try:
            return self.take(agent, turn, dictated=False), time.perf_counter() - started
        finally:
            agent.move(after)
            self._now, self._gists, self._embedder.unsought = then, gists, unsought

    def _begin(self, agent: Agent, turn: Turn) -> Iterator[Event]:
        match turn.begins:
            case "login":
                yield from agent.login(opener=True)
            case "heartbeat":
                yield from agent.heartbeat()
            case "timer":
                yield from agent.timer(turn.text)
            case "note":
                yield from agent.login()
            case "warning":
                yield agent.memory_warning()
            case "page_out":
                if not agent.context.cuts(None):
                    raise Unfit("there is nothing to page out")
                yield from self._page_out(agent)
            case _:
                yield from agent.send(turn.text)

    def _page_out(self, agent: Agent) -> Iterator[Event]:
        """A page-out as under pressure, though the window is not full: of the first half or more of the messages."""
        context = agent.context
        cuts = context.cuts(None)
        due = cuts[len(cuts) // 2 :]
        context.due_cuts = lambda turn: due  # type: ignore[method-assign]
        try:
            yield from agent.summarize()
        finally:
            del context.due_cuts

    # -- what the engine asks for

    def _next(self, constraint: Grammar | None) -> str | None:
        """The text of the next call, with what could not be known before."""
        if not self._calls:
            return None
        call = self._calls.popleft()
        arguments = dict(call.arguments)
        if self.quoting and self._turn.begins == "user":
            arguments |= self._quoted(call)
        if call.function == "page_out":
            through = arguments["through"] = cuts_offered(constraint)[0]
            arguments["summary"] = self._summary(through)
        if call.function in _SEARCHES:
            arguments["query"] = self._query(call.function)
        if call.function == "send_message":
            self._check_result()
            arguments["message"] = str(arguments["message"]).replace(SOURCE, self._source())
        return write_call(self._quotations.text(call.thought), call.function, arguments)

    def _quoted(self, call: Call) -> dict[str, str]:
        """The arguments of a call that quote the message, or what was quoted from earlier ones."""
        message, facts, given = self._turn.text, self._turn.expected.fact, call.arguments
        match call.function:
            case "core_memory_append":
                return {"content": self._quotations.content(given["content"], message, facts)}
            case "core_memory_replace":
                old, new = self._quotations.old(given["old_content"]), given["new_content"]
                return {"old_content": old, "new_content": new and self._quotations.content(new, message, facts)}
            case "archival_memory_insert":
                return {"content": whole(message)}
            case "send_message":
                return {"message": self._quotations.text(given["message"])}
            case _ if call.function in _SEARCHES or self._turn.expected.kind != "function":
                return {}
            case _:
                return in_words_of(message, given)

    def expected(self, turn: Turn) -> Expected:
        """What is expected of a turn, in the words in which things are stored."""
        return self._quotations.expected(turn.expected)

    def _summary(self, through: int) -> str:
        """What the turns up to an event held, newest first to go where it is too much for a summary."""
        told = [gist.rstrip(".") for id, gist in self._gists if id <= through and gist]
        self._gists = [(id, gist) for id, gist in self._gists if id > through]
        while len(". ".join(told)) > _LONGEST_SUMMARY:
            told.pop()
        return ". ".join(told) + "." if told else "Small talk."

    def _query(self, function: str) -> str:
        """The first of the good queries that finds what is to be found, and not what is not."""
        expected = self._turn.expected
        quoting = self.quoting and self._turn.begins == "user"
        queries = asked(self._turn.text, expected.query) if quoting else expected.query
        for query in queries:
            if self._finds(function, query):
                return query
        raise Unfit(f"{expected.found!r} is found by none of {queries}")

    def _finds(self, function: str, query: str) -> bool:
        """Whether a search shows what is to be found, and not what is not."""
        agent, expected = self._agent, self._turn.expected
        assert agent is not None
        if function == "conversation_search":
            found = agent.recall.search(query, page_size=_SHOWN, exclude=agent.context.events)
        else:
            found = agent.archival.search(query, page_size=_SHOWN)
        texts = " ".join(hit.text for hit in found.hits).casefold()
        return expected.found.casefold() in texts and not (expected.absent and expected.absent.casefold() in texts)

    def _result(self) -> str:
        assert self._agent is not None
        last = self._agent.store.last(Kind.RESULT)
        return str(last.details.get("shown_text", last.text)) if last is not None else ""

    def _check_result(self) -> None:
        expected = self._turn.expected
        if expected.found and expected.found.casefold() not in self._result().casefold():
            raise Unfit(f"{expected.found!r} was not found")

    def _source(self) -> str:
        """The label of the first hit with what was to be found."""
        found = self._turn.expected.found.casefold()
        for line in self._result().splitlines():
            label = _LABEL.match(line)
            if label is not None and found in line.casefold():
                return label[1]
        if SOURCE in str(self._turn.calls[-1].arguments):
            raise Unfit("no hit to cite")
        return ""

    def _wrote(self, prompt: Sequence[int], written: Sequence[int], chosen: Sequence[int]) -> None:
        """Take a generation down: behind the last one if main context was only appended to."""
        trace = self.traces[-1] if self.traces else None
        # What follows a call in main context is the end of its message.
        ending = self._dictated.chat_format.ending
        if trace is None or list(prompt[: len(trace.tokens)]) != trace.tokens:
            trace = Trace([])
            self.traces.append(trace)
        trace.kinds.append((len(prompt), self._turn.expected.kind))
        trace.tokens = [*prompt, *written, *ending]
        trace.written.append((len(prompt), len(prompt) + len(written)))
        trace.chosen += [len(prompt) + at for at in chosen]
        trace.weights += self._weights(written, chosen)

    def _weights(self, written: Sequence[int], chosen: Sequence[int]) -> list[float]:
        """How much each choice in a call counts: the thought's first words decide, and so do the few choices that are
        left where all else is quoted; words of thanks are free."""
        pieces = list(map(self._dictated.vocabulary.token_bytes, written))
        text, starts = b"".join(pieces), [0, *accumulate(map(len, pieces))]
        thought, sends = text.index(b', "function": '), b'"send_message"' in text
        answers = bool(self._turn.expected.answer) and sends
        quotes = self.quoting and self._turn.begins == "user"
        weights = []
        for number, at in enumerate(chosen):
            if starts[at] < thought:
                weights.append(_DECIDES if number < _FIRST else _ARGUMENTS if answers else 1.0)
            elif sends:
                weights.append(_ARGUMENTS if answers else _FREE)
            else:
                weights.append(_DECIDES if quotes else _ARGUMENTS)
        return weights

    def _ran(self, name: str) -> str:
        """What a user function returns."""
        return self._turn.expected.line if self._turn.expected.functions == (name,) else "done"
