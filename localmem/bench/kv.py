"""What the KV cache spares: one scripted conversation under several context policies, turn by turn.

Each policy has an engine and an agent of its own, and every turn is taken under all of them, one after the other, so
that a machine that slows down slows all of them down. Nothing is mocked: what is dictated is only which token comes
next (see `kv_engine`). Between turns the user reads and types: what is read ahead in the background is waited for, and
counted apart. Measures; the figures are made in `kv_figures`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from localmem.agent import Agent
from localmem.bench.kv_engine import Choice, Dictated
from localmem.bench.kv_policies import OURS, POLICIES, YARDSTICKS, SystemMessage
from localmem.bench.kv_script import TURNS, Clock, Turn, script
from localmem.config import ModelConfig, Paths, load_config
from localmem.engine.load import load_engine
from localmem.errors import ConfigError
from localmem.events import Event, Kind
from localmem.opening import Setting, open_agent
from localmem.protocols import Generation

N_CTX = 4096
PRESET = "compact"


@dataclass(frozen=True, slots=True)
class Read:
    """One generation: what it called, its tokens, and the seconds to its first one."""

    call: str
    prompt: int
    reused: int
    generated: int
    ttft_s: float

    @classmethod
    def of(cls, call: str, done: Generation) -> Read:
        return cls(call, done.prompt_tokens, done.reused_tokens, len(done.tokens), round(done.ttft_s, 5))

    @property
    def prefilled(self) -> int:
        return self.prompt - self.reused


@dataclass(frozen=True, slots=True)
class Taken:
    """One turn under one policy, and the idle time after it.

    `reads` are its generations, those of a page-out (`paged_out` of them) last. `wait_s` is what passed between the
    user's message and the first token: `ttft_s` of the first generation, and what the loop does before it. `said` is
    what was committed, to compare.
    """

    policy: str
    turn: int
    reads: tuple[Read, ...]
    paged_out: int
    edits: bool
    wait_s: float
    idle_tokens: int
    idle_s: float
    context: int
    said: tuple[str, ...]

    @property
    def prefilled(self) -> int:
        """Tokens that were read while somebody waited."""
        return sum(read.prefilled for read in self.reads)

    def as_dict(self) -> dict[str, Any]:
        """The turn, JSON-ready."""
        return asdict(self)


class SameCuts:
    """Page-outs end at the same message under every policy: at the last that is on offer under the first of them.

    Ours is the first. It has the smallest prefix, and so is offered earlier cuts than the others, who have its last one
    on offer, too.
    """

    def __init__(self) -> None:
        self._through: list[int] = []

    def chooser(self) -> Choice:
        """What picks the cuts of one policy."""
        done = 0

        def choose(offered: Sequence[int]) -> int:
            nonlocal done
            if done == len(self._through):
                self._through.append(offered[-1])
            done += 1
            return min(offered, key=lambda through: abs(through - self._through[done - 1]))

        return choose


class Side:
    """One policy: its engine, its agent, and the turns that it has taken."""

    def __init__(self, policy: str, agent: Agent, dictated: Dictated, clock: Clock) -> None:
        self.policy, self.agent, self._dictated, self._clock = policy, agent, dictated, clock
        yardstick = YARDSTICKS.get(policy)
        self._system = SystemMessage(agent, yardstick) if yardstick is not None else None

    def take(self, turn: Turn) -> Taken:
        """One turn of the script, what is to follow it, and the idle time until the next."""
        self._clock.turn = turn.number
        dictated, first, before = self._dictated, len(self._dictated.generations), self._dictated.idle_tokens
        dictated.calls.extend(turn.answers)
        started, said = time.perf_counter(), list(self._events(self.agent.send(turn.user)))
        answered = len(dictated.generations)
        if turn.warned:
            said.append(self.agent.memory_warning())
        if turn.summary is not None:
            dictated.summaries.append(turn.summary)
            said += self._events(self.agent.summarize())
        reads = [Read.of(*generation) for generation in dictated.generations[first:]]
        idle = time.perf_counter()
        self.agent.idle()
        dictated.wait()
        return Taken(
            self.policy,
            turn.number,
            tuple(reads),
            paged_out=len(dictated.generations) - answered,
            edits=turn.edits,
            wait_s=round(dictated.began_at[first] - started + reads[0].ttft_s, 5),
            idle_tokens=dictated.idle_tokens - before,
            idle_s=round(time.perf_counter() - idle, 3),
            context=self.agent.context.tokens,
            said=tuple(map(_said, said)),
        )

    def say(self, text: str, turn: int, answers: Sequence[str]) -> str:
        """One turn with dictated answers, or, where there are none, a reply of the model's own; and the idle time."""
        self._clock.turn = turn
        self._dictated.calls.extend(answers)
        self.agent._max_steps = max(1, len(answers))  # the last step always belongs to send_message
        said = [event.text for event in self._events(self.agent.send(text)) if event.kind is Kind.ASSISTANT]
        self.agent.idle()
        self._dictated.wait()
        return said[-1]

    def interrupt(self) -> None:
        """Break off what goes on, with a KeyboardInterrupt in its thread."""
        self._dictated.interrupt()

    def _events(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events, the system message rebuilt after each that asks for it."""
        for event in events:
            if self._system is not None:
                self._system.after(event)
            yield event


def _said(event: Event) -> str:
    """What an event says, but for what a policy's own size changes."""
    if event.kind is Kind.ALERT:
        return str(event.kind)
    call = "" if event.call is None else f"{event.call.function} {dict(event.call.arguments)}"
    return f"{event.kind} {call or event.text}"


@contextmanager
def opened(policy: str, model: ModelConfig, n_ctx: int, choose: Choice) -> Iterator[Side]:
    """A new agent under a policy, on an engine of its own; both are gone afterwards."""
    with ExitStack() as closing:
        home = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        engine = load_engine(replace(model, idle_rebase=policy == OURS), n_ctx=n_ctx)
        closing.callback(engine.close)
        dictated, clock = Dictated(engine, choose, reads_ahead=policy == OURS), Clock()
        agent = closing.enter_context(open_in(home, "kv", dictated, clock))
        yield Side(policy, agent, dictated, clock)


def open_in(home: Path, name: str, dictated: Dictated, clock: Clock, preset: str = PRESET) -> Agent:
    """An agent in `home`, found by keyword only: embedding is no part of this."""
    setting = Setting(
        load_config(), Paths.under(home), engine=dictated.engine, use_embedder=False, call_format="json", clock=clock
    )
    return open_agent(name, setting=setting, prompt=preset)


class Contest:
    """The policies, each with an engine of its own. Use it as a context manager."""

    def __init__(self, model: ModelConfig, policies: Sequence[str] = POLICIES, *, n_ctx: int = N_CTX) -> None:
        unknown = set(policies) - set(POLICIES)
        if unknown or not policies:
            raise ConfigError(f"The policies are {', '.join(POLICIES)}; unknown: {', '.join(sorted(unknown)) or '-'}.")
        self._closing = ExitStack()
        cuts = SameCuts()
        with ExitStack() as undo:
            self.sides = [undo.enter_context(opened(policy, model, n_ctx, cuts.chooser())) for policy in policies]
            self._closing = undo.pop_all()

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def interrupt(self) -> None:
        """Stop what is being generated."""
        for side in self.sides:
            side.interrupt()

    def settings(self) -> Mapping[str, Any]:
        """What was measured, for a report."""
        engine = self.sides[0].agent.engine
        return {"model": engine.name, "n_ctx": engine.n_ctx}

    def measure(self, turns: int = TURNS, on_taken: Callable[[Taken], None] | None = None) -> list[Taken]:
        """All turns under all policies; `on_taken` gets each as it is done.

        The policies take turns at being first, but for page-outs.
        """
        taken = []
        for turn in script(turns):
            shift = 0 if turn.summary is not None else turn.number % len(self.sides)
            for side in [*self.sides[shift:], *self.sides[:shift]]:
                taken.append(side.take(turn))
                if on_taken is not None:
                    on_taken(taken[-1])
        return taken
