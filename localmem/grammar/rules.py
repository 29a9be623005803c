"""A grammar as data: what a JSON Schema is turned into before it is written as GBNF or as a regular expression.

Nothing here knows JSON, a model or a backend. Characters are Unicode code points; a class of them is a set of ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """Exactly this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Chars:
    """One character in (or, `negated`, in none) of these inclusive ranges of code points."""

    ranges: tuple[tuple[int, int], ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Seq:
    """One after the other."""

    parts: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Alt:
    """Any one of these."""

    choices: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`rule`, `least` to `most` times; without end where `most` is None."""

    rule: Rule
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Ref:
    """The rule of that name: the only way to recursion."""

    name: str


Rule = Text | Chars | Seq | Alt | Repeat | Ref


@dataclass(frozen=True, slots=True)
class Rules:
    """Named rules; a text begins at `root`."""

    rules: Mapping[str, Rule]
    root: str = "root"


def union(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same characters in as few ranges as can be, in order."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return tuple(joined)
