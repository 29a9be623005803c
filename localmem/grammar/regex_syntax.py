"""A person's regular expression, checked and rewritten for an automaton that has to match it as a whole.

outlines_core reads Rust's syntax. Some of it means something else than in Python, or cannot be followed by an automaton
at all; outlines_core says little about that, or nothing. What both languages read alike is let through; the rest is
refused, and the message says what it is. Knows no vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from localmem.errors import GrammarError

#: A code point that Unicode reserves never to be a character. No class of a rewritten expression contains it.
RESERVED = "\U0010ffff"
_RESERVED = r"\U0010ffff"

_TOKEN = re.compile(
    r"""(?P<escape>\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.))
      | (?P<group>\((?:\?(?:P?<[A-Za-z_]\w*>|[a-zA-Z-]*[:)]|P?<?[=!>]?))?)
      | (?P<repeat>(?:[*+?]|\{\d+(?:,\d*)?\})\??)
      | (?P<open>\[\^?\]?)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_IN_CLASS = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)|&&|--|~~|[\[\]]|.", re.DOTALL)
_ANCHORS = {"A": r"\A", "z": r"\z", "Z": r"\Z", "b": r"\b", "B": r"\B", "<": r"\<", ">": r"\>"}
_LOOKAROUND = {"(?=", "(?!", "(?<=", "(?<!"}
_SAME = frozenset("dDwWsSnrtfvaxuU")


def matched_whole(pattern: str) -> str:
    """`pattern` in Rust's syntax, without the anchors at its ends, which say nothing where all of a text is matched.

    Raises GrammarError for what an automaton cannot follow (look-around, backreferences, word boundaries) and for what
    Rust and Python read differently (possessive repetition, operators inside classes, flags but i and s).
    """
    inner = pattern.removeprefix("^")
    if inner.endswith("$") and (len(inner) - len(inner[:-1].rstrip("\\")) - 1) % 2 == 0:
        inner = inner[:-1]
    return "".join(_Rewriting(inner).pieces())


def _refused(what: str) -> GrammarError:
    return GrammarError(f"Backend outlines cannot follow {what} in a regular expression; write it without, or use "
                        "backend llguidance.")  # fmt: skip


class _Rewriting:
    """One pass over a pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._dot_takes_newline = [False]  # for each group that is open

    def pieces(self) -> Iterator[str]:
        repeated = False
        while self._at < len(self._pattern):
            match = _TOKEN.match(self._pattern, self._at)
            assert match is not None, "any character is matched"
            self._at = match.end()
            kind, text = match.lastgroup, match.group()
            if kind == "repeat" and repeated:
                raise _refused(f"a repetition of a repetition ({text!r}: Python takes it for a possessive one)")
            repeated = kind == "repeat"
            match kind:
                case "escape":
                    yield self._escape(text)
                case "group":
                    yield self._group(text)
                case "open":
                    yield self._class(text)
                case "other":
                    yield self._other(text)
                case _:
                    yield text
        if len(self._dot_takes_newline) > 1:
            raise GrammarError("The regular expression has a group that is not closed.")

    def _escape(self, text: str) -> str:
        code = text[1]
        if code in _ANCHORS:
            raise _refused(f"{_ANCHORS[code]} (an anchor or boundary)")
        if code.isdigit() and code != "0":
            raise _refused(f"{text} (a backreference)")
        if code in "DWS":
            return f"[^\\{code.lower()}{_RESERVED}]"
        return _same(text)

    def _group(self, text: str) -> str:
        if text in _LOOKAROUND:
            raise _refused(f"{text} (look-around)")
        dot = self._dot_takes_newline[-1]
        if text.startswith("(?") and text[-1] in ":)":
            flags = text[2:-1]
            if not set(flags) <= set("is"):
                raise _refused(f"{text} (flags other than i and s)")
            if text[-1] == ")":
                self._dot_takes_newline[-1] = dot or "s" in flags
                return f"(?{flags})" if flags else text
            dot = dot or "s" in flags
        elif text not in ("(",) and not text.endswith(">"):
            raise _refused(f"{text} (an extension)")
        self._dot_takes_newline.append(dot)
        return text

    def _other(self, text: str) -> str:
        if text == ".":
            return f"[^{_RESERVED}]" if self._dot_takes_newline[-1] else f"[^\\n{_RESERVED}]"
        if text in "^$":
            raise _refused(f"{text} inside (an anchor)")
        if text == ")":
            if len(self._dot_takes_newline) == 1:
                raise GrammarError("The regular expression closes a group that is not open.")
            self._dot_takes_newline.pop()
        return f"\\{text}" if text in "{}]" else text

    def _class(self, opening: str) -> str:
        """A class: what it says, less the reserved code point."""
        members = []
        if opening.endswith("]"):
            opening, members = opening[:-1], [r"\]"]
        while True:
            match = _IN_CLASS.match(self._pattern, self._at)
            if match is None:
                raise GrammarError("The regular expression has a class [...] that is not closed.")
            text = match.group()
            self._at = match.end()
            if text == "]":
                return f"[{opening}{''.join(members)}]--{_RESERVED}]"
            if text in ("[", "&&", "--", "~~"):
                raise _refused(f"{text} inside a class (Rust takes it for an operator; escape it)")
            if text == r"\b":
                raise _refused(r"\b inside a class (write \x08)")
            members.append(_same(text) if text[0] == "\\" else text)


def _same(escape: str) -> str:
    """An escape that means the same in both languages."""
    code = escape[1]
    if code == "0":
        raise _refused(r"\0 (write \x00)")
    if (code.isascii() and code.isalpha() and code not in _SAME) or (code in "xuU" and len(escape) == 2):
        raise _refused(f"{escape} (not the same in Python and Rust)")
    if not code.isascii() or code == "_":
        return code
    return escape
