"""What an agent that quotes makes of calls that are dictated in other words: sentences of the message, not lines."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from localmem.quoting import passages, phrases, sentences
from training.scenario import Expected


class Unfit(Exception):
    """The scenario does not go on as it says."""


class Quotations:
    """The lines of one agent's core memory, each with the sentence that is stored in its place."""

    def __init__(self) -> None:
        self._stored: dict[str, str] = {}

    def told(self, line: str, message: str) -> str:
        """A line that an earlier message told, as it was stored."""
        self._stored[line] = _nearest(line, sentences(message)) if message else line
        return self._stored[line]

    def content(self, content: str, message: str, facts: Collection[str]) -> str:
        """The sentences that hold the facts, in place of the lines of `content`."""
        quotable = sentences(message)
        chosen = {_holding(fact, quotable) for fact in facts} or {_nearest(content, quotable)}
        picked = [sentence for sentence in quotable if sentence in chosen]
        for line in content.split("\n"):
            self._stored[line] = _nearest(line, picked)
        return "\n".join(picked)

    def old(self, line: str) -> str:
        """A line that is to be replaced, as it stands. Unfit if other lines stand in the same sentence."""
        stored = self._stored.get(line, line)
        if any(other == stored for known, other in self._stored.items() if known != line):
            raise Unfit(f"{stored!r} holds more than {line!r}")
        return stored

    def text(self, text: str) -> str:
        """A thought or a reply that names lines: each as it was stored, in quotation marks."""
        for line in sorted(self._stored, key=len, reverse=True):
            if self._stored[line] != line:
                text = text.replace(line, f'"{self._stored[line]}"')
        return text

    def expected(self, expected: Expected) -> Expected:
        """What is expected of an agent that stores this way."""
        answer = tuple(self._stored.get(value, value) for value in expected.answer)
        old = expected.old
        return replace(expected, old=old if old is None else self._stored.get(old, old), answer=answer)


def asked(message: str, queries: Sequence[str]) -> list[str]:
    """What a search may be for: first the quotations with the most words of good queries, the shortest of equals."""
    good = {word for query in queries for word in _words(query)}
    return sorted(passages(sentences(message)), key=lambda quote: (-len(good & _words(quote)), len(quote)))


def in_words_of(message: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a user's function with each text spelled as the message spells it."""
    spelled = {phrase.casefold(): phrase for phrase in reversed(phrases(message))}
    return {name: spelled.get(v.casefold(), v) if isinstance(v, str) else v for name, v in arguments.items()}


def _holding(fact: str, quotable: Sequence[str]) -> str:
    holding = [sentence for sentence in quotable if fact.casefold() in sentence.casefold()]
    if not holding:
        raise Unfit(f"no sentence says {fact!r}")
    return min(holding, key=len)


def _nearest(line: str, quotable: Sequence[str]) -> str:
    words = _words(line)
    if not quotable:
        raise Unfit(f"nothing says {line!r}")
    return max(quotable, key=lambda sentence: (len(words & _words(sentence)), -len(sentence)))


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))
