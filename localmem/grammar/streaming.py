"""Strings out of a JSON document that is still being written: escapes decoded, never half a character.

Pure: it follows the layout that function calls have (thought, function, arguments) and knows no function's meaning.
"""

from __future__ import annotations

import json
from collections.abc import Callable


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


class CallStream:
    """Hands on the thought, and the first argument of one function, while a call is being generated.

    `on_thought` and `on_text` get pieces of decoded text; `text` and `thought` hold what was handed on so far.
    """

    def __init__(
        self, function: str, argument: str, on_thought: Callable[[str], None], on_text: Callable[[str], None]
    ) -> None:
        self._stages = [
            ('{"thought": "', self._think),
            (f', "function": "{function}", "arguments": {{"{argument}": "', self._say),
        ]
        self._on_thought, self._on_text = on_thought, on_text
        self._buffer = ""
        self._stream: StringStream | None = None
        self.thought = ""
        self.text = ""

    def feed(self, piece: str) -> None:
        """Take the next piece of the document."""
        self._buffer += piece
        while self._stages:
            start, hand_on = self._stages[0]
            if self._stream is None:
                if not self._buffer.startswith(start):
                    if not start.startswith(self._buffer):
                        self._stages = []  # another function's call: nothing of it is for the user
                    return
                self._buffer = self._buffer[len(start) :]
                self._stream = StringStream()
            text, self._buffer = self._stream.feed(self._buffer)
            if text:
                hand_on(text)
            if not self._stream.ended:
                return
            self._stream = None
            self._stages.pop(0)

    def _think(self, text: str) -> None:
        self.thought += text
        self._on_thought(text)

    def _say(self, text: str) -> None:
        self.text += text
        self._on_text(text)
