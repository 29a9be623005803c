"""GBNF, llama.cpp's notation of grammars, read into rules. What is wrong in it is told with its line.

The notation is that of llama.cpp's own parser: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md.
Single tokens (`<think>`, `<[1000]>`) are refused: which control tokens a text may hold is not for a grammar to say.
"""

from __future__ import annotations

import re
from typing import NoReturn

from localmem.errors import GrammarError
from localmem.grammar.factoring import sequence
from localmem.grammar.rule_checks import endless, left_recursive, undefined
from localmem.grammar.rules import Alt, Chars, Ref, Repeat, Rule, Rules, Text

_NAME = re.compile(r"[a-zA-Z0-9-]+")
_BLANK = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_COUNT = re.compile(r"\{[ \t]*(\d+)[ \t]*(?:(,)[ \t]*(\d*)[ \t]*)?\}")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([trn\\\"\[\]-]))")
_SHORT = {"t": "\t", "r": "\r", "n": "\n"}


def read_gbnf(text: str) -> Rules:
    """The rules of a grammar. Raises GrammarError if it is none, has no rule `root`, or cannot be run."""
    try:
        rules = _Reader(text).rules()
    except RecursionError:
        raise GrammarError("This grammar is nested too deep.") from None
    if "root" not in rules:
        raise GrammarError("This grammar has no rule root, at which a text begins.")
    for check, what in (
        (undefined, "is used and not defined"),
        (endless, "never ends: it always leads back into itself"),
        (left_recursive, "begins with itself; write the repetition as `item*`, or the recursion at the end"),
    ):
        name = check(rules)
        if name is not None:
            raise GrammarError(f"The rule {name!r} of this grammar {what}.")
    return Rules(rules)


class _Reader:
    """A place in a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def rules(self) -> dict[str, Rule]:
        found: dict[str, Rule] = {}
        self._skip(_BLANK_LINES)
        while self._at < len(self._text):
            name = self._name()
            if name in found:
                self._wrong(f"the rule {name!r} is defined twice")
            self._skip(_BLANK)
            self._expect("::=")
            self._skip(_BLANK_LINES)
            found[name] = self._alternatives(nested=False)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                self._wrong(f"{self._text[self._at]!r} is not expected")
            self._skip(_BLANK_LINES)
        return found

    def _alternatives(self, *, nested: bool) -> Rule:
        ways = [self._sequence(nested=nested)]
        while self._takes("|"):
            self._skip(_BLANK_LINES)
            ways.append(self._sequence(nested=nested))
        return ways[0] if len(ways) == 1 else Alt(tuple(ways))

    def _sequence(self, *, nested: bool) -> Rule:
        blank = _BLANK_LINES if nested else _BLANK
        parts: list[Rule] = []
        while (item := self._item()) is not None:
            self._skip(blank)
            while (counts := self._counts()) is not None:
                item = Repeat(item, *counts)
                self._skip(blank)
            parts.append(item)
        return sequence(parts)

    def _item(self) -> Rule | None:
        if self._takes('"'):
            return self._literal()
        if self._takes("["):
            return self._class()
        if self._takes("."):
            return Chars((), negated=True)
        if self._takes("("):
            self._skip(_BLANK_LINES)
            inner = self._alternatives(nested=True)
            self._expect(")")
            return inner
        if self._text[self._at : self._at + 1] in ("<", "!"):
            self._wrong("single tokens cannot be asked for")
        return Ref(self._name()) if _NAME.match(self._text, self._at) else None

    def _counts(self) -> tuple[int, int | None] | None:
        for sign, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._takes(sign):
                return counts
        if not self._text.startswith("{", self._at):
            return None
        match = _COUNT.match(self._text, self._at)
        if match is None or len(match.group()) > 40:
            self._wrong("a count is {3}, {3,} or {3,5}")
        self._at = match.end()
        least, comma, most = match.groups()
        return int(least), int(least) if comma is None else int(most) if most else None

    def _literal(self) -> Rule:
        characters = []
        while not self._takes('"'):
            characters.append(self._character())
        return Text("".join(characters))

    def _class(self) -> Rule:
        negated = self._takes("^")
        ranges = []
        while not self._takes("]"):
            low = high = ord(self._character())
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                high = ord(self._character())
            if high < low:
                self._wrong("a range of characters ends before it begins")
            ranges.append((low, high))
        if not ranges:
            self._wrong("a class of no characters fits nothing")
        return Chars(tuple(ranges), negated)

    def _character(self) -> str:
        if self._at >= len(self._text):
            self._wrong("the grammar ends inside a text or a class")
        if self._text[self._at] != "\\":
            self._at += 1
            return self._text[self._at - 1]
        match = _ESCAPE.match(self._text, self._at)
        number = next((group for group in match.groups()[:3] if group), None) if match is not None else None
        if match is None or (number is not None and int(number, 16) > 0x10FFFF):
            self._wrong("this escape is none")
        self._at = match.end()
        return chr(int(number, 16)) if number is not None else _SHORT.get(match[4], match[4])

    # -- the text

    def _name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            self._wrong("a rule's name is expected: letters, digits and hyphens")
        self._at = match.end()
        return match.group()

    def _skip(self, blank: re.Pattern[str]) -> None:
        match = blank.match(self._text, self._at)
        assert match is not None, "the pattern matches the empty text"
        self._at = match.end()

    def _takes(self, sign: str) -> bool:
        found = self._text.startswith(sign, self._at)
        self._at += len(sign) if found else 0
        return found

    def _expect(self, sign: str) -> None:
        if not self._takes(sign):
            self._wrong(f"{sign!r} is expected")

    def _wrong(self, what: str) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        raise GrammarError(f"Line {line} of this grammar: {what}.")
