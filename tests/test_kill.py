"""kill -9 at any instant of a turn: what was committed is there, what was not left no trace, and the agent goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from agents import agent_on, say, scripted
from conftest import ROOT
from kill_target import back, wait

from localmem import Agent, Event, Kind, ScriptedEngine

KILLS = 20
PRINTED = dict[str, Any]


def start(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """The target, which imports what it needs and waits."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, str(ROOT / "tests" / "kill_target.py"), str(home), *arguments]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, env=environment, **pipes)  # type: ignore[call-overload, no-any-return]


def run_and_kill(target: subprocess.Popen[bytes], seconds: float) -> list[PRINTED]:
    """Let the target begin, kill it so many seconds after its first event, and return the events that it printed."""
    with target as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        first = process.stdout.readline()
        if not first:
            pytest.fail(f"the target ended by itself: {process.stderr.read().decode()[-2000:]}")
        timer = threading.Timer(seconds, process.send_signal, [signal.SIGKILL])
        timer.start()
        rest = process.stdout.read()
        assert process.wait(60) == -signal.SIGKILL, process.stderr.read().decode()[-2000:]
    whole = (first + rest).decode().split("\n")[:-1]  # the last line may have been cut
    return [json.loads(line) for line in whole]


def check(agent: Agent, printed: list[PRINTED]) -> None:
    """All that was printed is there as it was printed, and no step is half done."""
    stored = {event.id: event.as_dict() for event in agent.store.path()}
    for event in printed:
        assert stored[event["id"]] == event
    assert list(stored) == list(range(1, len(stored) + 1)), "no gap, nothing beside the one branch"
    for before, after in zip(stored.values(), list(stored.values())[1:], strict=False):
        assert after["parent"] == before["id"]
    check_steps(list(agent.store.path()))


def check_steps(events: list[Event]) -> None:
    """Every call has its result or its message, every result its call, every thought its call: none stands alone."""
    for event, after in zip(events, [*events[1:], None], strict=True):
        if event.kind is Kind.THOUGHT:
            assert after is not None
            assert after.kind is Kind.CALL
        if event.kind is Kind.CALL:
            assert after is not None, f"the call {event.id} has no outcome"
            assert event.call is not None
            outcome = {"send_message": Kind.ASSISTANT, "page_out": Kind.SUMMARY}
            assert after.kind is outcome.get(event.call.function, Kind.RESULT)
        if event.kind is Kind.SUMMARY:
            assert after is not None
            assert after.kind is Kind.RESULT
        if event.kind is Kind.RESULT:
            assert event.details["status"] in ("ok", "unknown")
            assert event.details["status"] == "ok" or event.details["function"] == "wait"


def effects(agent: Agent) -> tuple[int, int]:
    """Passages that are stored, and calls that stored one: an effect and its call are committed together."""
    calls = [event for event in agent.store.path() if event.call and event.call.function == "archival_memory_insert"]
    return len(agent.archival), len({event.call.arguments["content"] for event in calls if event.call})


def found(agent: Agent, printed: list[PRINTED]) -> None:
    """The committed messages are found by search."""
    said = [event for event in printed if event["kind"] == "user_message"]
    for event in random.Random(len(said)).sample(said, min(3, len(said))):
        number = event["text"].split(":")[0]
        assert event["id"] in [hit.source for hit in agent.recall.search(number, page_size=50).hits]


def test_twenty_kills_lose_nothing(home: Path) -> None:
    chance = random.Random(9)
    printed: list[PRINTED] = []
    seen = {"unanswered": 0, "unknown": 0}
    targets = [start(home)]
    for number in range(KILLS):
        targets.append(start(home))  # it imports while its predecessor runs
        # Spread over the run: right after the first event of a turn, and up to many turns later.
        printed += run_and_kill(targets.pop(0), chance.random() ** 2 * 0.6)
        with agent_on(home, ScriptedEngine(script=back), functions=[wait]) as agent:
            check(agent, printed)
            assert effects(agent)[0] == effects(agent)[1]
            seen["unknown"] += agent.store.last().details.get("status") == "unknown"  # type: ignore[union-attr]
            if agent.unanswered is not None:
                seen["unanswered"] += 1
                printed += [event.as_dict() for event in agent.resume()]
                assert agent.unanswered is None
            if number % 5 == 4:
                agent.indexer.flush()
                found(agent, printed)
                printed += [event.as_dict() for event in agent.summarize()]  # on a slow machine no window gets full
                printed += [event.as_dict() for event in agent.send(f"Are you there, number {number}?")]
                assert [event["text"] for event in printed if event["kind"] == "assistant_message"][-1] == "I am back."
    for unused in targets:
        unused.kill()
        unused.communicate()
    assert seen["unanswered"] >= KILLS // 4, "the kills must hit turns, not the pauses between them"
    assert {str(kind) for kind in (Kind.SUMMARY, Kind.RESULT, Kind.ASSISTANT)} <= {event["kind"] for event in printed}


def test_a_function_that_was_running_is_unknown_and_not_repeated(home: Path, tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from agents import call, scripted
def wait(milliseconds: int) -> str:
    '''Wait.'''
    print("running", flush=True)
    time.sleep(60)
    return "done"
list(scripted(Path({str(home)!r}), [call("wait", milliseconds=9)], functions=[wait]).send("Wait, please."))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        process.kill()
    for _ in range(2):  # the second start finds nothing left to recover
        with scripted(home, functions=[wait]) as agent:
            *_, user, started, result = agent.store.path()
            assert (user.text, started.kind, result.kind) == ("Wait, please.", Kind.CALL, Kind.RESULT)
            assert result.details["status"] == "unknown"
            assert agent.unanswered == user
    with scripted(home, [say("I do not know whether it was done.")], functions=[wait]) as agent:
        assert [event.text for event in agent.resume()][-1] == "I do not know whether it was done."


@pytest.mark.slow
def test_three_kills_of_the_bundled_model(home: Path, model_path: Path) -> None:
    chance = random.Random(4)
    printed: list[PRINTED] = []
    for _ in range(3):
        printed += run_and_kill(start(home, str(model_path)), 1 + 6 * chance.random())
        with agent_on(home, ScriptedEngine(script=back), functions=[wait], prompt="compact") as agent:
            check(agent, printed)
            printed += [event.as_dict() for event in agent.resume()]
            agent.indexer.flush()
            found(agent, printed)
            assert agent.reply("Are you there?") == "I am back."
            printed += [event.as_dict() for event in list(agent.store.path())[len(printed) :]]
