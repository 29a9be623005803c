"""Alternatives with their common beginnings written once, so that a matcher follows one way and not twenty.

The language stays the same. Knows `rules` only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from localmem.grammar.rules import Alt, Chars, Rule, Seq, Text, union

#: What matches nothing but the empty text.
NOTHING = Text("")


def sequence(parts: Iterable[Rule]) -> Rule:
    """One after the other: nested sequences opened, neighbouring texts joined."""
    flat = _flat(parts)
    return flat[0] if len(flat) == 1 else Seq(tuple(flat)) if flat else NOTHING


def choice(alternatives: Iterable[Rule]) -> Rule:
    """Any one of the alternatives; at least one is needed."""
    opened = [way for each in alternatives for way in (each.choices if isinstance(each, Alt) else (each,))]
    return _merged([_flat([way]) for way in dict.fromkeys(opened)])


def optional(rule: Rule) -> Rule:
    """The rule or nothing."""
    return choice((rule, NOTHING))


def _flat(parts: Iterable[Rule]) -> list[Rule]:
    flat: list[Rule] = []
    for part in parts:
        for piece in part.parts if isinstance(part, Seq) else (part,):
            if isinstance(piece, Text) and flat and isinstance(flat[-1], Text):
                flat[-1] = Text(flat[-1].text + piece.text)
            elif piece != NOTHING:
                flat.append(piece)
    return flat


def _merged(ways: Sequence[Sequence[Rule]]) -> Rule:
    """Ways that begin alike share their beginning, which is split off; the order is that of first appearance."""
    groups: dict[object, list[Sequence[Rule]]] = {}
    for way in ways:
        groups.setdefault(_first(way), []).append(way)
    merged = _one_class([_shared(group) for group in groups.values()])
    return merged[0] if len(merged) == 1 else Alt(tuple(merged))


def _one_class(ways: Sequence[Rule]) -> list[Rule]:
    """Ways of one character each become one class, in the place of the first of them."""
    ranges: list[tuple[int, int]] = []
    merged: list[Rule] = []
    for way in ways:
        own = _ranges(way)
        if not own:
            merged.append(way)
            continue
        if not ranges:
            place = len(merged)
            merged.append(way)
        ranges += own
        if len(ranges) > len(own):
            merged[place] = Chars(union(ranges))
    return merged


def _ranges(rule: Rule) -> tuple[tuple[int, int], ...]:
    if isinstance(rule, Text) and len(rule.text) == 1:
        return ((ord(rule.text), ord(rule.text)),)
    return rule.ranges if isinstance(rule, Chars) and not rule.negated else ()


def _first(way: Sequence[Rule]) -> object:
    if not way:
        return None
    return way[0].text[0] if isinstance(way[0], Text) else way[0]


def _shared(group: Sequence[Sequence[Rule]]) -> Rule:
    first = group[0]
    if len(group) == 1 or not first:
        return sequence(first)
    if not isinstance(first[0], Text):
        return sequence((first[0], _merged([way[1:] for way in group])))
    texts = [way[0].text for way in group if isinstance(way[0], Text)]
    width = next((i for i, chars in enumerate(zip(*texts, strict=False)) if len(set(chars)) > 1), min(map(len, texts)))
    head = texts[0][:width]
    rests = [[*([Text(t[width:])] if len(t) > width else []), *way[1:]] for t, way in zip(texts, group, strict=True)]
    return sequence((Text(head), _merged(_distinct(rests))))


def _distinct(ways: Iterable[Sequence[Rule]]) -> list[Sequence[Rule]]:
    return list(dict.fromkeys(tuple(way) for way in ways))
