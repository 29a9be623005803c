"""The built-in functions: what is offered in which state, and that nothing which is offered fails."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Clock, call, say, scripted

from localmem.agent import Agent
from localmem.errors import ConfigError
from localmem.events import Event, Kind
from localmem.fitting import longest
from localmem.memory_functions import NAMES, MemoryFunctions
from localmem.quoting import unknown


def functions_of(agent: Agent) -> MemoryFunctions:
    return agent._memory_functions


def offered(agent: Agent) -> dict[str, list[dict[str, Any]]]:
    return functions_of(agent).variants()


def forget(agent: Agent) -> None:
    """Page everything out."""
    while agent.context.cuts(None):
        list(agent.summarize())


def test_before_the_first_message_no_search_is_offered(home: Path) -> None:
    with scripted(home) as agent:
        assert set(offered(agent)) == {
            "send_message", "core_memory_append", "core_memory_replace", "archival_memory_insert",
        }  # fmt: skip


def test_without_a_message_searches_are_offered_once_there_is_something_to_find(home: Path) -> None:
    clock = Clock()
    with scripted(home, [say("Hi."), say("All is quiet.")], clock=clock) as agent:
        list(agent.send("I like tea."))
        list(agent.heartbeat())
        assert "conversation_search" not in offered(agent)
        forget(agent)
        assert {"conversation_search", "conversation_search_date"} <= set(offered(agent))
        (dates,) = offered(agent)["conversation_search_date"]
        assert dates["properties"]["start_date"] == {"const": f"{clock.now.astimezone():%Y-%m-%d}"}
        agent.archival.insert("A long text about tea.")
        assert "archival_memory_search" in offered(agent)


def test_a_message_may_be_answered_with_one_search_of_what_is_all_in_sight(home: Path) -> None:
    given = {"query": "tea", "page": 1}
    with scripted(home, [call("conversation_search", **given), say("You like it.")]) as agent:
        events = list(agent.send("Do I like tea?"))
        assert [e.text for e in events if e.kind is Kind.RESULT] == ["All earlier messages are in main context."]
        assert "conversation_search" not in offered(agent)
        forget(agent)
        assert "conversation_search" in offered(agent), "now there is something to find"


def test_a_quoting_agent_seeks_the_message_itself_once(quoting: Agent) -> None:
    functions_of(quoting).begin_turn("Do I like tea?")
    assert argument(quoting, "conversation_search", "query") == ["Do I like tea?"]
    functions_of(quoting).call("conversation_search", {"query": "Do I like tea?", "page": 1})
    assert "conversation_search" not in offered(quoting)
    functions_of(quoting).begin_turn("And coffee?")
    assert "conversation_search" in offered(quoting)
    assert "conversation_search_date" not in offered(quoting)


def test_pages_are_offered_only_beside_the_search_that_has_them(home: Path) -> None:
    with scripted(home, [say("Hi.") for _ in range(12)]) as agent:
        for i in range(12):
            list(agent.send(f"Tea number {i}."))
        forget(agent)
        functions_of(agent).call("conversation_search", {"query": "tea", "page": 1})
        first, further = offered(agent)["conversation_search"]
        assert first["properties"]["page"] == {"const": 1}
        assert further["properties"] == {"query": {"const": "tea"}, "page": {"enum": [2, 3]}}
        agent.pop(1)
        assert len(offered(agent).get("conversation_search", [])) <= 1


def test_the_same_search_function_is_not_offered_again_and_again(home: Path) -> None:
    with scripted(home, [say("Hi.")]) as agent:
        list(agent.send("Tea."))
        forget(agent)
        for query in ("coffee", "milk"):
            functions_of(agent).call("conversation_search", {"query": query, "page": 1})
        assert "conversation_search" not in offered(agent)
        functions_of(agent).begin_turn()
        assert "conversation_search" in offered(agent)


def test_only_lines_that_a_block_holds_can_be_replaced(home: Path) -> None:
    with scripted(home, persona="I am Lo.", human='Name: "Ada"\nLikes\ttea\n\nLikes\ttea') as agent:
        variants = {v["properties"]["block"]["const"]: v for v in offered(agent)["core_memory_replace"]}
        assert variants["human"]["properties"]["old_content"] == {"enum": ['Name: "Ada"', "Likes\ttea"]}
        outcome = functions_of(agent).call(
            "core_memory_replace", {"block": "human", "old_content": 'Name: "Ada"', "new_content": ""}
        )
        assert outcome.ok
        assert agent.core["human"].value == "Likes\ttea\n\nLikes\ttea"


def test_a_line_is_replaced_and_not_its_look_alike(home: Path) -> None:
    with scripted(home, human="Likes tea and cake\nLikes tea") as agent:
        given = {"block": "human", "old_content": "Likes tea", "new_content": "Likes coffee"}
        functions_of(agent).call("core_memory_replace", given)
        assert agent.core["human"].value == "Likes tea and cake\nLikes coffee"


def test_a_full_block_is_not_appended_to(home: Path) -> None:
    with scripted(home) as agent:
        block = agent.core["human"]
        agent.core.set("human", "x" * block.limit)
        labels = [v["properties"]["block"]["const"] for v in offered(agent)["core_memory_append"]]
        assert labels == ["persona"]


def test_what_does_not_fit_a_block_is_named_not_dropped_silently(home: Path) -> None:
    with scripted(home) as agent:
        outcome = functions_of(agent).call("core_memory_append", {"block": "human", "content": "🎉" * 500})
        assert "not saved" in outcome.text
        kept = agent.core["human"].value
        assert 0 < len(kept) < 500


def test_saying_a_fact_twice_stores_it_once(home: Path) -> None:
    with scripted(home) as agent:
        for _ in range(2):
            functions_of(agent).call("core_memory_append", {"block": "human", "content": "Name: Ada"})
        assert agent.core["human"].value == "Name: Ada"


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("core_memory_append", {"block": "human", "content": "Likes tea"}),
        ("core_memory_replace", {"block": "human", "old_content": "Likes tea", "new_content": "Likes tea"}),
    ],
)
def test_an_edit_that_changes_nothing_is_not_offered_again_in_the_turn(
    home: Path, name: str, given: dict[str, str]
) -> None:
    with scripted(home, human="Likes tea, as text\nLikes tea") as agent:
        outcome = functions_of(agent).call(name, given)
        assert "Nothing changed" in outcome.text
        assert name not in offered(agent)
        functions_of(agent).begin_turn()
        assert name in offered(agent)


def test_reversed_dates_are_swapped(home: Path) -> None:
    clock = Clock()
    with scripted(home, [say("a"), say("b")], clock=clock) as agent:
        list(agent.send("first day"))
        day = f"{clock.now.astimezone():%Y-%m-%d}"
        clock.pass_time(days=2)
        list(agent.send("third day"))
        later = f"{clock.now.astimezone():%Y-%m-%d}"
        forget(agent)
        given = {"start_date": later, "end_date": day, "page": 1}
        outcome = functions_of(agent).call("conversation_search_date", given)
        assert "first day" in outcome.text
        assert "third day" in outcome.text


def test_a_result_of_many_long_hits_fits_its_share_and_says_what_it_left_out(home: Path) -> None:
    with scripted(home, [say("Hm.") for _ in range(6)], n_ctx=32768) as agent:
        for i in range(6):
            list(agent.send(f"Tea {i} " + "leaves and water " * 40))
        forget(agent)
        outcome = functions_of(agent).call("conversation_search", {"query": "tea", "page": 1})
        assert len(outcome.shown) == 4
        assert "more characters)" in outcome.text
        assert len(agent.engine.vocabulary.tokenize(outcome.text)) <= agent.context.window.result


def test_longest() -> None:
    assert longest("abcdef", lambda part: len(part) <= 4) == "abcd"
    assert longest("abc", lambda part: True) == "abc"
    assert longest("abc", lambda part: not part) == ""


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))])
@pytest.mark.parametrize("quoting", [False, True])
def test_no_call_that_the_grammar_allows_fails_in_any_state(home: Path, seed: int, quoting: bool) -> None:
    """Random agents in random states, random calls under the real grammar: none comes back failed."""
    rng = random.Random(seed)
    clock = Clock()
    seen: set[str] = set()
    human = 'He said "so"\\\nÜber\tTabs'
    agent = scripted(home, n_ctx=6144, clock=clock, human=human, max_steps=5, quoting=quoting)
    agent.engine._random.seed(seed)  # type: ignore[attr-defined]
    with agent:
        for i in range(14):
            clock.pass_time(hours=rng.randint(1, 30))
            match rng.randrange(6):
                case 0:
                    agent.archival.insert(f"Passage {i} about " + rng.choice(["tea", "日本", '"quotes"', "\\"]))
                case 1:
                    agent.pop(rng.randint(1, 2))
                case 2:
                    agent.core.set("persona", rng.choice(["", "x", "a\nb\nc", "é" * 300, '"\\"']))
                case _:
                    pass
            text = rng.choice(["tea", "🎉", "日本語", "a\tb", 'I said "no". ', "好的。我在这里。\n"]) * rng.randint(
                1, 20
            )
            events = list(agent.send(f"Message {i} {text}"))
            seen |= {e.call.function for e in events if e.call is not None}
            assert [e for e in events if e.kind is Kind.RESULT and e.details["status"] == "failed"] == []
            assert _replies(events) == 1
            assert agent.context.tokens <= agent.context.window.n_ctx
    assert seen <= set(NAMES)
    assert len(seen) >= 5


def test_a_quotation_fits_the_smallest_window(home: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        scripted(home, n_ctx=512, name="refused", quoting=True)
    smallest = int(re.findall(r"--n-ctx (\d+)", str(refused.value))[0])
    rng = random.Random(3)
    agent = scripted(home, n_ctx=smallest, max_steps=4, quoting=True)
    agent.engine._random.seed(3)  # type: ignore[attr-defined]
    stored: set[str] = set()
    with agent:
        for i in range(25):
            words = [rng.choice(["tea", "🎉🎉", "日本語日本語", "a-very-long-word-indeed"]) for _ in range(60)]
            ends = [rng.choice([" ", " ", " ", ". ", "!\n"]) for _ in words]
            said = f"So, number {i}. " + "".join(map("".join, zip(words, ends, strict=True)))
            events = list(agent.send(said))
            assert _replies(events) == 1
            stored |= {e.call.function for e in events if e.call is not None} & set(STORES)
            assert agent.context.tokens <= agent.context.window.n_ctx
    assert stored


STORES = ("core_memory_append", "core_memory_replace", "archival_memory_insert")


# -- an agent that quotes


@pytest.fixture
def quoting(home: Path) -> Iterator[Agent]:
    agent = scripted(home, [say("Hello.") for _ in range(9)], human="Likes tea", quoting=True)
    with agent:
        functions_of(agent)._likeness = unknown  # as before the embedder is loaded
        list(agent.send("I am Ada. I live in Porto, near the river.\nWhat is on today?"))
        yield agent


SENTENCES = ["I am Ada.", "I live in Porto, near the river.", "What is on today?"]


def argument(agent: Agent, function: str, name: str) -> Any:
    found = [variant["properties"] for variant in offered(agent)[function]]
    schema = next(v[name] for v in found if v.get("block", {"const": "human"})["const"] == "human")
    if "const" in schema:
        return [schema["const"]]
    return schema["enum"] if "enum" in schema else schema["type"]


def test_what_is_stored_are_sentences_of_the_message(quoting: Agent) -> None:
    contents = argument(quoting, "core_memory_append", "content")
    assert contents[:3] == SENTENCES
    assert "I am Ada.\nI live in Porto, near the river." in contents
    assert argument(quoting, "core_memory_replace", "new_content") == ["", *contents]
    assert argument(quoting, "archival_memory_insert", "content") == [
        "I am Ada. I live in Porto, near the river.\nWhat is on today?"
    ]


def test_a_sentence_that_a_block_holds_is_not_offered_again(quoting: Agent) -> None:
    functions_of(quoting).call("core_memory_append", {"block": "human", "content": "I am Ada."})
    assert "I am Ada." not in "\n".join(argument(quoting, "core_memory_append", "content"))
    rest = "\n".join(SENTENCES[1:])
    functions_of(quoting).call("core_memory_append", {"block": "human", "content": rest})
    assert [v["properties"]["block"]["const"] for v in offered(quoting)["core_memory_append"]] == ["persona"]


def test_a_search_is_for_sentences_of_the_message_and_for_each_once(quoting: Agent) -> None:
    quoting.archival.insert("The market is on today.")
    assert argument(quoting, "archival_memory_search", "query")[:3] == SENTENCES
    functions_of(quoting).call("archival_memory_search", {"query": "What is on today?", "page": 1})
    assert "What is on today?" not in argument(quoting, "archival_memory_search", "query")
    functions_of(quoting).begin_turn("What is on today?")
    assert argument(quoting, "archival_memory_search", "query") == ["What is on today?"]
    functions_of(quoting).call("archival_memory_search", {"query": "What is on today?", "page": 1})
    assert "archival_memory_search" not in offered(quoting)


def test_the_lines_that_a_message_may_correct_are_the_nearest_to_it(home: Path) -> None:
    """By the vectors of the embedder, once it is loaded; until then by their words."""
    human = "My brother Tomas is a vet.\nTomas and I like green tea.\nI live in Porto."
    with scripted(home, [say("Hello.")], human=human, persona="I am Lo.", quoting=True) as agent:
        lines = human.split("\n")
        functions_of(agent)._likeness = unknown
        functions_of(agent).begin_turn("Tomas is a baker now.")
        assert argument(agent, "core_memory_replace", "old_content") == lines[:2]
        functions_of(agent)._likeness = lambda message, given: [float(line == lines[2]) for line in given]
        assert argument(agent, "core_memory_replace", "old_content") == lines[2:]
        functions_of(agent)._likeness = lambda message, given: [0.5 for _ in given]
        assert {*lines, "I am Lo."} == {
            line
            for variant in offered(agent)["core_memory_replace"]
            for line in [*variant["properties"]["old_content"].get("enum", [])]
            or [variant["properties"]["old_content"]["const"]]
        }
        functions_of(agent).begin_turn()
        assert {"const": "I am Lo."} in [
            variant["properties"]["old_content"] for variant in offered(agent)["core_memory_replace"]
        ]


def test_a_line_that_the_message_says_again_is_not_replaced(quoting: Agent) -> None:
    functions_of(quoting).call("core_memory_append", {"block": "human", "content": "I am Ada."})
    assert argument(quoting, "core_memory_replace", "old_content") == ["Likes tea"]
    functions_of(quoting).begin_turn("Likes tea\nI am Ada.")
    labels = [v["properties"]["block"]["const"] for v in offered(quoting).get("core_memory_replace", [])]
    assert "human" not in labels


def test_only_lines_that_share_a_word_with_the_message_are_replaced(quoting: Agent) -> None:
    quoting.core.set("human", "Likes tea\nI live in Porto.\nMy cat is Figo.")
    functions_of(quoting).begin_turn("I have moved from Porto to Faro.")
    (variant,) = offered(quoting)["core_memory_replace"]
    assert variant["properties"]["old_content"] == {"const": "I live in Porto."}
    functions_of(quoting).begin_turn("Nothing of that is true any more.")
    assert len(argument(quoting, "core_memory_replace", "old_content")) == 3


@pytest.mark.parametrize("message", ["🎉", "?!", "…"])
def test_of_a_message_without_words_nothing_is_stored_or_sought(quoting: Agent, message: str) -> None:
    quoting.archival.insert("The market is on today.")
    functions_of(quoting).begin_turn(message)
    assert set(offered(quoting)) & {*STORES, "archival_memory_search"} == set()


def test_a_message_is_stored_once_in_a_turn_and_without_control_characters(quoting: Agent) -> None:
    functions_of(quoting).begin_turn("Keep\x07 this:\r\n\ttea is good.\x7f")
    (content,) = argument(quoting, "archival_memory_insert", "content")
    assert content == "Keep  this:\n tea is good."
    functions_of(quoting).call("archival_memory_insert", {"content": content})
    assert "archival_memory_insert" not in offered(quoting)


def test_what_would_not_fit_a_call_is_cut_or_not_offered(quoting: Agent) -> None:
    limits = functions_of(quoting)._limits
    functions_of(quoting).begin_turn("好" * 150 + "。 " + '"' * (limits.quoted_tokens - 10) + " is what I said.")
    contents = argument(quoting, "core_memory_append", "content")
    assert contents[0].startswith("好好好")
    assert all(limits.quotes(content) for content in contents)
    assert "archival_memory_insert" not in offered(quoting)


def test_of_a_message_that_became_a_document_the_beginning_is_quoted(home: Path) -> None:
    said = " ".join(f"This is number {i}." for i in range(3000))
    with scripted(home, [say("Hm.")], quoting=True) as agent:
        list(agent.send(said))
        shown = agent.store.last(Kind.USER).details["shown_text"]  # type: ignore[union-attr]
        for sentence in argument(agent, "core_memory_append", "content")[:3]:
            assert sentence.rstrip(".") in shown


def test_without_a_message_the_words_are_the_models_own(quoting: Agent) -> None:
    quoting.archival.insert("The market is on today.")
    list(quoting.heartbeat())
    for function, name in (
        ("core_memory_append", "content"), ("archival_memory_insert", "content"), ("archival_memory_search", "query"),
    ):  # fmt: skip
        assert argument(quoting, function, name) == "string"


def test_what_is_too_long_for_the_room_in_a_block_is_not_offered(quoting: Agent) -> None:
    quoting.add_block("small", limit=36)  # 35 characters, but of this vocabulary no more than 12 tokens
    small = offered(quoting)["core_memory_append"][-1]["properties"]
    assert small == {"block": {"const": "small"}, "content": {"const": "I am Ada."}}


def _replies(events: list[Event]) -> int:
    return sum(event.kind is Kind.ASSISTANT for event in events)
