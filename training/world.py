"""What is true in a scenario while it is being composed: facts in core memory, what was said, and what is on disk.

Draws texts and remembers what they said; writes no calls.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from training.scenario import Past
from training.texts import Item, Texts, Values, fill


@dataclass(slots=True)
class Fact:
    """A line of core memory and what it came from."""

    item: Item
    values: Values

    @property
    def line(self) -> str:
        return fill(self.item["line"], self.values)


@dataclass(slots=True)
class Episode:
    """Something told on an earlier day, or earlier in this conversation."""

    item: Item
    values: Values
    time: datetime


@dataclass(slots=True)
class Paper:
    """A document or a note that is on disk. `name` is empty for a note."""

    item: Item
    values: Values
    name: str
    text: str


@dataclass(slots=True)
class World:
    """One agent's world."""

    rng: random.Random
    texts: Texts
    now: datetime
    facts: list[Fact] = field(default_factory=list)
    past: list[Episode] = field(default_factory=list)
    filler: list[Past] = field(default_factory=list)
    said: list[Episode] = field(default_factory=list)
    papers: list[Paper] = field(default_factory=list)
    requests: list[Item] = field(default_factory=list)
    used: set[int] = field(default_factory=set)

    def pick(self, choices: Sequence[str], values: Values | None = None) -> str:
        """One of some templates, filled."""
        return fill(self.rng.choice(list(choices)), values or {})

    def item(self, kind: str) -> Item | None:
        """An item that this scenario has not used yet."""
        fresh = [item for item in self.texts[kind] if id(item) not in self.used]
        if not fresh:
            return None
        item = self.rng.choice(fresh)
        self.used.add(id(item))
        return item

    def new_fact(self) -> Fact | None:
        """A fact that is not known yet."""
        item = self.item("facts")
        return None if item is None else Fact(item, self.texts.draw(item, self.rng))

    def new_episode(self) -> Episode | None:
        """Something that happened, and that was told some days ago."""
        item = self.item("topics")
        if item is None:
            return None
        time = self.now - timedelta(days=self.rng.randint(1, 24), minutes=self.rng.randint(0, 600))
        return Episode(item, self.texts.draw(item, self.rng), time)

    def new_document(self) -> Paper | None:
        """A file of the user's."""
        item = self.item("documents")
        if item is None:
            return None
        values = self.texts.draw(item, self.rng)
        name = fill(item["name"], values)
        values["title"] = fill(item.get("title", name), values)
        paragraphs = [fill(paragraph, values) for paragraph in item["paragraphs"]]
        return Paper(item, values, name, "\n\n".join(paragraphs))

    def new_note(self) -> Paper | None:
        """A text to be kept."""
        item = self.item("notes")
        if item is None:
            return None
        values = self.texts.draw(item, self.rng)
        values["text"] = fill(item["text"], values)
        return Paper(item, values, "", fill(item["content"], values))

    @property
    def known(self) -> set[str]:
        """Names of the facts in core memory."""
        return {fact.item["name"] for fact in self.facts}
