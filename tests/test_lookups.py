"""Lookups: what a search shows of the other place than where it is made, with the real embedder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from agents import call, say, scripted

from localmem.agent import Agent
from localmem.config import Paths, load_config
from localmem.documents import document_from_text
from localmem.engine.scripted import ScriptedEngine
from localmem.events import Kind
from localmem.functions import Outcome
from localmem.memory.embedder import SentenceEmbedder
from localmem.opening import Setting, open_agent
from localmem.protocols import Embedder
from training.embedding import SharedEmbedder

OIL = "How much oil does the engine of the boat take?"
EXHAUST = "What is wrong with the exhaust of the car?"
NEITHER = "When does the choir sing?"


def _answer(prompt: str) -> dict[str, Any] | None:
    """A greeting, or anything where a page-out is asked for."""
    return None if "page_out" in prompt[-400:] else say("I see.")


@pytest.fixture(scope="module")
def embedder(embedder_folder: Path) -> Iterator[Embedder]:
    """The real one, which outlives agents: loading it takes seconds."""
    with closing(SentenceEmbedder(embedder_folder, "minilm")) as embedder:
        yield SharedEmbedder(embedder)


@pytest.fixture
def agent(home: Path, embedder: Embedder) -> Iterator[Agent]:
    """One that was told of an exhaust, which is out of sight since, and has a document about oil."""
    engine = ScriptedEngine(script=_answer, n_ctx=16384)
    setting = Setting(load_config(), Paths.under(home), engine=engine, embedder=embedder)
    with open_agent("test", setting=setting) as agent:
        agent._paging.deferred = False
        list(agent.send("The mechanic says that the exhaust of the car is broken."))
        while agent.context.cuts(None):
            list(agent.summarize())
        agent.archival.add_document(document_from_text("boat.md", "The engine of the boat takes 3 litres of oil."))
        agent.indexer.query_vector("", wait=True)
        yield agent


def search(agent: Agent, name: str, query: str, *, embedded: bool = True) -> Outcome:
    """A search in a turn of its own."""
    if embedded:
        agent.indexer.flush()
    agent._memory_functions.begin_turn(query)
    return agent._memory_functions.call(name, {"query": query, "page": 1})


def test_where_no_message_is_near_the_stored_text_that_is_gets_shown(agent: Agent) -> None:
    found = search(agent, "conversation_search", OIL)
    nothing, near, hit = found.text.splitlines()
    assert nothing == f"No earlier message matches {OIL!r}."
    assert near == "Near in stored texts: 1 found, page 1 of 1:"
    assert hit.startswith("- [boat.md")
    assert hit.endswith("takes 3 litres of oil.")
    assert found.shown == ("boat.md:1",)
    assert found.search


def test_where_no_stored_text_is_near_the_message_that_is_gets_shown(agent: Agent) -> None:
    found = search(agent, "archival_memory_search", EXHAUST)
    assert "Near in earlier messages: 1 found" in found.text
    assert "the exhaust of the car is broken." in found.text
    assert len(found.shown) == 1


def test_where_what_is_sought_is_near_nothing_else_is_shown(agent: Agent) -> None:
    assert "Near in" not in search(agent, "conversation_search", EXHAUST).text
    assert "Near in" not in search(agent, "archival_memory_search", OIL).text
    both = "The exhaust of the car drips oil into the engine of the boat."
    assert "Near in" not in search(agent, "conversation_search", both).text


@pytest.mark.parametrize("name", ["conversation_search", "archival_memory_search"])
def test_where_nothing_is_near_nothing_is_shown(agent: Agent, name: str) -> None:
    assert "Near in" not in search(agent, name, NEITHER).text


def test_what_is_in_sight_is_not_sought(agent: Agent) -> None:
    list(agent.send("The choir sings on Sunday at ten."))
    assert "Near in" not in search(agent, "archival_memory_search", NEITHER).text


def test_the_other_search_is_made_too_and_not_offered_again(agent: Agent) -> None:
    functions = agent._memory_functions
    functions._quoting = True
    functions.begin_turn(OIL)
    assert {"conversation_search", "archival_memory_search"} <= set(functions.variants())
    assert "Near in" in search(agent, "conversation_search", OIL).text
    assert not {"conversation_search", "archival_memory_search"} & set(functions.variants())


def test_what_the_turn_has_sought_is_not_shown_once_more(agent: Agent) -> None:
    assert "Near in" in search(agent, "conversation_search", OIL).text
    functions = agent._memory_functions
    assert "Near in" in search(agent, "archival_memory_search", EXHAUST).text
    functions.begin_turn(EXHAUST)
    given = {"query": EXHAUST, "page": 1}
    assert "exhaust" in functions.call("conversation_search", given).text
    assert functions.call("archival_memory_search", given).text == f"Nothing stored matches {EXHAUST!r}."


def test_what_is_stored_is_shown_where_all_messages_are_in_sight(agent: Agent) -> None:
    agent.pop(1)
    list(agent.send("Good morning!"))
    found = search(agent, "conversation_search", OIL).text
    assert found.startswith("All earlier messages are in main context.\nNear in stored texts: 1 found")


def test_the_reply_says_what_it_was_shown(agent: Agent) -> None:
    agent.indexer.flush()
    given = {"query": OIL, "page": 1}
    agent.engine.answers.append(call("conversation_search", **given))  # type: ignore[attr-defined]
    reply = [event for event in agent.send(OIL) if event.kind is Kind.ASSISTANT][-1]
    assert reply.details["shown"] == ["boat.md:1"]


def test_before_all_is_embedded_nobody_knows_what_is_near(agent: Agent) -> None:
    agent.indexer.flush()
    agent.indexer.pause()
    agent.archival.add_document(document_from_text("choir.md", "The choir sings on Sunday at ten."))
    assert "Near in" not in search(agent, "archival_memory_search", EXHAUST, embedded=False).text
    agent.indexer.resume()
    assert "Near in" in search(agent, "archival_memory_search", EXHAUST).text


def test_what_is_near_has_the_room_that_is_left(agent: Agent) -> None:
    for number in range(8):
        text = f"Oil of the boat, part {number}. " + "The engine of the boat takes 3 litres of oil, they say. " * 60
        agent.archival.add_document(document_from_text(f"boat-{number}.md", text))
    found = search(agent, "conversation_search", OIL)
    alone = search(agent, "archival_memory_search", OIL)
    assert "Near in stored texts" in found.text
    count = agent.engine.vocabulary.tokenize
    assert len(count(found.text)) <= agent.context.window.result
    assert len(count(found.text)) > 0.6 * len(count(alone.text))


def test_both_places_share_the_room_of_a_result(home: Path) -> None:
    with scripted(home, script=_answer) as agent:
        agent._paging.deferred = False
        for number in range(6):
            list(agent.send(f"boat {number} " + "on the lake " * 60))
        while agent.context.cuts(None):
            list(agent.summarize())
        for number in range(6):
            text = f"boat {number} " + "in the yard " * 60
            agent.archival.add_document(document_from_text(f"boat-{number}.md", text))
        nearness = agent._memory_functions._lookups._nearness
        nearness.said = lambda query: False  # type: ignore[method-assign]
        nearness.stored = lambda query: True  # type: ignore[method-assign]
        found = search(agent, "conversation_search", "boat").text
        said, stored = found.split("Near in stored texts: ")
        most, count = agent.context.window.result, agent.engine.vocabulary.tokenize
        assert most / 4 < len(count(said)) <= most / 2 + 8
        assert most / 4 < len(count(stored))
        assert len(count(found)) <= most


def test_without_an_embedder_a_search_is_what_it_was(home: Path) -> None:
    with scripted(home, script=_answer) as agent:
        agent.indexer._embedder = agent.indexer._vectors = None
        agent.archival.insert("The engine of the boat takes 3 litres of oil.")
        assert search(agent, "conversation_search", OIL).text == "All earlier messages are in main context."


def test_who_logs_in_finds_the_embedder_loaded(agent: Agent) -> None:
    agent.indexer._loaded = False
    list(agent.login())
    until = time.monotonic() + 30
    while not agent.indexer.ready and time.monotonic() < until:
        time.sleep(0.05)
    assert agent.indexer.ready
