"""What test_kill kills: an agent that takes turns for ever and prints each event, as JSON, once it is committed.

    python kill_target.py HOME [MODEL]

It begins when a line comes on stdin, so that it can be started while another runs. On the scripted engine: steps of
every kind in a random order, a user function among them. With MODEL: what it writes.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

from agents import agent_on, call, say

from localmem import Agent, ScriptedEngine, load_engine

PLACES = ("Lisbon", "Porto", "Faro", "Evora", "Braga", "Sintra")
STEPS = ("append", "insert", "wait", "search", "think")
_chance = random.Random()


def wait(milliseconds: int) -> str:
    """Wait a little, then say how long."""
    time.sleep(milliseconds / 1000)
    return f"waited {milliseconds} ms"


def step(kind: str) -> dict[str, Any]:
    """A call that the grammar allows in any state of the agent's."""
    number = _chance.randrange(10**6)
    return {
        "append": lambda: call("core_memory_append", "Save it.", block="notes", content=f"Note {number}."),
        "insert": lambda: call("archival_memory_insert", "", content=f"Passage {number} about the sea."),
        "wait": lambda: call("wait", "Wait.", milliseconds=_chance.randrange(1, 12)),
        "search": lambda: call("archival_memory_search", "Look.", query="sea", page=1),
        "think": lambda: call("archival_memory_insert", "I think aloud.", content=f"Thought {number}."),
    }[kind]()


def paging(prompt: str) -> dict[str, Any] | None:
    """What page_out is called with, if the prompt ends with the request to call it."""
    asked = re.search(r"Call page_out now.*through #(\d+).*\s*assistant\s*$", prompt)
    return asked and call("page_out", through=int(asked[1]), summary="The user told of places, and they were noted.")


def back(prompt: str) -> dict[str, Any]:
    """What the agent says after it was killed."""
    return paging(prompt) or say("I am back.")


def answers(prompt: str) -> dict[str, Any]:
    """The next step: small sleeps, so that the instants at which the process dies differ."""
    time.sleep(_chance.random() * 0.004)
    if request := paging(prompt):
        return request
    turn = prompt.rsplit("] Message ", 1)[-1]
    if turn.count('"function": ') > 3 or _chance.random() < 0.35:
        return say(f"Noted. {_chance.choice(PLACES)} it is.", "Answer.")
    allowed = [kind for kind in STEPS if kind != "search" or "Stored in archival memory" in turn]
    return step(_chance.choice(allowed if "notes is now" not in turn else allowed[1:]))


def open_scripted(home: Path) -> Agent:
    agent = agent_on(home, ScriptedEngine(script=answers), functions=[wait])
    if "notes" not in agent.core:
        agent.core.add("notes", "", limit=600)
    while len(agent.core["notes"].value) > 100:
        agent.core.set("notes", "")
    return agent


def main(home: Path, model: str | None) -> None:
    if not sys.stdin.readline():
        return  # whoever started it is gone
    if model is None:
        agent = open_scripted(home)
    else:
        agent = agent_on(home, load_engine(model), functions=[wait], prompt="compact", max_steps=3)
    for number in itertools.count():
        if model is None and len(agent.core["notes"].value) > 100:
            agent.core.set("notes", "")
        for event in agent.send(f"Message {number}: I am in {_chance.choice(PLACES)} today."):
            print(json.dumps(event.as_dict()), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
