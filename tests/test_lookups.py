"""Lookups: what a search shows of the other place than where it is made, with the real embedder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from agents import say

from localmem.agent import Agent
from localmem.config import Paths, load_config
from localmem.documents import document_from_text
from localmem.engine.scripted import ScriptedEngine
from localmem.functions import Outcome
from localmem.memory.embedder import SentenceEmbedder
from localmem.opening import Setting, open_agent

OIL = "How much oil does the engine of the boat take?"
EXHAUST = "What is wrong with the exhaust of the car?"
NEITHER = "When does the choir sing?"


def _answer(prompt: str) -> dict[str, Any] | None:
    """A greeting, or anything where a page-out is asked for."""
    return None if "page_out" in prompt[-400:] else say("I see.")


@pytest.fixture
def agent(home: Path, embedder_folder: Path) -> Iterator[Agent]:
    """One that was told of an exhaust, which is out of sight since, and has a document about oil."""
    with closing(SentenceEmbedder(embedder_folder, "minilm")) as embedder:
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
    nothing, nearer, hit = found.text.splitlines()
    assert nothing == f"No earlier message matches {OIL!r}."
    assert nearer == "Stored texts are nearer: 1 found, page 1 of 1:"
    assert hit.startswith("- [boat.md")
    assert hit.endswith("takes 3 litres of oil.")
    assert found.shown == ("boat.md:1",)
    assert found.search


def test_where_no_stored_text_is_near_the_message_that_is_gets_shown(agent: Agent) -> None:
    found = search(agent, "archival_memory_search", EXHAUST)
    assert "Earlier messages are nearer: 1 found" in found.text
    assert "the exhaust of the car is broken." in found.text
    assert len(found.shown) == 1


def test_where_what_is_sought_is_near_nothing_else_is_shown(agent: Agent) -> None:
    assert "nearer" not in search(agent, "conversation_search", EXHAUST).text
    assert "nearer" not in search(agent, "archival_memory_search", OIL).text
    both = "The exhaust of the car drips oil into the engine of the boat."
    assert "nearer" not in search(agent, "conversation_search", both).text


@pytest.mark.parametrize("name", ["conversation_search", "archival_memory_search"])
def test_where_nothing_is_near_nothing_is_shown(agent: Agent, name: str) -> None:
    assert "nearer" not in search(agent, name, NEITHER).text


def test_what_is_in_sight_is_not_sought(agent: Agent) -> None:
    list(agent.send("The choir sings on Sunday at ten."))
    assert "nearer" not in search(agent, "archival_memory_search", NEITHER).text


def test_the_other_search_is_made_too_and_not_offered_again(agent: Agent) -> None:
    functions = agent._memory_functions
    functions._quoting = True
    functions.begin_turn(OIL)
    assert {"conversation_search", "archival_memory_search"} <= set(functions.variants())
    assert "nearer" in search(agent, "conversation_search", OIL).text
    assert not {"conversation_search", "archival_memory_search"} & set(functions.variants())


def test_before_all_is_embedded_nobody_knows_what_is_nearer(agent: Agent) -> None:
    agent.indexer.pause()
    agent.archival.add_document(document_from_text("choir.md", "The choir sings on Sunday at ten."))
    assert "nearer" not in search(agent, "archival_memory_search", EXHAUST, embedded=False).text
    agent.indexer.resume()
    assert "nearer" in search(agent, "archival_memory_search", EXHAUST).text


def test_both_places_share_the_room_of_a_result(agent: Agent) -> None:
    for number in range(8):
        text = f"Oil of the boat, part {number}. " + "The engine of the boat takes 3 litres of oil, they say. " * 60
        agent.archival.add_document(document_from_text(f"boat-{number}.md", text))
    found = search(agent, "conversation_search", OIL)
    assert "Stored texts are nearer" in found.text
    room = agent.context.window.result
    assert room // 4 < len(agent.engine.vocabulary.tokenize(found.text)) <= room
