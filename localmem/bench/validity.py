"""Whether every call that a model writes is valid: it parses, fits its schema, is complete, and can be executed.

Real agents live at random (see `random_life`); each call they ask for is narrowed to one of the functions that exist at
that moment, so that all of them have their turn, and written hot and with a budget of its own, often far too small.
Calls are in localmem's own JSON. What was written is judged by `jsonschema`, which knows nothing of grammars; then the
agent itself executes it.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jsonschema

from localmem.bench.first_call import compile_smaller, document_of
from localmem.bench.random_life import Clock, RandomLife
from localmem.bench.rounds import Progress
from localmem.bench.user_functions import bound_only
from localmem.config import Paths, load_config
from localmem.engine.spelling import TokenBytes
from localmem.errors import ContextError, GrammarError
from localmem.events import Event, Kind
from localmem.grammar.compile import Backend
from localmem.memory.embedder import HashEmbedder
from localmem.opening import Setting, open_agent
from localmem.protocols import Engine, Generation, Grammar, TextCallback

Fate = Literal["executed", "handed back", "failed", "raised", "not executed"]

_LARGEST = 512
_A_LIFE = 40  # calls of one agent, before the next one begins
_TURN = 4
_TIGHT = 0.2  # the share of calls that get no token more than the shortest legal document takes


@dataclass(frozen=True, slots=True)
class Plan:
    """How calls are asked for. User functions are only bound, not executed, unless `execute` says so."""

    calls: int = 200
    temperature: float = 2.0
    seed: int = 0
    backend: Backend | None = None
    functions: Sequence[Callable[..., Any]] = ()
    execute: bool = False


@dataclass(slots=True)
class Call:
    """One call: its budget in tokens, what was written, and what became of it.

    `fate` is what the agent did: "handed back" where it rightly refuses to act on a call that the budget cut, "raised"
    where a user's function raised an exception of its own. `wrong` says what is not valid; empty if nothing is.
    """

    function: str
    shortest: int
    budget: int
    generation: Generation | None = None
    wrong: str = ""
    parsed: bool = False
    fits: bool = False
    complete: bool = False
    fate: Fate = "not executed"

    @property
    def valid(self) -> bool:
        return not self.wrong and self.fate in ("executed", "handed back", "raised")


class _Stop(Exception):
    """Enough calls were made, or one was wrong and must not reach the agent."""


class _Asking:
    """An engine that lets another one write, each call narrowed to one function, hot, and with a budget of its own."""

    def __init__(self, engine: Engine, plan: Plan, chance: random.Random) -> None:
        self.calls: list[Call] = []
        self.left = 0
        self._engine, self._plan, self._chance = engine, plan, chance
        self._spell = TokenBytes(engine.vocabulary)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        constraint: Grammar | None = None,
        max_tokens: int = 256,
        temperature: float | None = None,
        seed: int | None = None,
        on_text: TextCallback | None = None,
    ) -> Generation:
        if len(self.calls) >= self.left:
            raise _Stop
        asked = document_of(constraint)
        source = replace(asked, schema=self._narrowed(asked.schema))
        schema = source.schema
        grammar, _ = compile_smaller(source, self._plan.backend)  # what is smaller allows nothing that is not allowed
        shortest = self._shortest(grammar)
        budget = self._budget(shortest, min(max_tokens, _LARGEST))
        call = Call(schema["properties"]["function"]["const"], shortest, budget)
        self.calls.append(call)
        try:
            generation = call.generation = self._engine.generate(
                prompt,
                constraint=grammar,
                max_tokens=budget,
                temperature=self._plan.temperature,
                seed=self._chance.getrandbits(32),
                on_text=on_text,
            )
        except GrammarError as error:
            call.wrong = f"no document was written: {error}"
            raise _Stop from error
        if generation.finish == "interrupted":
            self.calls.pop()
            raise KeyboardInterrupt
        judge(call, generation, schema)
        if call.wrong:
            raise _Stop
        return generation

    def _narrowed(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """One of the functions with one of the argument objects that it takes now."""
        branches: dict[str, list[Any]] = {}
        for branch in schema.get("anyOf", [schema]):
            branches.setdefault(branch["properties"]["function"]["const"], []).append(branch)
        name = self._chance.choice(sorted(branches))
        chosen: dict[str, Any] = self._chance.choice(branches[name])
        return chosen

    def _shortest(self, grammar: Grammar) -> int:
        end = grammar.bind(self.vocabulary).end("")
        return 1 if end is None else len(self._spell.end(end))

    def _budget(self, shortest: int, most: int) -> int:
        """As many budgets between 30 and 60 as between 250 and 500, and some that leave nothing to choose."""
        if self._chance.random() < _TIGHT or most <= shortest:
            return shortest
        return round(math.exp(self._chance.uniform(math.log(shortest), math.log(most))))

    def interrupt(self) -> None:
        self._engine.interrupt()

    def close(self) -> None: ...


def judge(call: Call, generation: Generation, schema: Mapping[str, Any]) -> None:
    """Say of a generation whether it parses, fits `schema` and is complete; in `wrong`, what is not as it must be."""
    if len(generation.tokens) > call.budget:
        call.wrong = f"{len(generation.tokens)} tokens were written, {call.budget} allowed"
    try:
        document = json.loads(generation.text)
        call.parsed = True
        jsonschema.Draft202012Validator(schema).validate(document)
        call.fits = True
    except json.JSONDecodeError as error:
        call.wrong = f"does not parse: {error}"
    except jsonschema.ValidationError as error:
        call.wrong = f"does not fit its schema: {error.json_path}: {error.message[:200]}"
    call.complete = call.parsed and generation.finish in ("stop", "closed")
    if call.parsed and not call.complete:
        call.wrong = call.wrong or f"ended with {generation.finish}"


def run_validity(engine: Engine, plan: Plan, progress: Progress | None = None) -> list[Call]:
    """`plan.calls` calls. They stop early at the first one that the agent could not even be given."""
    chance = random.Random(plan.seed)
    asking = _Asking(engine, plan, chance)
    while len(asking.calls) < plan.calls:
        asking.left = min(plan.calls, len(asking.calls) + _A_LIFE)
        _live(asking, plan, chance, progress)
        if asking.calls and asking.calls[-1].wrong:
            break
    return asking.calls


def _live(asking: _Asking, plan: Plan, chance: random.Random, progress: Progress | None) -> None:
    """One agent's life, up to `asking.left` calls. Every second agent quotes."""
    functions = [run if plan.execute else bound_only(run) for run in plan.functions]
    names = {run.__name__ for run in functions}
    clock = Clock(chance)
    first = len(asking.calls)
    with tempfile.TemporaryDirectory() as home:
        setting = Setting(
            load_config(),
            Paths.under(Path(home)),
            engine=asking,
            embedder=HashEmbedder(),
            clock=clock,
            call_format="json",
            quoting=first // _A_LIFE % 2 == 1,
        )
        with open_agent("bench", setting=setting, functions=functions, prompt="compact", max_steps=_TURN) as agent:
            fates = _Fates(asking.calls[first:], names if plan.execute else set())
            try:
                with closing(RandomLife(agent, clock, chance).events()) as events:
                    for event in events:
                        fates.calls = asking.calls[first:]
                        fates.see(event)
                        if progress is not None:
                            progress(len(asking.calls), plan.calls)
            except _Stop:
                pass
            except ContextError:  # a full window of which nothing can go ends a life, too
                if len(asking.calls) == first:
                    raise


class _Fates:
    """Reads out of an agent's events what became of each call; the events come in the order of the calls."""

    def __init__(self, calls: Sequence[Call], executed: set[str]) -> None:
        self.calls = calls
        self._executed = executed
        self._at = -1

    def see(self, event: Event) -> None:
        if event.kind is Kind.CALL and event.stats is not None:
            self._at += 1
        if event.kind is Kind.ASSISTANT:
            self.calls[self._at].fate = "executed"
        if event.kind is Kind.RESULT and self._at >= 0:
            call = self.calls[self._at]
            call.fate = self._fate(event)
            if call.fate == "failed":
                call.wrong = f"failed: {event.text[:200]}"

    def _fate(self, result: Event) -> Fate:
        if result.details["status"] != "ok":
            return "raised" if result.details["function"] in self._executed else "failed"
        return "handed back" if result.text.startswith("Not done:") else "executed"
