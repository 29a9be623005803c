"""The agent's own affairs: what begins a turn, undo and checkpoints, what it reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from agents import Clock, call, say, scripted

from localmem.errors import ConfigError, ContextError, FunctionError, StoreError
from localmem.events import Kind


def remember(content: str) -> dict[str, object]:
    return call("core_memory_append", block="human", content=content)


def test_everything_is_there_tomorrow(home: Path) -> None:
    clock = Clock()
    with scripted(home, [remember("Name: Ada."), say("Hello, Ada!")], clock=clock) as agent:
        list(agent.send("I am Ada."))
        messages = agent.context.messages
    clock.pass_time(days=1)
    with scripted(home, [say("You are Ada.")], clock=clock) as agent:
        assert agent.core["human"].value == "Name: Ada."
        assert [hit.text for hit in agent.recall.search().hits] == ["I am Ada.", "Hello, Ada!"]
        assert agent.context.messages == messages
        assert agent.reply("Who am I?") == "You are Ada."


def test_login_tells_who_and_how_long(home: Path) -> None:
    clock = Clock()
    with scripted(home, [say("Hi.")], clock=clock) as agent:
        (first,) = agent.login("Ada")
        assert (first.kind, first.details["who"], first.details["away_s"]) == (Kind.LOGIN, "Ada", None)
        list(agent.send("Hi."))
        clock.pass_time(days=3, hours=2)
        (back,) = agent.login("Ada")
        assert "Ada is back after 3 days" in back.text
        assert back.details["away_s"] == pytest.approx(3 * 86400 + 7200, abs=1)
        assert "Ada is back" in "".join(agent.engine.prompts) or agent.context.events >= {back.id}  # type: ignore[attr-defined]


def test_an_opener_heartbeats_and_timers_are_answered(home: Path) -> None:
    with scripted(home, [say("Welcome back!"), say("All quiet."), say("Your tea is ready.")]) as agent:
        for events, kind in (
            (agent.login("Ada", opener=True), Kind.LOGIN),
            (agent.heartbeat(), Kind.HEARTBEAT),
            (agent.timer("tea"), Kind.TIMER),
        ):
            seen = list(events)
            assert seen[0].kind is kind
            assert seen[-1].kind is Kind.ASSISTANT
        assert "timer: tea" in agent.engine.prompts[-1]  # type: ignore[attr-defined]


def test_pop_undoes_the_exchange_and_its_memory(home: Path) -> None:
    answers = [say("Hi."), remember("Likes tea."), say("Noted."), say("No idea.")]
    with scripted(home, answers) as agent:
        list(agent.send("Hello."))
        list(agent.send("I like tea."))
        popped = agent.pop()
        assert popped is not None
        assert popped.text == "I like tea."
        assert agent.core["human"].value == ""
        assert agent.recall.search("tea").total == 0
        agent.reply("What do I like?")
        assert "I like tea" not in agent.engine.prompts[-1]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("count", "left"), [(0, 3), (1, 2), (2, 1), (3, 0), (99, 0)])
def test_pop_counts_messages(home: Path, count: int, left: int) -> None:
    with scripted(home, [say("a"), say("b"), say("c")]) as agent:
        for text in ("one", "two", "three"):
            list(agent.send(text))
        agent.pop(count)
        assert len(agent.store.path(kinds=[Kind.USER])) == left


def test_retry_answers_the_same_message_anew(home: Path) -> None:
    with scripted(home, [remember("Wrong."), say("Bad answer."), say("Good answer.")]) as agent:
        list(agent.send("Question?"))
        assert list(agent.retry())[-1].text == "Good answer."
        assert agent.core["human"].value == ""
        assert [e.text for e in agent.store.path(kinds=[Kind.USER, Kind.ASSISTANT])] == ["Question?", "Good answer."]


def test_retry_needs_a_message(home: Path) -> None:
    with scripted(home) as agent, pytest.raises(ContextError, match="say something first"):
        agent.retry()


def test_save_and_load_move_between_branches(home: Path) -> None:
    with scripted(home, [say("a"), say("b"), say("c")]) as agent:
        list(agent.send("one"))
        agent.save("fork")
        list(agent.send("left"))
        agent.save("left")
        agent.load("fork")
        list(agent.send("right"))
        assert [e.text for e in agent.store.path(kinds=[Kind.USER])] == ["one", "right"]
        agent.load("left")
        assert [e.text for e in agent.store.path(kinds=[Kind.USER])] == ["one", "left"]
        with pytest.raises(ConfigError, match="saved are: fork, left"):
            agent.load("nowhere")


def test_an_unanswered_message_is_known_and_answered(home: Path) -> None:
    with scripted(home, [say("Hi.")]) as agent:
        list(agent.send("Hello."))
        assert agent.unanswered is None
        turn = agent.send("And now?")
        next(turn)  # the process dies here
        turn.close()  # type: ignore[attr-defined]
    with scripted(home, [say("Now I am here.")]) as agent:
        unanswered = agent.unanswered
        assert unanswered is not None
        assert unanswered.text == "And now?"
        assert list(agent.resume())[-1].text == "Now I am here."
        assert list(agent.resume()) == []


def test_a_block_set_by_hand_is_told_and_shown(home: Path) -> None:
    with scripted(home, [say("Yes.")]) as agent:
        agent.set_block("human", "Name: Bo.")
        agent.reply("Do you know me?")
        prompt = agent.engine.prompts[-1]  # type: ignore[attr-defined]
        assert "The user changed core memory" in prompt
        with pytest.raises((ConfigError, FunctionError)):
            agent.set_block("nobody", "x")
        head = agent.store.head
        with pytest.raises(FunctionError):
            agent.set_block("human", "x" * 10_000)
        assert agent.store.head == head


def test_an_alert_is_read_but_not_answered(home: Path) -> None:
    with scripted(home, [say("I saw it.")]) as agent:
        agent.alert("The document manual.md was added.")
        agent.reply("Anything new?")
        assert "manual.md was added" in agent.engine.prompts[-1]  # type: ignore[attr-defined]


def test_stats_and_why(home: Path) -> None:
    with scripted(home, [say("Hi.")]) as agent:
        assert agent.why() is None
        list(agent.send("Hello."))
        stats = agent.stats()
        assert (stats["messages"], stats["passages"], stats["documents"], stats["generations"]) == (2, 0, 0, 1)
        assert 0 < stats["pressure"] < 1
        why = agent.why()
        assert why is not None
        assert why["shown"] == []


def test_one_process_one_agent(home: Path) -> None:
    with scripted(home), pytest.raises(StoreError, match=r"in use|open"):
        scripted(home)
    scripted(home).close()


def test_a_closed_agent_says_so(home: Path) -> None:
    agent = scripted(home)
    agent.close()
    with pytest.raises(StoreError, match="closed"):
        agent.core.set("human", "x")
