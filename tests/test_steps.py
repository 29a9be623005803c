"""Steps that go wrong: cut texts, functions that misbehave, interrupts between steps."""

from __future__ import annotations

from enum import Enum
from functools import partial
from pathlib import Path

import pytest
from agents import call, say, scripted

from localmem.errors import ConfigError, ContextError, FunctionError
from localmem.events import Kind
from localmem.functions import describe


def test_a_user_function_never_runs_on_a_cut_text(home: Path) -> None:
    def email(to: str, message: str) -> str:
        """Send an email."""
        raise AssertionError("must not run")

    answers = [call("email", to="bo", message="x" * 1900), say("It was too long.")]
    with scripted(home, answers, n_ctx=8192, functions=[email]) as agent:
        result = next(e for e in agent.send("Write to Bo.") if e.kind is Kind.RESULT)
        assert "Not done" in result.text


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_result_that_cannot_be_written_is_a_failed_one(home: Path) -> None:
    def mute() -> Mute:
        """Return something without a text."""
        return Mute()

    with scripted(home, [call("mute"), say("So.")], functions=[mute]) as agent:
        result = next(e for e in agent.send("Go.") if e.kind is Kind.RESULT)
        assert (result.details["status"], result.text) == ("failed", "RuntimeError: no text")


def test_a_function_that_ends_the_program_is_recorded_and_lets_it_end(home: Path) -> None:
    def leave() -> None:
        """Leave."""
        raise SystemExit(3)

    with scripted(home, [call("leave")], functions=[leave]) as agent:
        with pytest.raises(SystemExit):
            list(agent.send("Go."))
        last = agent.store.last()
        assert last is not None
        assert (last.kind, last.details["status"]) == (Kind.RESULT, "unknown")


def test_a_died_function_is_recorded_even_if_something_was_appended_since(home: Path) -> None:
    with scripted(home) as agent:
        agent.store.append(Kind.USER, "Go.")
        agent.store.append(Kind.CALL, call=_called("launch"), details={"started": True})
        agent.store.append(Kind.ALERT, "The document x was loaded.")
    for _ in range(2):  # recorded once
        with scripted(home) as agent:
            results = agent.store.path(kinds=[Kind.RESULT])
            assert [(r.details["function"], r.details["status"]) for r in results] == [("launch", "unknown")]


def _called(name: str):  # type: ignore[no-untyped-def]
    from localmem.events import FunctionCall

    return FunctionCall(name, {})


class Nothing(Enum):
    pass


class Odd(Enum):
    A = object()


def takes_nothing(x: Nothing) -> None:
    """Take it."""


def takes_odd(x: Odd) -> None:
    """Take it."""


async def later() -> None:
    """Later."""


@pytest.mark.parametrize("bad", [takes_nothing, takes_odd, later, partial(print, 1)])
def test_what_cannot_be_called_is_refused_at_registration(bad: object) -> None:
    with pytest.raises(ConfigError):
        describe(bad)  # type: ignore[arg-type]


def test_an_interrupt_between_steps_ends_the_turn(home: Path) -> None:
    def press() -> str:
        """Press Ctrl-C."""
        agent.interrupt()
        return "pressed"

    with scripted(home, [call("press")], functions=[press]) as agent:
        events = list(agent.send("Go."))
        assert events[-1].kind is Kind.ALERT
        assert "interrupted" in events[-1].text
        agent.engine.answers.append(say("Yes."))  # type: ignore[attr-defined]
        assert agent.reply("Still there?") == "Yes."


# -- what is said to an agent in other ways than by a message


def test_a_long_timer_or_alert_is_shown_in_part(home: Path) -> None:
    with scripted(home, [say("Ring.")], n_ctx=8192) as agent:
        assert list(agent.timer("word " * 8000))[-1].text == "Ring."
        alert = agent.alert("word " * 8000)
        assert len(alert.text) == 40000
        assert agent.context.tokens <= agent.context.window.n_ctx


def test_an_alert_under_pressure_is_not_lost(home: Path) -> None:
    def script(prompt: str) -> dict[str, object] | None:
        return None if "Call page_out now" in prompt[-400:] else say("Hm. " * 100)

    with scripted(home, script=script, n_ctx=8192) as agent:
        while agent.context.fits(600):
            list(agent.send("Fill it."))
        alert = agent.alert("The document x was added. " * 15)
        assert alert.kind is Kind.ALERT
        assert alert.id in agent.context.events


def test_memory_warnings_without_end(home: Path) -> None:
    with scripted(home, n_ctx=6144) as agent:
        for _ in range(60):
            agent.memory_warning()
        assert agent.context.fits(0)
        agent.engine.answers.append(say("Yes."))  # type: ignore[attr-defined]
        assert agent.reply("Still there?") == "Yes."


def test_what_can_never_fit_is_refused_before_anything_is_paged_out(home: Path) -> None:
    with scripted(home, [say("Hi.")], n_ctx=8192) as agent:
        list(agent.send("Hello."))
        messages = list(agent.context.messages)
        with pytest.raises(FunctionError, match="600 characters"):
            agent.set_block("human", "x" * 40_000)
        with pytest.raises(ContextError, match="too long"):
            agent.add_block("notes", "x" * 40_000)
        assert agent.context.messages == messages


def test_closing_lets_go_of_everything_even_if_a_cache_cannot_be_saved(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = scripted(home)
    close = agent.indexer.close

    def broken() -> None:
        close()
        raise OSError("disk full")

    monkeypatch.setattr(agent.indexer, "close", broken)
    with pytest.raises(OSError, match="disk full"):
        agent.close()
    scripted(home).close()
