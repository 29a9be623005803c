"""The end of a text that has to be a literal, which may be spelled in more than one way. Knows no schema."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Open:
    """What closes an unfinished value, and the JSON paths of the values that it cuts or fills.

    `steady` says that ordinary characters after the text leave `suffix` as it is.
    """

    suffix: str
    cut: tuple[str, ...] = ()
    steady: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """A value that ends before the text does."""

    position: int


Outcome = Done | Open
_UNIT = re.compile(r"\\u[0-9a-f]{4}|\\.|.", re.DOTALL)


def follow_literal(text: str, literal: str, at: int) -> Iterator[Outcome]:
    """`text` from `at` on, where `literal` has to stand."""
    rest = len(text) - at
    if "\\" in literal:
        yield from _escaped(text, _UNIT.findall(literal), at)
    elif rest >= len(literal):
        if text.startswith(literal, at):
            yield Done(at + len(literal))
    elif literal.startswith(text[at:]):
        yield Open(literal[rest:])


def _escaped(text: str, units: Sequence[str], at: int) -> Iterator[Outcome]:
    """A literal with escapes: a control character in it may be spelled in more than one way."""
    for done, unit in enumerate(units):
        rest = text[at : at + 6]
        spellings = _spellings(unit)
        written = next((s for s in spellings if rest.lower().startswith(s.lower())), None)
        if written is None:
            ends = [s[len(rest) :] for s in spellings if s.lower().startswith(rest.lower())]
            if at + len(rest) == len(text) and ends:
                yield Open(min(ends, key=len) + "".join(units[done + 1 :]))
            return
        at += len(written)
    yield Done(at)


def _spellings(unit: str) -> list[str]:
    """How a character may be written in a literal: as `dump` does, and a control character by its number too."""
    code = dict(zip("bfnrt", "\b\f\n\r\t", strict=True)).get(unit[1]) if unit[0] == "\\" else None
    return [unit] if code is None else [unit, f"\\u{ord(code):04x}"]
