"""The fewest characters that end a begun JSON string so that patterns and limits of length hold. Knows one string only.

A character is written as the grammar writes it: as itself, or where JSON asks for it by an escape. Control characters
other than the newline are written only where no other character will do, for some grammars do not allow them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from heapq import heappop, heappush
from itertools import pairwise

from localmem.grammar.pattern_ends import Automaton, NoPlan, States, automaton

_MOST_STEPS = 4000
_UNWANTED = 1000  # the price of a character that not every grammar lets a text write
_FAVOURITES = ".0aA-_ :/@"
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\", "\\r": "\r", "\\t": "\t", "\\b": "\b", "\\f": "\f"}
_PLAIN_ESCAPES = ("\\n", '\\"', "\\\\")
_CONTROLS = (*range(0x20), 0x7F)

Place = tuple[States, ...]  # where each automaton stands


def written(character: str) -> str:
    """A character inside a JSON string, as the grammar writes it."""
    return "\\u007f" if character == "\x7f" else json.dumps(character, ensure_ascii=False)[1:-1]


def finish_string(begun: str, escape: str, patterns: Sequence[str], least: int, most: int | None) -> str | None:
    """What ends a string: `begun` are its characters so far, `escape` the escape that it breaks off in, if any.

    The result ends with the quotation mark. None if no end fits; NoPlan where a pattern cannot be followed.
    """
    automata = tuple(automaton(pattern) for pattern in patterns)
    place = _followed(automata, begun)
    starts: list[tuple[int, str, int, Place]] = []
    if not escape:
        starts.append((0, "", len(begun), place))
    else:
        escape = escape[:2] + escape[2:].lower()
        for text, character in _escapes():
            if text.startswith(escape):
                rest = text[len(escape) :]
                price = len(rest) + (0 if text in _PLAIN_ESCAPES else _UNWANTED)
                starts.append((price, rest, len(begun) + 1, _moved(automata, place, ord(character))))
    return _search(automata, starts, least, most)


@lru_cache(maxsize=4096)
def matches(patterns: tuple[str, ...], text: str) -> bool:
    """Whether every pattern is found in `text`."""
    return all(automaton(pattern).matches(text) for pattern in patterns)


@lru_cache(maxsize=4096)
def _followed(automata: tuple[Automaton, ...], begun: str) -> Place:
    place = tuple(each.start for each in automata)
    for character in begun:
        place = _moved(automata, place, ord(character))
    return place


def _moved(automata: Sequence[Automaton], place: Place, code: int) -> Place:
    return tuple(each.step(states, code) for each, states in zip(automata, place, strict=True))


def _escapes() -> Iterator[tuple[str, str]]:
    yield from _ESCAPES.items()
    for code in _CONTROLS:
        yield f"\\u{code:04x}", chr(code)


def _price(character: str) -> int:
    text = written(character)
    return len(text) + (_UNWANTED if len(text) > 1 and text not in _PLAIN_ESCAPES else 0)


def _search(
    automata: Sequence[Automaton], starts: Sequence[tuple[int, str, int, Place]], least: int, most: int | None
) -> str | None:
    """The cheapest text from one of the starts (price, text so far, length, place) to where all automata accept."""
    queue: list[tuple[int, int, str, int, Place]] = []
    for order, (price, text, length, place) in enumerate(starts):
        heappush(queue, (price, order, text, length, place))
    order, seen = len(starts), set()
    while queue:
        price, _, text, length, place = heappop(queue)
        key = (place, length if most is not None else min(length, least))
        if key in seen or not all(place) or (most is not None and length > most):
            continue
        seen.add(key)
        if length >= least and all(each.accepts(states) for each, states in zip(automata, place, strict=True)):
            return text + '"'
        if len(seen) > _MOST_STEPS:
            raise NoPlan
        for character, after in _ways(tuple(automata), place):
            order += 1
            heappush(queue, (price + _price(character), order, text + written(character), length + 1, after))
    return None


@lru_cache(maxsize=4096)
def _ways(automata: tuple[Automaton, ...], place: Place) -> list[tuple[str, Place]]:
    """For each place that one character leads to, the best such character."""
    edges = sorted({edge for each, states in zip(automata, place, strict=True) for edge in each.edges(states)})
    best: dict[Place, tuple[int, str]] = {}
    for low, high in pairwise(edges):
        character = _best_of(low, high - 1)
        if character is None:
            continue
        after = _moved(automata, place, ord(character))
        rank = (_rank(character), character)
        if all(after) and (after not in best or rank < best[after]):
            best[after] = rank
    return [(character, after) for after, (_, character) in best.items()]


def _best_of(low: int, high: int) -> str | None:
    """The code points from `low` to `high` are all alike: the one that is best to write; None if none can be."""
    liked = [c for c in _FAVOURITES if low <= ord(c) <= high]
    plain = [chr(max(low, at)) for at in (0x30, 0x41, 0x61, 0x20, 0x5D, 0x23, 0xA1) if max(low, at) <= high]
    plain += [chr(at) for at in (low, high)]
    if low <= 0xDFFF and high >= 0xD800:
        plain = [c for c in plain if not 0xD800 <= ord(c) <= 0xDFFF]
    return min((*liked, *plain), key=_rank, default=None)


@lru_cache(maxsize=4096)
def _rank(character: str) -> int:
    code = ord(character)
    if character in _FAVOURITES:
        return _FAVOURITES.index(character)
    plain = character.isascii() and (character.isalnum() or character == " ")
    return 100 * _price(character) + (0 if plain else 20 if character.isascii() else 40) + (0x7F <= code < 0xA0) * 20
