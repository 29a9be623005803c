"""Texts out of a call that is still being written: escapes decoded, never half a character.

Pure: it follows the layout that calls have in each format (a thought, then the call) and knows no function's meaning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from localmem.grammar.call_text import JSON, joined_names, name_of, write_call_proper
from localmem.protocols import CallFormat, Tag


class StringStream:
    """Decodes a JSON string piece by piece; the opening quote has been read."""

    def __init__(self) -> None:
        self._held = ""
        self.ended = False

    def feed(self, raw: str) -> tuple[str, str]:
        """The text that `raw` adds, and what of `raw` lies behind the closing quote."""
        text = self._held + raw
        at, safe = 0, 0
        while at < len(text):
            if text[at] == '"':
                self.ended, self._held = True, ""
                return _decode(text[:at]), text[at + 1 :]
            width = _escape_width(text, at)
            if width is None or at + width > len(text):
                break
            at += width
            safe = at
        self._held = text[safe:]
        return _decode(text[:safe]), ""


def _escape_width(text: str, at: int) -> int | None:
    """Characters of the unit that begins at `at`; None if that cannot be told yet."""
    if text[at] != "\\":
        return 1
    if at + 1 >= len(text):
        return None
    if text[at + 1] != "u":
        return 2
    # A high surrogate is half a character: it waits for the low one.
    high = text[at + 2 : at + 4].lower() in ("d8", "d9", "da", "db")
    return 12 if high else 6


def _decode(raw: str) -> str:
    return str(json.loads(f'"{raw}"', strict=False))


class _Fixed:
    """Text that must come, else the call is another one."""

    def __init__(self, text: str) -> None:
        self._text = text

    def feed(self, text: str) -> tuple[str, bool]:
        if text.startswith(self._text):
            return text[len(self._text) :], True
        if not self._text.startswith(text):
            raise _AnotherCall
        return text, False


class _Quoted:
    """A JSON string, its opening quote read; handed on as it comes."""

    def __init__(self, hand_on: Callable[[str], None]) -> None:
        self._stream = StringStream()
        self._hand_on = hand_on

    def feed(self, text: str) -> tuple[str, bool]:
        said, rest = self._stream.feed(text)
        if said:
            self._hand_on(said)
        return rest, self._stream.ended


class _Plain:
    """Text as it is up to the first of `stops`, handed on as it comes; at once at its end if it begins with `none`.

    What may be the beginning of a stop waits; `trimmed` texts keep no space around them.
    """

    def __init__(
        self, stops: Sequence[str], hand_on: Callable[[str], None], *, none: str = "", trimmed: bool = False
    ) -> None:
        self._stops, self._hand_on = stops, hand_on
        self._none, self._trimmed = none, trimmed
        self._began = False

    def feed(self, text: str) -> tuple[str, bool]:
        if not self._began and self._none and (text.startswith(self._none) or self._none.startswith(text)):
            return text, text.startswith(self._none)
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        safe = min(found) if found else len(text) - max(_begun(text, stop) for stop in self._stops)
        said, rest = text[:safe], text[safe:]
        if self._trimmed:
            said = said if self._began else said.lstrip()
            kept = said.rstrip()
            rest = rest if found else said[len(kept) :] + rest
            said = kept
        if said:
            self._began = True
            self._hand_on(said)
        return rest, bool(found)


def _begun(text: str, stop: str) -> int:
    """How many of the last characters of `text` may be the beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class _Optional:
    """Text that may come."""

    def __init__(self, text: str) -> None:
        self._text = text

    def feed(self, text: str) -> tuple[str, bool]:
        if text.startswith(self._text):
            return text[len(self._text) :], True
        return text, not self._text.startswith(text)


class _AnotherCall(Exception):
    """Another function's call: nothing of it is for the user."""


class CallStream:
    """Hands on the thought, and the first argument of one function, while a call is being generated.

    `on_thought` and `on_text` get pieces of decoded text; `text` and `thought` hold what was handed on so far.
    """

    def __init__(
        self,
        function: str,
        argument: str,
        on_thought: Callable[[str], None],
        on_text: Callable[[str], None],
        form: CallFormat = JSON,
    ) -> None:
        self._on_thought, self._on_text = on_thought, on_text
        self._stages = [*self._thinking(form), *self._saying(function, argument, form)]
        self._buffer = ""
        self.thought = ""
        self.text = ""

    def _thinking(self, form: CallFormat) -> list[_Stage]:
        if form.thought == "inside":
            return [_Fixed('{"thought": "'), _Quoted(self._think)]
        if form.thought == "thinking":
            close = joined_names(form.think_close)
            stop = name_of(form.think_close[0])
            return [_Fixed(joined_names(form.think_open)), _Plain([stop], self._think, trimmed=True), _Fixed(close)]
        start = joined_names(form.head[:1]) or "{"
        tagged = bool(form.head) and isinstance(form.head[0], Tag)
        ends = form.between if tagged else form.between or "\n"
        stops = [stop for stop in (ends, start if tagged else "") if stop]
        return [_Plain(stops, self._think, none=start, trimmed=True), _Optional(ends)]

    def _saying(self, function: str, argument: str, form: CallFormat) -> list[_Stage]:
        mark = "\ue000"
        if form.thought == "inside":
            return [_Fixed(f', "function": "{function}", "arguments": {{"{argument}": "'), _Quoted(self._say)]
        before = joined_names(write_call_proper(function, {argument: mark}, form)).partition(mark)[0]
        quote = joined_names(form.quote)
        return [_Fixed(before), _Plain([quote], self._say) if quote else _Quoted(self._say)]

    def feed(self, piece: str) -> None:
        """Take the next piece of the document."""
        self._buffer += piece
        try:
            while self._stages and self._buffer:
                self._buffer, done = self._stages[0].feed(self._buffer)
                if not done:
                    return
                self._stages.pop(0)
        except _AnotherCall:
            self._stages = []

    def _think(self, text: str) -> None:
        self.thought += text
        self._on_thought(text)

    def _say(self, text: str) -> None:
        self.text += text
        self._on_text(text)


_Stage = _Fixed | _Quoted | _Plain | _Optional
