"""Main context is only ever appended to: the next prompt begins with exactly the tokens that the KV cache holds.

But for a rebase, a rewind, and a page-out's call that is taken out again: each is counted and named. Asserted on
tokens, for hundreds of turns of a model that calls whatever the grammar allows.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from agents import Clock, agent_on
from tiny_gguf import Tokenizer, write_tiny

from localmem.agent import Agent
from localmem.engine.kv import common_prefix
from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.errors import ConfigError
from localmem.protocols import Generation, Sampling
from localmem.summaries import CALL_TAKEN_OUT

CAUSES = {"page-out", "page-out, not read in time", "merge", "rewind", "open", CALL_TAKEN_OUT}


class Watched(LlamaEngine):
    """An engine that compares each prompt with what it holds."""

    agent: Agent | None = None
    left = 0

    def generate(self, prompt: str | Sequence[int], **options: Any) -> Generation:
        assert self.agent is not None
        context, tokens = self.agent.context, list(prompt)  # type: ignore[arg-type]
        self.missing(tokens)
        current, ahead = self._sequences.current, self._sequences.ahead
        assert ahead is not None
        chosen = ahead if ahead.usable(tokens) > current.usable(tokens) else current
        held = list(chosen.log)
        shared = common_prefix(held, tokens)
        if shared < len(held):
            self.left += 1
            assert context._changed in CAUSES, f"{context.locate(shared)}, and nobody says why"
            if context._changed == CALL_TAKEN_OUT:
                assert shared >= context.prefix
        before = dict(context.meter.divergences)
        generation = super().generate(prompt, **options)
        assert generation.reused_tokens == min(shared, len(tokens) - 1)
        assert (generation.diverged_at is not None) == (shared < len(held))
        assert before == context.meter.divergences  # they are counted afterwards, by whoever asked
        return generation


@pytest.fixture
def engine(tiny_model_path: Path, model_path: Path, home: Path, tmp_path: Path) -> Watched:
    """A random model in the smallest window that ends its strings: quotes are as likely as all else."""
    first = LlamaEngine(tiny_model_path, LlamaOptions(n_ctx=512))
    vocabulary = first.vocabulary
    quotes = [token for token in range(vocabulary.size) if vocabulary.token_bytes(token).startswith(b'"')]
    with pytest.raises(ConfigError) as refused:
        agent_on(home, first, name="refused")
    smallest = int(re.findall(r"--n-ctx (\d+)", str(refused.value))[0])
    first.close()
    path = write_tiny(tmp_path / "terse.gguf", Tokenizer.of_file(model_path), favour=quotes)
    return Watched(path, LlamaOptions(n_ctx=smallest + 256, threads=1, sampling=Sampling(temperature=1.5, seed=1)))


def fails(count: int) -> str:
    """Fail now and then.

    Args:
        count: A number.
    """
    if count % 2:
        raise ValueError(f"{count} is odd")
    return "even"


class Days:
    """What people do with an agent, at random."""

    def __init__(self, agent: Agent, seed: int) -> None:
        self.agent, self.random = agent, random.Random(seed)

    def words(self) -> str:
        words = ["tea", "zürich", "日本", "🎉", "blue", "<|im_end|>", "\n"]
        return "well " + " ".join(self.random.choice(words) for _ in range(self.random.randint(1, 40)))

    def send(self) -> None:
        list(self.agent.send(self.words()))

    def edit(self) -> None:
        self.agent.set_block("human", self.words()[:200])

    def undo(self) -> None:
        with suppress(ConfigError):  # there may be no edit that still stands
            self.agent.undo_block("human")

    def summarize(self) -> None:
        list(self.agent.summarize())

    def retry(self) -> None:
        list(self.agent.retry())

    def pop(self) -> None:
        self.agent.pop(self.random.randint(1, 3))

    def save_and_load(self) -> None:
        saved = self.agent.store.bookmarks()
        if saved and self.random.random() < 0.5:
            self.agent.load(self.random.choice(sorted(saved)))
        else:
            self.agent.save(f"at {len(saved)}")

    def interrupt(self) -> None:
        timer = threading.Timer(self.random.random() / 20, self.agent.interrupt)
        timer.start()
        self.send()
        timer.join()

    def alert(self) -> None:
        self.agent.alert(self.words())

    def heartbeat(self) -> None:
        list(self.agent.heartbeat())

    def idle(self) -> None:
        assert self.agent.engine.wait_idle(60)


def test_300_turns_of_everything(home: Path, engine: Watched) -> None:
    clock = Clock()
    agent = agent_on(home, engine, clock=clock, functions=[fails], max_steps=3)
    with agent:
        engine.agent = agent
        days = Days(agent, 7)
        seldom: list[Callable[[], None]] = [
            days.edit, days.undo, days.summarize, days.retry, days.pop, days.save_and_load, days.interrupt, days.alert,
            days.heartbeat,
        ]  # fmt: skip
        days.send()
        for _ in range(300):
            clock.pass_time(hours=days.random.random() * 8)
            step = days.random.choice(seldom) if days.random.random() < 0.4 else days.send
            step()
            if days.random.random() < 0.5:
                days.idle()
        report = agent.context.report()
        assert engine.left == sum(report["divergences"].values())
        assert set(report["divergences"]) <= CAUSES
        assert set(report["rebases"]) <= CAUSES
        assert report["rebases"]["page-out"] > 0
        assert report["prefix_hit"] > 0.85  # in so small a window, with a rewind every tenth turn
    engine.close()
