"""Regular expressions of JSON Schema as automata that a text can be followed through, a character at a time.

A pattern is searched for: it may match anywhere in a text, unless ^ or $ hold it. What Rust's syntax (llguidance) and
Python's read alike is turned into an automaton; all else (look-around, backreferences, flags, Unicode properties, word
boundaries, operators inside classes) raises `NoPlan`. Knows no JSON and no lengths.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from localmem.grammar.rules import union

Ranges = tuple[tuple[int, int], ...]  # code points, both ends included, ascending and apart
States = frozenset[int]


class NoPlan(Exception):
    """The schema has a part whose end cannot be planned from its text alone."""


_LAST = 0x10FFFF
_MOST_STATES = 6000
_SPACES = (0x9, 0xA, 0xB, 0xC, 0xD, 0x20, 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
_DIGITS: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
#: What Python reads otherwise than Rust: operators and classes within a class, and a group's name.
_CLASS = re.compile(r"\\.|\[\^?\]?(?P<members>(?:\\.|[^\]\\])*)\]|.", re.DOTALL)
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_OPERATORS = re.compile(r"\[|&&|--|~~")
_NAMED = re.compile(r"\(\?<(?=[A-Za-z_])")


def _complement(ranges: Ranges) -> Ranges:
    edges = [-1, *(edge for low, high in ranges for edge in (low, high)), _LAST + 1]
    return tuple((edges[i] + 1, edges[i + 1] - 1) for i in range(0, len(edges), 2) if edges[i] + 1 < edges[i + 1])


_SPACE = union([(code, code) for code in _SPACES] + [(0x2000, 0x200A)])
_CATEGORIES = {
    sre.CATEGORY_DIGIT: _DIGITS,
    sre.CATEGORY_NOT_DIGIT: _complement(_DIGITS),
    sre.CATEGORY_SPACE: _SPACE,
    sre.CATEGORY_NOT_SPACE: _complement(_SPACE),
    sre.CATEGORY_WORD: _WORD,
    sre.CATEGORY_NOT_WORD: _complement(_WORD),
}
_ANY = _complement(((10, 10),))


@lru_cache(maxsize=256)
def automaton(pattern: str) -> Automaton:
    """The automaton of a pattern, made once. Raises NoPlan for one that cannot be followed exactly."""
    for match in _CLASS.finditer(pattern):
        if match["members"] and _OPERATORS.search(_ESCAPE.sub("", match["members"])):
            raise NoPlan
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = _parser.parse(_NAMED.sub("(?P<", pattern), re.ASCII)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise NoPlan from error
    if tree.state.flags & ~(re.ASCII | re.UNICODE):
        raise NoPlan
    return Automaton(tree)


class Automaton:
    """States and edges. `step` and `accepts` take sets of states; `start` is the set before the first character."""

    def __init__(self, tree: Any) -> None:
        self._edges: list[list[tuple[Ranges, int]]] = []
        self._free: list[list[int]] = []
        self._held: list[list[tuple[Any, int]]] = []  # edges that ^ and $ guard
        before, self._final = self._state(), self._state()
        self._edges[before].append((((0, _LAST),), before))
        self._edges[self._final].append((((0, _LAST),), self._final))
        self._link(self._sequence(tree, before), self._final)
        self.start = self._closed({before}, first=True, last=False)
        self._first = self._closed({before}, first=True, last=True)
        self._steps: dict[tuple[States, int], States] = {}

    def _state(self) -> int:
        if len(self._edges) >= _MOST_STATES:
            raise NoPlan
        self._edges.append([])
        self._free.append([])
        self._held.append([])
        return len(self._edges) - 1

    def _link(self, start: int, stop: int) -> None:
        self._free[start].append(stop)

    def _sequence(self, tree: Any, at: int) -> int:
        for kind, what in tree:
            at = self._part(kind, what, at)
        return at

    def _part(self, kind: Any, what: Any, at: int) -> int:
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            return self._repeat(what, at)
        after = self._state()
        if kind is sre.BRANCH:
            for branch in what[1]:
                start = self._state()
                self._link(at, start)
                self._link(self._sequence(branch, start), after)
        elif kind is sre.SUBPATTERN:
            _, added, removed, inner = what
            if added or removed:
                raise NoPlan
            self._link(self._sequence(inner, at), after)
        elif kind is sre.AT and what in (sre.AT_BEGINNING, sre.AT_END):
            self._held[at].append((what, after))
        else:
            self._edges[at].append((_class(kind, what), after))
        return after

    def _repeat(self, what: Any, at: int) -> int:
        least, most, inner = what
        for _ in range(least):
            at = self._sequence(inner, at)
        after = self._state()
        if most is sre.MAXREPEAT:
            loop = self._state()
            self._link(at, loop)
            self._link(self._sequence(inner, loop), loop)
            self._link(loop, after)
            return after
        for _ in range(most - least):
            self._link(at, after)
            at = self._sequence(inner, at)
        self._link(at, after)
        return after

    def _closed(self, states: set[int], *, first: bool, last: bool) -> States:
        todo, seen = list(states), set(states)
        while todo:
            state = todo.pop()
            held = [to for at, to in self._held[state] if (first if at is sre.AT_BEGINNING else last)]
            new = {*self._free[state], *held} - seen
            seen |= new
            todo += new
        return frozenset(seen)

    def step(self, states: States, code: int) -> States:
        """The states after one more character."""
        known = self._steps.get((states, code))
        if known is None:
            reached = {to for s in states for ranges, to in self._edges[s] if any(a <= code <= b for a, b in ranges)}
            if len(self._steps) > 20000:
                self._steps.clear()
            known = self._steps[states, code] = self._closed(reached, first=False, last=False)
        return known

    def accepts(self, states: States) -> bool:
        """Whether a text that ends here is matched."""
        closed = self._first if states == self.start else self._closed(set(states), first=False, last=True)
        return self._final in closed

    def edges(self, states: States) -> Iterator[int]:
        """The code points at which what may follow changes."""
        for state in states:
            for ranges, _ in self._edges[state]:
                for low, high in ranges:
                    yield low
                    yield high + 1

    def matches(self, text: str) -> bool:
        """Whether the pattern is found in `text`."""
        states = self.start
        for character in text:
            states = self.step(states, ord(character))
        return self.accepts(states)


def _class(kind: Any, what: Any) -> Ranges:
    """The code points that one character of a pattern stands for."""
    if kind is sre.LITERAL:
        return ((what, what),)
    if kind is sre.NOT_LITERAL:
        return _complement(((what, what),))
    if kind is sre.ANY:
        return _ANY
    if kind is not sre.IN:
        raise NoPlan
    negated = bool(what) and what[0][0] is sre.NEGATE
    ranges: list[tuple[int, int]] = []
    for member, value in what[negated:]:
        if member is sre.LITERAL:
            ranges.append((value, value))
        elif member is sre.RANGE:
            ranges.append(value)
        elif member is sre.CATEGORY and value in _CATEGORIES:
            ranges += _CATEGORIES[value]
        else:
            raise NoPlan
    return _complement(union(ranges)) if negated else union(ranges)
