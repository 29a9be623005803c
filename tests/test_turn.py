"""Whole turns: what the user says goes in, events come out, and what the model sees next is what was committed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from agents import Clock, call, say, scripted

from localmem import FunctionError
from localmem.errors import ConfigError
from localmem.events import Event, Kind
from localmem.grammar.schema import MAX_STRING


def kinds(events: list[Event]) -> list[str]:
    return [event.kind.name for event in events]


def test_a_plain_reply(home: Path) -> None:
    with scripted(home, [say("Hello, Ada!", thought="Greet.")]) as agent:
        events = list(agent.send("Hi, I am Ada."))
        assert kinds(events) == ["USER", "THOUGHT", "CALL", "ASSISTANT"]
        assert [e.parent for e in events] == [None, *(e.id for e in events[:-1])]
        assert events[-1].text == "Hello, Ada!"
        assert events[2].stats is not None
        assert events[2].stats["prompt_tokens"] > 0


def test_the_turn_goes_on_until_a_message_is_sent(home: Path) -> None:
    answers = [
        call("core_memory_append", "Save.", block="human", content="Name: Ada."),
        call("archival_memory_insert", "Keep.", content="Ada's long story."),
        say("Done."),
    ]
    with scripted(home, answers) as agent:
        events = list(agent.send("Remember me."))
        assert kinds(events) == ["USER", "THOUGHT", "CALL", "RESULT", "THOUGHT", "CALL", "RESULT", "CALL", "ASSISTANT"]
        assert agent.core["human"].value == "Name: Ada."
        assert agent.archival.search("long story").total == 1


def test_the_last_step_always_sends_a_message(home: Path) -> None:
    stubborn = call("archival_memory_insert", content="again")
    insisting = scripted(home, script=lambda _: stubborn, max_steps=3)
    with insisting as agent, pytest.raises(AssertionError, match="grammar does not allow"):
        list(agent.send("Hi"))  # the script insists on the third step, and the grammar does not let it
    with scripted(home, [stubborn, stubborn], max_steps=3) as agent:
        events = list(agent.send("Hi"))
        assert [e.call.function for e in events if e.call][-1] == "send_message"
        assert sum(e.kind is Kind.ASSISTANT for e in events) == 1


def test_streamed_text_is_the_reply_and_the_thought_is_told_apart(home: Path) -> None:
    said: dict[Kind, str] = {Kind.THOUGHT: "", Kind.ASSISTANT: ""}

    def on_text(kind: Kind, text: str) -> None:
        said[kind] += text

    message = 'Quotes "here", a \\ and\na new line, é, 日本, 🎉.'
    with scripted(home, [say(message, thought="Hm: \t tabs are refused".replace("\t", ""))]) as agent:
        events = list(agent.send("Hi", on_text=on_text))
    assert said[Kind.ASSISTANT] == message == events[-1].text
    assert said[Kind.THOUGHT] == events[1].text


def test_what_the_model_reads_is_appended_to_and_never_rewritten(home: Path) -> None:
    answers = [call("core_memory_append", block="human", content="Lives in Lisbon."), say("Saved."), say("Lisbon.")]
    with scripted(home, answers) as agent:
        list(agent.send("I live in Lisbon."))
        list(agent.send("Where do I live?"))
        prompts = agent.engine.prompts  # type: ignore[attr-defined]
        assert all(later.startswith(earlier) for earlier, later in pairwise(prompts))
        assert agent.context.meter.divergences == {}
        assert "human is now:\nLives in Lisbon." in prompts[-1]


def test_empty_messages_are_refused_before_anything_happens(home: Path) -> None:
    with scripted(home) as agent:
        for text in ("", "  \n"):
            with pytest.raises(ConfigError, match="empty"):
                agent.send(text)
        assert agent.store.head is None


# -- functions of the user's own


def add(first: int, second: int) -> int:
    """Add two numbers."""
    return first + second


def fail(reason: str) -> str:
    """Always fail."""
    raise FunctionError(reason)


def crash() -> None:
    """Raise something unexpected."""
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (call("add", first=2, second=40), "ok", "42"),
        (call("fail", reason="no such city"), "failed", "no such city"),
        (call("crash"), "failed", "ZeroDivisionError"),
    ],
)
def test_user_functions(home: Path, answer: dict[str, Any], status: str, text: str) -> None:
    with scripted(home, [answer, say("So.")], functions=[add, fail, crash]) as agent:
        events = list(agent.send("Do it."))
        result = next(e for e in events if e.kind is Kind.RESULT)
        assert (result.details["status"], result.text) == (status, text)
        assert events[-1].text == "So."


def test_a_user_function_that_died_is_not_repeated(home: Path) -> None:
    class Died(BaseException):
        pass

    def deadly() -> str:
        """End the process."""
        raise Died

    with scripted(home, [call("deadly")], functions=[deadly]) as agent, pytest.raises(Died):
        list(agent.send("Go."))
    with scripted(home, [say("I do not know whether it was done.")], functions=[deadly]) as agent:
        last = agent.store.last()
        assert last is not None
        assert (last.kind, last.details["status"]) == (Kind.RESULT, "unknown")
        unanswered = agent.unanswered
        assert unanswered is not None
        assert unanswered.text == "Go."
        assert list(agent.resume())[-1].text == "I do not know whether it was done."
        assert agent.unanswered is None


def test_a_long_result_is_cut_for_the_model_and_whole_in_recall(home: Path) -> None:
    def report() -> str:
        """Write a long report."""
        return "finding " * 2000

    with scripted(home, [call("report"), say("Read it.")], functions=[report]) as agent:
        events = list(agent.send("Report!"))
        result = next(e for e in events if e.kind is Kind.RESULT)
        assert len(result.text) == 16000
        assert len(result.details["shown_text"]) < 2000
        assert "more characters" in result.details["shown_text"]
        assert agent.context.tokens <= agent.context.window.usable


# -- messages that do not fit, budgets that run out


def test_a_message_too_long_for_the_window_becomes_a_document(home: Path) -> None:
    text = "\n".join(f"Line {i}: the pump number {i} is checked every {i} days." for i in range(2000))
    with scripted(home, [say("That is long.")], n_ctx=8192) as agent:
        events = list(agent.send(text))
        assert events[0].text == text
        name = events[0].details["document"]
        assert [document.name for document in agent.archival.documents()] == [name]
        assert name in agent.engine.prompts[-1]  # type: ignore[attr-defined]
        hits = agent.archival.search("1234", page_size=10).hits
        assert any("number 1234 is" in hit.text for hit in hits)


@pytest.mark.parametrize(
    ("content", "closed_by", "told"),
    [
        (" ".join(f"fact {n}" for n in range(220)), "budget", "too long"),
        ("a fact that goes on " * 100, "loop", "repeated itself"),
    ],
)
def test_a_memory_write_cut_short_is_marked_and_told(home: Path, content: str, closed_by: str, told: str) -> None:
    assert len(content) <= MAX_STRING
    with scripted(home, [call("archival_memory_insert", content=content), say("Hm.")], n_ctx=8192) as agent:
        events = list(agent.send("Keep this."))
        written = next(e for e in events if e.kind is Kind.CALL)
        assert written.stats is not None
        assert written.stats["closed_by"] == closed_by
        assert written.stats["closed_paths"] == ["$.arguments.content"]
        stored = agent.archival.search("fact").hits[0].text
        assert stored.endswith("[cut]")
        result = next(e for e in events if e.kind is Kind.RESULT)
        assert told in result.text


def test_a_call_cut_before_it_was_decided_is_not_run(home: Path) -> None:
    def launch(target: str, note: str) -> str:
        """Launch something."""
        raise AssertionError("must not run")

    answers = [call("launch", target="".join(f"x{n}" for n in range(400)), note="n"), say("Too long.")]
    with scripted(home, answers, n_ctx=8192, functions=[launch]) as agent:
        events = list(agent.send("Launch."))
        assert "Not done" in next(e for e in events if e.kind is Kind.RESULT).text


def test_a_reply_cut_by_the_budget_is_whole_and_says_so(home: Path) -> None:
    with scripted(home, [say(" ".join(f"word {n}" for n in range(400)))], n_ctx=8192) as agent:
        reply = list(agent.send("Talk."))[-1]
        assert reply.kind is Kind.ASSISTANT
        assert reply.details["cut"] is True


def test_a_thought_leaves_the_call_room(home: Path) -> None:
    with scripted(home, n_ctx=8192) as agent:
        list(agent.send("Think."))
        call = next(event for event in agent.store.path() if event.call is not None)
        assert call.stats is not None
        assert "$.thought" not in call.stats["closed_paths"]


# -- interrupts


def test_an_interrupt_keeps_what_was_said(home: Path) -> None:
    with scripted(home, [say("One two three four five."), say("Yes.")]) as agent:

        def stop(kind: Kind, text: str) -> None:
            if kind is Kind.ASSISTANT:
                agent.interrupt()

        events = list(agent.send("Count.", on_text=stop))
        said = next(e for e in events if e.kind is Kind.ASSISTANT)
        assert said.details["interrupted"] is True
        assert "One two three four five.".startswith(said.text)
        agent.engine.answers.clear()  # type: ignore[attr-defined]
        agent.engine.answers.append(say("Yes."))  # type: ignore[attr-defined]
        assert agent.reply("Still there?") == "Yes."
        assert "interrupted" in agent.engine.prompts[-1]  # type: ignore[attr-defined]
    with scripted(home, [say("Again.")]) as agent:
        assert agent.reply("And now?") == "Again."


# -- where an answer comes from


def test_a_reply_keeps_the_sources_that_it_was_shown(home: Path) -> None:
    with scripted(home, [say("Noted.")]) as agent:
        told, *_ = agent.send("My bicycle is red.")
        through = agent.context.cuts(None)[-1].through
        agent.engine.answers.append(call("page_out", through=through, summary="A bicycle."))  # type: ignore[attr-defined]
        list(agent.summarize())
        agent.engine.answers.extend(  # type: ignore[attr-defined]
            [call("conversation_search", query="bicycle", page=1), say("It is red.")]
        )
        reply = list(agent.send("What colour is my bicycle?"))[-1]
        assert told.id in reply.details["shown"]
        why = agent.why()
        assert why is not None
        assert why["reply"].id == reply.id
        assert [e.call.function for e in why["calls"]] == ["conversation_search", "send_message"]


def test_time_is_told_at_the_message_and_the_day_when_it_changes(home: Path) -> None:
    clock = Clock()
    with scripted(home, [say("a"), say("b"), say("c")], clock=clock) as agent:
        list(agent.send("first"))
        clock.pass_time(minutes=5)
        list(agent.send("second"))
        clock.pass_time(days=1)
        list(agent.send("third"))
        prompt = agent.engine.prompts[-1]  # type: ignore[attr-defined]
    day = clock.now.astimezone()
    assert prompt.count(f"{day:%Y-%m-%d}") == 1
    assert f"{day:%a %Y-%m-%d %H:%M}] third" in prompt
    assert "] second" in prompt
