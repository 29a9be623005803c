"""Turns that touch no memory: talk and requests, functions of the user's own, events of the system, and page-outs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from training.remembering import say
from training.scenario import Call, Expected, Turn, UserFunction
from training.texts import Item, Values, fill
from training.world import World

_NOTHING_TO_SAVE = {
    "request": "Talk: a request; do it.",
    "question": "Talk: a question; answer.",
    "about_agent": "Talk: about me; answer.",
}


def talked(world: World) -> Turn | None:
    """Talk, a request, a question: answered at once."""
    item = world.item("chat")
    if item is None:
        return None
    values = world.texts.draw(item, world.rng)
    thought = _NOTHING_TO_SAVE.get(item["kind"], "Talk; nothing to save.")
    turn = (say(thought, world.pick(item["reply"], values)),)
    return Turn(world.pick(item["say"], values), turn, Expected("chat"))


# -- functions of the user's own


def user_function(item: Item) -> UserFunction:
    """The function that an item of functions.yaml describes."""
    return UserFunction(item["name"], item["doc"], item.get("parameters") or {})


def requested(world: World) -> Turn | None:
    """A request for which there is a function."""
    if not world.requests:
        return None
    item = world.rng.choice(world.requests)
    values = world.texts.draw(item, world.rng)
    arguments = typed(item, values)
    result = fill(str(item.get("result") or "done"), values)
    calls = (
        Call("Function; call it.", item["name"], arguments),
        say("Done; tell the user.", world.pick(_listed(item["reply"]), values)),
    )
    expected = Expected("function", (item["name"],), arguments=arguments, line=result)
    return Turn(world.pick(item["say"], values), calls, expected)


def _listed(given: Any) -> Sequence[str]:
    return [given] if isinstance(given, str) else given


def typed(item: Item, values: Values) -> Mapping[str, Any]:
    """The arguments of a request, each of its parameter's type."""
    parameters = item.get("parameters") or {}
    given = item.get("arguments") or {}
    return {name: _typed(fill(str(given[name]), values), kind) for name, kind in parameters.items() if name in given}


def _typed(text: str, kind: Any) -> Any:
    match kind:
        case "int":
            return int(text)
        case "float":
            return float(text)
        case "bool":
            return text.lower() in ("true", "yes", "on")
        case _:
            return text


# -- events that no user wrote

_GREETINGS = ("Hello! What can I do for you?", "Welcome back!", "Hi, good to see you again.", "Hello, nice to see you.")
_IDLE = ("I am here if you need me.", "All is quiet. Tell me if you need anything.")
_TASKS = (
    "take the bread out of the oven",
    "water the plants",
    "call the dentist",
    "stretch a little",
    "leave for the train",
    "feed the cat",
    "hang up the laundry",
    "drink some water",
    "check the soup",
    "join the meeting",
    "turn off the sprinkler",
    "take the tablets",
)


def greeted(world: World) -> Turn:
    """Somebody comes back, and the agent speaks first."""
    reply = world.pick(_GREETINGS)
    return Turn("", (say("The user is here; greet.", reply),), Expected("login"), begins="login")


def woken(world: World) -> Turn:
    """A heartbeat with nothing to do."""
    return Turn("", (say("Nothing to do.", world.pick(_IDLE)),), Expected("heartbeat"), begins="heartbeat")


def reminded(world: World) -> Turn:
    """A timer has run out."""
    task = world.pick(_TASKS)
    reply = world.pick(("Time to {task}!", "Your timer is up: {task}.", "Reminder: {task}."), {"task": task})
    return Turn(task, (say("The timer is up; tell the user.", reply),), Expected("timer"), begins="timer")


def paged_out() -> Turn:
    """Main context is full: the oldest messages are summed up. What they held, only the recorder knows."""
    call = Call("", "page_out", {"through": 0, "summary": ""})
    return Turn("", (call,), Expected("page-out", ("page_out",)), begins="page_out")


def warned() -> Turn:
    """A warning of memory pressure, to which nothing has to be said."""
    return Turn("", (), Expected("warning"), begins="warning")


def returned(minutes: int = 1) -> Turn:
    """The user opens the chat, so long after: a note, and nothing to be said yet."""
    return Turn("", (), Expected("note"), begins="note", minutes=minutes)


def came_back(world: World) -> Turn | None:
    """The user opens the chat again, a day or so after something was told that is still in main context."""
    if not world.said:
        return None
    minutes = world.rng.randint(600, 3000)
    world.now += timedelta(minutes=minutes)
    return returned(minutes)
