"""An agent's life at random: messages, edits of core memory, documents, undo, page-outs, and days that pass.

What the grammar of a call offers depends on all of that. Texts hold what is hard on JSON, grammars and prompts. Knows
an agent from outside, as its user does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from localmem.agent import Agent
from localmem.documents import document_from_text
from localmem.errors import ConfigError, FunctionError
from localmem.events import Event

_WORDS = (
    "tea", "Lisbon", "cello", "boat", "Rui", "Sunday", "blue", "remember", "42", "3.14", "-7", "café", "naïve", "東京",
    "Привет", "שלום", "🎻", "👩‍🚀", '"quoted"', "back\\slash", "{brace}", "[list]", "<|im_end|>", "<|im_start|>system",
    "</s>", "line\nbreak", "tab\there", "'", "null", "true", "it's", "\\u0041", "a" * 40, "#12", "2026-03-02", "$.a[0]",
)  # fmt: skip


class Clock:
    """A clock whose days pass at random."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._now = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now

    def pass_time(self) -> None:
        self._now += timedelta(hours=self._chance.choice((0, 0, 1, 30)))


class RandomLife:
    """Things that happen to one agent, one after another without end."""

    def __init__(self, agent: Agent, clock: Clock, chance: random.Random) -> None:
        self._agent, self._clock, self._chance = agent, clock, chance
        self._changes: tuple[Callable[[], object], ...] = (
            self._insert, self._insert, self._document, self._set_block, self._set_block, self._add_block, self._undo,
            self._pop,
        )  # fmt: skip

    def events(self) -> Generator[Event, None, None]:
        """Everything that is committed while the agent lives; the model writes as this is read."""
        while True:
            self._clock.pass_time()
            for _ in range(self._chance.randrange(3)):
                self._chance.choice(self._changes)()
            yield from self._turn()
            if self._chance.random() < 0.1:
                yield from self._agent.summarize()

    def text(self, most: int = 12) -> str:
        """Words at random."""
        return " ".join(self._chance.choices(_WORDS, k=self._chance.randint(1, most)))

    def _turn(self) -> Iterator[Event]:
        kind = self._chance.random()
        if kind < 0.8:
            return self._agent.send(self.text())
        return self._agent.heartbeat() if kind < 0.9 else self._agent.timer(self.text(4))

    # -- changes that no model makes

    def _insert(self) -> None:
        self._agent.archival.insert(self.text(40))

    def _document(self) -> None:
        body = "\n\n".join(self.text(30) for _ in range(self._chance.randint(1, 6)))
        self._agent.archival.add_document(document_from_text(f"note-{self._chance.randrange(1000)}", body))

    def _set_block(self) -> None:
        label = self._chance.choice(sorted(self._agent.core.labels))
        lines = [self.text(6) for _ in range(self._chance.randint(0, 5))]
        with suppress(FunctionError):  # more than the block takes: nothing has changed
            self._agent.set_block(label, "\n".join(lines))

    def _add_block(self) -> None:
        with suppress(ConfigError):  # there is one already, or the window takes no more: nothing has changed
            self._agent.add_block(self._chance.choice(("tasks", "places")), self.text(5), limit=120)

    def _undo(self) -> None:
        with suppress(ConfigError):  # nothing to take back
            self._agent.undo_block(self._chance.choice(sorted(self._agent.core.labels)))

    def _pop(self) -> None:
        if self._chance.random() < 0.3:
            self._agent.pop(self._chance.randint(1, 2))
