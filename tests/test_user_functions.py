"""The user's functions as they are offered: to a model that quotes, first those that a message is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from agents import call, say, scripted

from localmem.events import Kind
from localmem.functions import describe
from localmem.limits import Limits
from localmem.user_functions import UserFunctions


def set_lamp(room: str, level: int) -> str:
    """Switch a lamp on or off."""
    return f"{room} at {level}"


def send_mail(recipient: str, body: str) -> str:
    """Write a letter."""
    return f"sent to {recipient}"


def roll() -> int:
    """Throw a die."""
    return 4


FUNCTIONS = [describe(function) for function in (set_lamp, send_mail, roll)]
LIMITS = Limits(message_chars=400, quoted_tokens=60, result_tokens=100, count=len)
NAMES = ["set_lamp", "send_mail", "roll"]
MESSAGE = "Put the lamp in Bela's room to 40."


def by_first_word(text: str, others: Sequence[str]) -> list[float]:
    """Alike is what shares a word with the text."""
    said = set(text.casefold().strip(".").split())
    return [float(bool(said & set(other.casefold().split()))) for other in others]


def room_of(functions: UserFunctions) -> Any:
    return functions.variants()["set_lamp"][0]["properties"]["room"]


def test_a_model_that_does_not_quote_is_offered_all_for_any_text() -> None:
    functions = UserFunctions(FUNCTIONS, LIMITS, likeness=by_first_word)
    functions.begin_turn(MESSAGE)
    assert list(functions.variants()) == NAMES
    assert room_of(functions)["type"] == "string"


def test_the_first_call_is_of_what_the_message_is_about_and_quotes_it() -> None:
    functions = UserFunctions(FUNCTIONS, LIMITS, quoting=True, likeness=by_first_word)
    functions.begin_turn(MESSAGE)
    assert list(functions.variants()) == ["set_lamp"]
    assert {"Bela's room", "Bela", "lamp"} <= set(room_of(functions)["enum"])
    functions.called()
    assert list(functions.variants()) == NAMES
    assert room_of(functions)["type"] == "string"


def test_a_turn_that_no_message_began_is_free() -> None:
    functions = UserFunctions(FUNCTIONS, LIMITS, quoting=True, likeness=by_first_word)
    functions.begin_turn(MESSAGE)
    functions.begin_turn()
    assert list(functions.variants()) == NAMES
    assert room_of(functions)["type"] == "string"


@pytest.mark.parametrize("likeness", [lambda *_: None, lambda _, others: [0.3 for _ in others]])
def test_where_nobody_knows_or_all_are_as_near_all_are_offered(likeness: Any) -> None:
    functions = UserFunctions(FUNCTIONS, LIMITS, quoting=True, likeness=likeness)
    functions.begin_turn(MESSAGE)
    assert list(functions.variants()) == NAMES
    assert "enum" in room_of(functions)


def test_a_single_function_is_offered_whatever_is_said() -> None:
    functions = UserFunctions(FUNCTIONS[:1], LIMITS, quoting=True, likeness=by_first_word)
    functions.begin_turn("Good morning!")
    assert list(functions.variants()) == ["set_lamp"]
    assert UserFunctions([], LIMITS, quoting=True).variants() == {}


@pytest.mark.parametrize("message", ["w" * 3000, "w" * 3000 + " lamp", "Lamp! " + "ж" * 500])
def test_what_a_call_has_no_room_for_is_not_quoted(home: Path, message: str) -> None:
    """And where nothing else can be, the text is free."""
    functions = UserFunctions(FUNCTIONS, LIMITS, quoting=True)
    functions.begin_turn(message)
    room = room_of(functions)
    assert room["type"] == "string" if " " not in message else max(map(len, room.get("enum", [room.get("const")]))) < 30
    with scripted(home, [say("So long!")], functions=[set_lamp, send_mail, roll], quoting=True) as agent:
        assert agent.reply(message) == "So long!"


def test_an_agent_calls_a_second_function_with_what_the_first_one_found(home: Path) -> None:
    answers = [
        call("set_lamp", room="Bela's room", level=40),
        call("send_mail", recipient="somebody else", body="Bela's room at 40"),
        say("Done."),
    ]
    with scripted(home, answers, functions=[set_lamp, send_mail, roll], quoting=True) as agent:
        events = list(agent.send(MESSAGE))
    assert [e.text for e in events if e.kind is Kind.RESULT] == ["Bela's room at 40", "sent to somebody else"]
