"""The chat in a pseudo-terminal, on the bundled model, as a person has it; and its parts that need no model."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from localmem import ConfigError, Kind
from localmem.cli import console
from localmem.cli.chat_screen import SafeStream, Screen, one_line, status_line
from localmem.cli.timers import Timers, parse_span, span_text
from localmem.config import Paths
from localmem.memory.store import Store

pexpect = pytest.importorskip("pexpect")

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

ALT_ENTER, CTRL_C, CTRL_D = "\x1b\r", "\x03", "\x04"
SMALL = ["--n-ctx", "3072", "--prompt", "compact", "--temp", "0"]
PROMPT = "Ctrl-D leaves"
#: A dim line (a thought, a call), and after it the reply while it is written, another thought, or a result.
STREAMING = r"\x1b\[2m[·→] [^\n]*\n[^\n]*\w"


def see(child: Any, *texts: str, timeout: float = 60) -> None:
    """Wait for patterns, one after another, and answer the terminal's part: where the cursor is."""
    for text in texts:
        while child.expect([text, "\x1b\\[6n"], timeout=timeout):
            child.send("\x1b[1;1R")


@pytest.fixture
def chat(with_models: Path) -> Iterator[Callable[..., Any]]:
    """Starts `localmem chat -a t` in a pseudo-terminal."""
    started: list[Any] = []

    def start(*flags: str, size: tuple[int, int] = (40, 100), until: str | None = PROMPT) -> Any:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
        arguments = ["-m", "localmem", "chat", "-a", "t", *SMALL, *flags]
        child = pexpect.spawn(sys.executable, arguments, env=environment, encoding="utf-8", timeout=60, dimensions=size)
        started.append(child)
        if until is not None:
            see(child, until)
            see(child, "> ")
        return child

    yield start
    for child in started:
        child.close(force=True)


def events(paths: Paths) -> list[Any]:
    store = Store.open(paths.agent_folder("t") / "agent.duckdb")
    try:
        return store.path()
    finally:
        store.close()


def leave(child: Any) -> None:
    child.send(CTRL_D)
    see(child, pexpect.EOF)
    child.close()
    assert (child.exitstatus, child.signalstatus) == (0, None)


def test_a_chat_from_first_word_to_the_next_day(chat: Callable[..., Any], paths: Paths) -> None:
    child = chat(until=None)
    see(child, re.escape("t · smollm2-135m · window 3072 tokens · nothing remembered yet · offline"))
    see(child, "> .*context \\d+/\\d+ · pressure \\d+%")
    child.send("Say hello.\r")
    see(child, STREAMING)
    time.sleep(1)
    child.send(CTRL_C)  # it may go on for long; if it is over, this is the hint at the empty prompt
    see(child, "context \\d+/.* prefix hit \\d+%")  # the status line after the turn
    child.send("/memory\r")
    see(child, re.escape("human ("))
    see(child, re.escape("recall: 2 messages"))
    child.send("/context\r")
    see(child, "system +\\d+ tokens")
    see(child, "in use +\\d+ of \\d+ usable: pressure")
    child.send("/memroy\r")
    see(child, re.escape("did you mean /memory?"))
    leave(child)
    said = [event for event in events(paths) if event.kind in (Kind.USER, Kind.ASSISTANT)]
    assert [event.kind for event in said] == [Kind.USER, Kind.ASSISTANT]
    assert said[1].text or said[1].details["interrupted"]
    assert said[0].text == "Say hello."
    child = chat(until=None)
    see(child, re.escape("2 messages remembered"))
    see(child, re.escape("> "))
    leave(child)
    assert [e.kind for e in events(paths)].count(Kind.LOGIN) == 2


def test_a_reply_streams_and_ctrl_c_keeps_the_chat(chat: Callable[..., Any], paths: Paths) -> None:
    child = chat("--temp", "1.5")
    child.send("Tell me a very long story.\r")
    see(child, re.escape("thinking"))
    child.send(CTRL_C)
    see(child, re.escape("! stopped"))
    see(child, re.escape("> "))
    child.send("/dump 3\r")
    see(child, re.escape("assistant_message (interrupted)"))
    child.send(CTRL_C)
    see(child, re.escape("Ctrl-D leaves"))  # the hint at the empty prompt
    child.send("half a line")
    child.send(CTRL_C)
    see(child, re.escape("> "))
    leave(child)
    stopped = [event for event in events(paths) if event.kind is Kind.ASSISTANT]
    assert [event.details.get("interrupted") for event in stopped] == [True]


def test_several_lines_and_history(chat: Callable[..., Any], paths: Paths) -> None:
    child = chat()
    child.send(f"/block human one{ALT_ENTER}two\r")
    see(child, re.escape("human is set (7 of 1200 characters)"))
    child.send("\x1b[200~/block persona three\nfour\x1b[201~")  # pasted
    child.send("\r")
    see(child, re.escape("persona is set (10 of 600 characters)"))
    leave(child)
    history = paths.state / "chat_history"
    assert "+/block human one\n+two" in history.read_text(encoding="utf-8")
    assert history.stat().st_mode & 0o077 == 0
    child = chat()
    child.send("\x1b[A")
    see(child, re.escape("four"))
    child.send(CTRL_C)
    leave(child)


def test_a_timer_runs_while_nothing_is_typed(chat: Callable[..., Any], paths: Paths) -> None:
    child = chat()
    child.send("/timer 1s stretch\r")
    see(child, re.escape("in 1s: stretch"))
    child.send("/und")
    see(child, re.escape("! timer: stretch"), "thinking")
    child.send(CTRL_C)
    see(child, re.escape("! stopped"), "/und")  # what was typed is there again
    child.send(CTRL_C)
    leave(child)
    assert Kind.TIMER in [event.kind for event in events(paths)]


def test_what_was_left_unanswered_is_offered(chat: Callable[..., Any], paths: Paths) -> None:
    store = Store.open(paths.agent_folder("t") / "agent.duckdb")
    store.append(Kind.USER, "Are you there?")
    store.close()
    child = chat(until=None)
    see(child, re.escape("left unanswered: Are you there?"))
    see(child, re.escape("Answer it now? [Y/n]"))
    child.send("y\r")
    see(child, "thinking")
    child.send(CTRL_C)
    see(child, "! stopped", "> ")
    leave(child)
    kinds = [event.kind for event in events(paths)]
    assert kinds.index(Kind.ASSISTANT) < kinds.index(Kind.LOGIN)


def test_a_narrow_terminal(chat: Callable[..., Any]) -> None:
    child = chat("--quiet", size=(12, 24), until=None)
    see(child, re.escape("> "))
    child.send("/context\r")
    see(child, re.escape("usable"))
    leave(child)


def test_a_model_that_is_not_there_is_offered(home: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "dumb"}
    child = pexpect.spawn(sys.executable, ["-m", "localmem", "chat"], env=environment, encoding="utf-8", timeout=30)
    child.expect_exact("smollm2-135m is not on this machine.")
    child.expect_exact("Fetch it from")
    child.send("n\r")
    child.expect_exact("run: localmem models pull smollm2-135m")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    assert not (home / "data").exists()


# -- parts


@pytest.mark.parametrize(
    "pieces",
    [
        ["plain ", "text"],
        ["a\x1b", "[31mred\x1b[0", "mb"],
        ["a\x1b]0;ti", "tle\x07b", "c"],
        ["a\x9b3", "1mb"],
        ["a\x1b]8;;http://x\x1b", "\\link\x1b]8;;\x1b\\"],
        ["a\x1b(", "Bb"],
        ["a\x1b", "b"],
        ["never ends \x1b", "]0;x"],
        ["a\r\x00b", "\x7f"],
        ["\x1b", "\x1b", "[31mx"],
    ],
)
def test_a_sequence_over_several_pieces_is_stripped_like_one(pieces: list[str]) -> None:
    safe = SafeStream()
    shown = "".join([*map(safe.feed, pieces), safe.end()])
    assert shown == console.strip_control("".join(pieces))
    one_by_one = SafeStream()
    assert "".join([*map(one_by_one.feed, "".join(pieces)), one_by_one.end()]) == shown


def test_a_sequence_that_never_ends_does_not_hold_the_reply_back() -> None:
    safe = SafeStream()
    shown = "".join(safe.feed(piece) for piece in ["\x1b]0;", *["word "] * 100])
    assert "word word" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("0.5h", 1800)]
)
def test_spans(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds
    assert parse_span(span_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "10 m", "0s", "5x", "1h30", "9999d"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ConfigError, match="no length of time"):
        parse_span(text)


def test_timers() -> None:
    now = 100.0
    timers = Timers(lambda: now)
    assert timers.wait() is None
    timers.set(60, "tea")
    timers.set(5, "now")
    timers.heartbeat(30)
    assert timers.wait() == 5
    assert timers.pending() == [(5, "now"), (60, "tea")]
    now += 31
    due = timers.take_due()
    assert [timer.text for timer in due] == ["now", ""]
    assert timers.wait() == 29
    now += 10
    timers.again(due[0])
    timers.again(due[1])
    assert timers.wait() == 19
    assert timers.clear() == 1
    assert timers.wait() == 30


def test_the_status_line_drops_what_does_not_fit() -> None:
    report = {"tokens": 900, "usable": 3000, "pressure": 0.3, "tokens_a_second": 41.7, "prefix_hit": 0.98}
    whole = "context 900/3000 · pressure 30% · 42 tokens/s · prefix hit 98%"
    assert status_line(report, 100) == whole
    assert status_line(report, 40) == "context 900/3000 · pressure 30%"
    assert status_line(report, 5) == ""
    assert status_line({**report, "tokens_a_second": None, "prefix_hit": None}, 99) == "context 900/3000 · pressure 30%"


def test_one_line_is_cut_by_cells() -> None:
    assert one_line("a\n b\tc") == "a b c"
    assert one_line("漢" * 50, 21) == "漢" * 10 + "…"
    assert one_line("\x1b[31m" + "x" * 30, 10) == "x" * 9 + "…"


def test_a_reply_in_many_pieces_is_printed_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.begin()
    screen.piece(Kind.THOUGHT, "Think")
    screen.piece(Kind.THOUGHT, "ing.")
    assert capsys.readouterr() == ("", "")
    screen.piece(Kind.ASSISTANT, "Hel")
    assert capsys.readouterr() == ("Hel", "· Thinking.\n")
    screen.piece(Kind.ASSISTANT, "lo \U0001f409.")
    assert capsys.readouterr().out == "lo \U0001f409."
    screen.end()
    assert capsys.readouterr().out == "\n"
