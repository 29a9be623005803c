"""JSON strings as rules: their characters, their lengths, and keys other than some that are known.

A character counts as one however it is spelled. Halves of surrogate pairs are no characters and cannot be written; a
character beyond the first 65,536 is written as itself. Knows no schema.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from localmem.grammar.factoring import choice, sequence
from localmem.grammar.rules import Chars, Ref, Repeat, Rule, Text
from localmem.grammar.shortest import dump

_Ranges = tuple[tuple[int, int], ...]

#: Characters that stand for themselves: no quote, no backslash, no control character, no half of a pair.
_PLAIN: _Ranges = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E), (0x80, 0xD7FF), (0xE000, 0x10FFFF))
#: The same without the second block of control characters, which TEXT_PATTERN excludes.
_TEXT: _Ranges = (*_PLAIN[:3], (0xA0, 0xD7FF), (0xE000, 0x10FFFF))
#: Each character that has to be escaped, as `dump` does it.
_ESCAPED = tuple(dump(chr(code))[1:-1] for code in (*range(0x20), 0x22, 0x5C, 0x7F))


def _of(*characters: str) -> Chars:
    """One of these characters, or of ranges such as "09"."""
    return Chars(tuple((ord(each[0]), ord(each[-1])) for each in characters))


def _by_number() -> Rule:
    """The rest of a character that is written by its number, but for the halves of pairs (d800 to dfff)."""
    hexadecimal = _of("09", "AF", "af")
    three = (hexadecimal, hexadecimal, hexadecimal)
    below = sequence((_of("09", "AC", "EF", "ac", "ef"), *three))
    return sequence((Text("u"), choice((below, sequence((_of("D", "d"), _of("07"), *three[:2]))))))


#: The characters of a string, of a string of TEXT_PATTERN, and of a key that must differ from others, by rule name.
CHARACTERS: Mapping[str, Rule] = {
    "char": choice((Chars(_PLAIN), sequence((Text("\\"), choice((_of(*'"\\/bfnrt'), _by_number())))))),
    "text-char": choice((Chars(_TEXT), sequence((Text("\\"), _of('"', "\\", "n"))))),
    "key-char": choice((Chars(_PLAIN), *map(Text, _ESCAPED))),
}


def string_rule(least: int = 0, most: int | None = None, *, text: bool = False) -> Rule:
    """A string of `least` to `most` characters; of TEXT_PATTERN if `text`."""
    quote = Text('"')
    return sequence((quote, Repeat(Ref("text-char" if text else "char"), least, most), quote))


def other_key(known: Collection[str]) -> Rule:
    """Any key but the known ones. Each character has one spelling, that of `dump`, so that no other spells them."""
    return sequence((Text('"'), _differing([dump(key)[1:-1] for key in known])))


def _differing(known: list[str]) -> Rule:
    """What ends a key after a beginning that it has in common with `known`: those are the rests of keys."""
    if not known:
        return sequence((Repeat(Ref("key-char")), Text('"')))
    rests: dict[str, list[str]] = {}
    for key in known:
        if key:
            unit = _first_unit(key)
            rests.setdefault(unit, []).append(key[len(unit) :])
    taken = sorted(ord(unit) for unit in rests if len(unit) == 1)
    others = choice((Chars(_without(_PLAIN, taken)), *(Text(e) for e in _ESCAPED if e not in rests)))
    ways = [sequence((others, _differing([])))]
    ways += [sequence((Text(unit), _differing(rest))) for unit, rest in rests.items()]
    return choice(ways if "" in known else [*ways, Text('"')])


def _first_unit(key: str) -> str:
    """The first character of a key, as it is written."""
    return key[0] if key[0] != "\\" else key[:6] if key[1] == "u" else key[:2]


def _without(ranges: _Ranges, taken: list[int]) -> _Ranges:
    for code in taken:
        ranges = tuple(
            part
            for low, high in ranges
            for part in (((low, code - 1), (code + 1, high)) if low <= code <= high else ((low, high),))
            if part[0] <= part[1]
        )
    return ranges
