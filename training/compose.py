"""Composes scenarios: a seeded world, and turns of all kinds in an order in which each of them makes sense.

The same seed gives the same scenario. What a search will find is not known here: the recorder sees to that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from training import remembering as remember
from training import searching as search
from training import talking as talk
from training.scenario import Past, Scenario, Turn
from training.texts import Texts, fill
from training.world import World

Make = Callable[[World], Turn | None]

#: How often each kind of turn is tried, one against another.
WEIGHTS: dict[Make, float] = {
    remember.told: 3.0,
    remember.told_several: 1.2,
    remember.told_in_one_breath: 1.2,
    remember.told_again: 0.4,
    remember.asked_all: 0.6,
    remember.changed: 2.6,
    remember.forgotten: 0.5,
    remember.asked: 2.4,
    remember.in_passing: 1.4,
    remember.changed_and_asked: 0.5,
    search.told_episode: 0.9,
    search.asked_said: 0.8,
    search.asked_past: 2.4,
    search.asked_missing: 0.9,
    search.asked_day: 1.0,
    search.asked_unknown: 1.3,
    search.told_and_asked: 0.7,
    search.asked_document: 2.4,
    search.asked_document_missing: 0.5,
    search.kept: 1.0,
    search.asked_note: 0.6,
    talk.talked: 4.0,
    talk.requested: 7.0,
    talk.greeted: 0.12,
    talk.woken: 0.08,
    talk.reminded: 0.15,
}

#: The mix to learn from: more of what a small model finds hard, less of what it soon knows. Nothing is judged by it.
PRACTICE: dict[Make, float] = WEIGHTS | {
    remember.introduced: 6.0,
    remember.told: 3.6,
    remember.told_several: 1.2,
    remember.told_in_one_breath: 1.0,
    remember.asked_all: 1.2,
    remember.changed: 3.6,
    remember.in_passing: 2.2,
    remember.changed_and_asked: 0.7,
    search.told_episode: 2.0,
    search.asked_unknown: 3.0,
    search.asked_missing: 1.2,
    search.asked_day: 1.4,
    search.asked_said: 5.0,
    search.told_and_asked: 1.6,
    talk.talked: 7.0,
    talk.came_back: 3.0,
}

_PERSONAS = (
    "I am Lo, a careful archivist.\nI keep notes and documents, and say where an answer comes from.",
    "I am Mira.\nI am cheerful and brief.",
    "I am a patient companion who listens well.",
    "I am Otto, the assistant of a small workshop.",
)


def compose(texts: Texts, seed: int, weights: Mapping[Make, float] = WEIGHTS) -> Scenario:
    """One scenario, its turns mixed by `weights`. Two in five of its agents have functions of the user's own."""
    rng = random.Random(f"{texts.split} {seed}")
    start = datetime(2024, 1, 1, 7) + timedelta(days=rng.randint(0, 1500), minutes=rng.randint(0, 840))
    world = World(rng, texts, start)
    _furnish(world)
    summary = _summary(world)
    human = tuple(fact.line for fact in world.facts)
    told = _told(world, random.Random(f"{texts.split} {seed} told"))
    documents = tuple((paper.name, paper.text) for paper in world.papers if paper.name)
    notes = tuple(paper.text for paper in world.papers if not paper.name)
    past = _past(world)
    turns = tuple(_turns(world, weights))
    persona = rng.choice(_PERSONAS) if rng.random() < 0.25 else None
    functions = tuple(talk.user_function(item) for item in world.requests)
    return Scenario(
        f"{texts.split}-{seed}", start, persona, human, past, summary, documents, notes, functions, turns, told
    )


def _furnish(world: World) -> None:
    """Fill the world with what was there before the conversation."""
    rng = world.rng
    world.facts = [f for _ in range(rng.choice((0, 0, 1, 2, 3, 4, 5, 7))) if (f := world.new_fact()) is not None]
    if rng.random() < 0.65:
        world.past = [e for _ in range(rng.randint(1, 5)) if (e := world.new_episode()) is not None]
        for _ in range(rng.randint(0, 3)):
            if (turn := talk.talked(world)) is not None:
                time = rng.choice(world.past).time + timedelta(minutes=rng.randint(1, 30))
                world.filler.append(Past(time, turn.text, str(turn.calls[-1].arguments["message"])))
    if rng.random() < 0.45:
        world.papers += [d for _ in range(rng.choice((1, 1, 2, 3))) if (d := world.new_document()) is not None]
    if rng.random() < 0.2:
        world.papers += [n for _ in range(rng.choice((1, 2))) if (n := world.new_note()) is not None]
    if rng.random() < 0.4:
        functions = list(world.texts["functions"])
        groups = max(60, len(functions))  # a group of functions is a grammar and a prefix that several scenarios share
        world.requests = random.Random(f"functions {rng.randrange(groups)}").sample(functions, min(5, len(functions)))


def _told(world: World, rng: random.Random) -> tuple[str, ...]:
    """How the user told of what core memory says; a quarter of it was written there by hand."""
    return tuple(
        fill(rng.choice(fact.item["tell"]), fact.values) if rng.random() < 0.75 else "" for fact in world.facts
    )


def _past(world: World) -> tuple[Past, ...]:
    told = [
        Past(
            episode.time,
            world.pick(episode.item["said"], episode.values),
            world.pick(episode.item["replied"], episode.values),
        )
        for episode in world.past
    ]
    return tuple(sorted([*told, *world.filler], key=lambda past: past.time))


def _summary(world: World) -> str:
    """What the page-out before this conversation left in main context of what was said."""
    listed = [fill(episode.item["summary"], episode.values) for episode in world.past if world.rng.random() < 0.6]
    return f"The user {', '.join(listed)}." if listed else "Small talk." if world.past else ""


def _turns(world: World, weights: Mapping[Make, float]) -> Iterator[Turn]:
    rng = world.rng
    count = rng.randint(5, 9)
    if rng.random() < 0.9:
        yield talk.greeted(world) if rng.random() < 0.1 else talk.returned()
    made = 0
    tries = 0
    while made < count and tries < 60:
        tries += 1
        kind = rng.choices(list(weights), list(weights.values()))[0]
        turn = kind(world)
        if turn is None:
            continue
        made += 1
        if rng.random() < 0.02:
            yield talk.warned()
        yield turn
        if turn.begins == "note" and (asked := search.asked_said(world)) is not None:
            yield asked  # what was told the day before is still above
        if rng.random() < 0.03 and made >= 3:
            yield talk.paged_out()
            world.said.clear()
    if rng.random() < 0.25:
        yield talk.paged_out()
