"""Generations at temperature 1.5 over all functions: each parses, fits its schema, and executes.

40 on a random model here, and 20 on the bundled one with the small preset, since its time goes into reading; 500 with
`-m slow`.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from agents import agent_on

from localmem.agent import Agent
from localmem.engine.llama import LlamaEngine, LlamaOptions
from localmem.engine.scripted import BYTES
from localmem.events import Event, Kind
from localmem.grammar.compile import compile_grammar
from localmem.grammar.schema import call_schema
from localmem.memory_functions import NAMES
from localmem.protocols import Grammar, Sampling
from localmem.window import Window


def hot(path: Path, n_ctx: int = 4096) -> LlamaEngine:
    # Without flash attention the bundled model writes nearly twice as fast on some processors (LOG.md).
    options = LlamaOptions(n_ctx=n_ctx, flash_attn="off", sampling=Sampling(temperature=1.5, seed=None))
    return LlamaEngine(path, options)


class Forcing:
    """Leaves the model one function for its first step of a turn, and then only the reply."""

    def __init__(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        self.agent = agent
        self.schemas: list[dict[str, Any]] = []
        self._wanted: str | None = None
        self._variants = agent._steps._variants
        monkeypatch.setattr(agent._steps, "_variants", self._only)

    def _only(self, must_send: bool) -> dict[str, list[dict[str, Any]]]:
        offered = self._variants(False)
        if "page_out" not in offered and (cuts := self.agent.context.cuts(self.agent._steps._turn)):
            offered["page_out"] = [
                self.agent._paging.summaries.arguments([cut.through for cut in cuts if cut.pinned is None][:3])
            ]
        name = self._wanted if self._wanted in offered else "send_message"
        self._wanted = None
        self.schemas.append(call_schema({name: offered[name]}, longest_thought=200))
        return {name: offered[name]}

    def turn(self, function: str, text: str) -> list[Event]:
        self._wanted = function
        return list(self.agent.send(text))


def check(agent: Agent, events: list[Event], schemas: list[dict[str, Any]]) -> Counter[str]:
    """Every call fits the schema that it was written under, and has its result; nothing failed."""
    calls = [e for e in events if e.call is not None and e.stats is not None]
    results = [e for e in events if e.kind is Kind.RESULT]
    assert all(result.details["status"] == "ok" for result in results)
    assert sum(e.kind is Kind.ASSISTANT for e in events) == 1
    thoughts = {e.id: e.text for e in events if e.kind is Kind.THOUGHT}
    matchers = [compile_grammar(schema) for schema in schemas]
    for event in calls:
        assert event.call is not None
        document = {
            "thought": thoughts.get(event.parent or 0, ""),
            "function": event.call.function,
            "arguments": dict(event.call.arguments),
        }
        written = BYTES.tokenize(json.dumps(document, ensure_ascii=False))
        assert event.details.get("paging") or any(_fits(grammar, written) for grammar in matchers)
    return Counter(e.call.function for e in calls if e.call is not None)


def _fits(grammar: Grammar, written: list[int]) -> bool:
    matcher = grammar.bind(BYTES)
    return all(matcher.accept(byte) for byte in written) and matcher.can_stop


def run(agent: Agent, monkeypatch: pytest.MonkeyPatch, generations: int) -> Counter[str]:
    # Most calls then end by the budget, so that ends are put to the test too.
    monkeypatch.setattr(Window, "call", property(lambda _: 96))
    forcing = Forcing(agent, monkeypatch)
    seen: Counter[str] = Counter()
    for text in ("I like tea.", "I live in Lisbon."):
        list(agent.send(text))
    agent.archival.insert("A passage about tea.")
    list(agent.summarize())
    number = 0
    while agent.context.meter.generations < generations:
        forcing.schemas.clear()
        seen += check(agent, forcing.turn(NAMES[number % len(NAMES)], f"Message {number} about tea."), forcing.schemas)
        number += 1
    return seen


def test_60_hot_generations_of_a_random_model(
    home: Path, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with agent_on(home, hot(tiny_model_path)) as agent:
        seen = run(agent, monkeypatch, 60)
        agent.engine.close()
    assert set(seen) >= set(NAMES) - {"page_out"}


def test_20_hot_generations_of_the_bundled_model(home: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with agent_on(home, hot(model_path), prompt="compact") as agent:
        seen = run(agent, monkeypatch, 20)
        agent.engine.close()
    assert len(set(seen) & set(NAMES)) >= 4  # all of them are called by the random model above


@pytest.mark.slow
def test_500_hot_generations(
    home: Path, tiny_model_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, generations in ((tiny_model_path, 460), (model_path, 40)):
        with agent_on(home, hot(path), name=path.stem.split(".")[0]) as agent:
            seen = run(agent, monkeypatch, generations)
            agent.engine.close()
        assert set(seen) >= set(NAMES) - {"page_out"}
