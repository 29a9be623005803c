"""What a turn looks like: the reply as it is generated, thoughts and calls and results dim, one line each.

Replies go to stdout, all else to stderr: on a terminal they meet, in a pipe they do not. Knows events, no agent.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from localmem.cli import console
from localmem.events import Event, Kind

if TYPE_CHECKING:
    from rich.status import Status

_SHORT = 100
_NO_TERMINAL = 400
#: The beginning of an escape sequence that is not over yet.
_UNFINISHED = re.compile(
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*\x1b?\Z|(?:\x1b\[|\x9b)[0-?]*[ -/]*\Z|\x1b[ -/]*\Z"
)
_LONGEST_SEQUENCE = 256
#: Tokens a second of a generation that was stopped before it began.
_NO_SPEED = 10_000


class SafeStream:
    """Text in pieces without control characters, even where an escape sequence is spread over several."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """What of the text so far can be shown."""
        text = self._held + piece
        self._held = ""
        unfinished = _UNFINISHED.search(text)
        if unfinished and len(text) - unfinished.start() <= _LONGEST_SEQUENCE:
            self._held = text[unfinished.start() :]
            text = text[: unfinished.start()]
        return console.strip_control(text)

    def end(self) -> str:
        """What was held back."""
        text, self._held = self._held, ""
        return console.strip_control(text)


def one_line(text: str, most: int | None = None) -> str:
    """`text` in one line that fits the terminal, or `most` cells, whichever is less; safe to print."""
    from rich.cells import cell_len, set_cell_size

    line = " ".join(console.strip_control(text).split())
    width = console.stderr().width - 1 if sys.stderr.isatty() else _NO_TERMINAL
    width = max(8, width if most is None else min(most, width))
    return line if cell_len(line) <= width else set_cell_size(line, width - 1).rstrip() + "…"


def call_text(event: Event) -> str:
    """A call as Python would write it."""
    assert event.call is not None
    given = ", ".join(f"{name}={value!r}" for name, value in event.call.arguments.items())
    return f"{event.call.function}({given})"


class Screen:
    """Prints turns. `quiet` leaves only the replies, `debug` adds what each generation took."""

    def __init__(self, *, quiet: bool = False, debug: bool = False, replies: bool = True) -> None:
        self.quiet, self.debug = quiet, debug
        self._replies = replies
        self._spinner: Status | None = None
        self._forget()

    def _forget(self) -> None:
        self._safe = SafeStream()
        self._thought, self._thought_shown = "", False
        self._said, self._stopped = "", False
        self._column_0 = True

    # -- a turn

    def begin(self) -> None:
        """A turn begins: something shows that it does."""
        self._forget()
        self._wait("thinking")

    def end(self) -> None:
        """Whatever became of the turn, the next thing stands on a line of its own."""
        self._stop_waiting()
        if not self._column_0:
            click.echo()
        self._forget()

    def piece(self, kind: Kind, text: str) -> None:
        """The next piece of a thought or a reply, while it is generated."""
        if kind is Kind.THOUGHT:
            self._thought += text
            if not self.quiet:
                self._wait(self._thought)
            return
        self._show_thought(self._thought)
        self._said += text
        self._write(self._safe.feed(text))

    def event(self, event: Event) -> None:
        """Something was committed."""
        self._show(event)
        if event.kind is not Kind.ASSISTANT:
            self._wait("thinking")

    def _show(self, event: Event) -> None:
        match event.kind:
            case Kind.THOUGHT:
                self._show_thought(event.text)
                self._thought, self._thought_shown = "", False
            case Kind.CALL if event.call is not None:
                if event.call.function != "send_message":
                    self.dim(f"→ {call_text(event)}")
                self._show_stats(event.stats)
            case Kind.RESULT:
                self.dim(f"← {event.details.get('status', 'ok')}: {event.text}", _SHORT)
            case Kind.ASSISTANT:
                self._finish_reply(event)
            case Kind.SUMMARY:
                about = event.details
                self.dim(f"≡ summary of #{about['first']} to #{about['last']}: {event.text}")
            case Kind.USER:
                if "document" in event.details:
                    self.dim(f"! too long for the window: kept whole as the document {event.details['document']}")
            case Kind.ALERT if self._stopped:
                self._stopped = False  # it is told what the user knows
            case Kind.LOGIN:
                pass
            case _:
                self.dim(f"! {event.text}")

    # -- parts of it

    def _finish_reply(self, event: Event) -> None:
        self._show_thought(self._thought)
        rest = event.text[len(self._said) :] if event.text.startswith(self._said) else ""
        self._write(self._safe.feed(rest) + self._safe.end())
        if not self._column_0 or not event.text:
            self._newline()
        if event.details.get("interrupted"):
            self._stopped = True
            self.dim("! stopped")
        if event.details.get("cut"):
            self.dim("! the reply reached its largest size and was cut")
        if event.stats:
            self._show_stats(event.stats)
        self._said = ""

    def _newline(self) -> None:
        if not self._column_0 and self._replies:
            click.echo()
        self._column_0 = True

    def _write(self, text: str) -> None:
        if text and self._replies:
            self._stop_waiting()
            click.echo(text, nl=False)
            self._column_0 = text.endswith("\n")

    def _show_thought(self, text: str) -> None:
        if text and not self._thought_shown:
            self._thought_shown = True
            self.dim(f"· {text}")

    def _show_stats(self, stats: Mapping[str, Any] | None) -> None:
        if self.debug and stats:
            self.dim(f"  {stats_line(stats)}")

    def dim(self, text: str, most: int | None = None) -> None:
        """A line that `quiet` hides."""
        self._stop_waiting()
        self._newline()
        if not self.quiet:
            line = console.strip_control(text) if self.debug else one_line(text, most)
            click.echo(click.style(line, dim=True), err=True)

    # -- the spinner

    def _wait(self, text: str) -> None:
        if not sys.stderr.isatty() or not self._column_0:
            return
        from rich.text import Text

        shown = Text(one_line(text, console.stderr().width - 4), style="dim")
        if self._spinner is None:
            self._spinner = console.stderr().status(shown)
            self._spinner.start()
        else:
            self._spinner.update(shown)

    def _stop_waiting(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None


def stats_line(stats: Mapping[str, Any]) -> str:
    """What a generation took, in one line."""
    tokens, seconds = stats["generated_tokens"], stats["decode_s"]
    speed = f"{tokens / seconds:.0f} tokens/s" if seconds > 0 else "at once"
    parts = [
        f"{tokens} tokens ({stats['forced_tokens']} forced), {speed}",
        f"prompt {stats['prompt_tokens']}, {stats['reused_tokens']} reused",
        f"first after {stats['ttft_s']:.2f} s",
        str(stats["finish"]) + (f" by {stats['closed_by']}" if stats.get("closed_by") else ""),
    ]
    return "; ".join(parts)


def status_line(report: Mapping[str, Any], width: int) -> str:
    """Context use, pressure, speed and prefix hit; what does not fit is left out from the end."""
    parts = [f"context {report['tokens']}/{report['usable']}", f"pressure {report['pressure']:.0%}"]
    if report["tokens_a_second"] is not None and report["tokens_a_second"] < _NO_SPEED:
        parts.append(f"{report['tokens_a_second']:.0f} tokens/s")
    if report["prefix_hit"] is not None:
        parts.append(f"prefix hit {report['prefix_hit']:.0%}")
    line = ""
    for part in parts:
        longer = f"{line} · {part}" if line else part
        if len(longer) > width:
            break
        line = longer
    return line
