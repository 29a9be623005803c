"""What makes rules unusable: names of nothing, rules that never end, rules that begin with themselves.

llama.cpp finds only some left recursion, and would fill the memory with the rest. Knows `rules` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from localmem.grammar.rules import Alt, Chars, Ref, Repeat, Rule, Seq, Text


def undefined(rules: Mapping[str, Rule]) -> str | None:
    """A name that is used and not defined."""
    names = (name for rule in rules.values() for name in _names(rule))
    return next((name for name in names if name not in rules), None)


def endless(rules: Mapping[str, Rule]) -> str | None:
    """A rule that no text fits, since it always leads back into itself."""
    ending = _growing(rules, _ends)
    return next((name for name in rules if name not in ending), None)


def nullable(rules: Mapping[str, Rule]) -> set[str]:
    """The rules that the empty text fits."""
    return _growing(rules, may_be_empty)


def left_recursive(rules: Mapping[str, Rule]) -> str | None:
    """A rule that may begin with itself."""
    empty = nullable(rules)
    firsts = {name: set(_firsts(rule, empty)) for name, rule in rules.items()}
    done: set[str] = set()
    for start in rules:
        # A walk without recursion: a chain of rules may be longer than Python's stack.
        way, open_names = [(start, iter(firsts[start]))], {start}
        while way:
            name, rest = way[-1]
            step = next(rest, None)
            if step is None:
                way.pop()
                open_names.discard(name)
                done.add(name)
            elif step in open_names:
                return step
            elif step not in done:
                way.append((step, iter(firsts[step])))
                open_names.add(step)
    return None


def _growing(rules: Mapping[str, Rule], holds: Callable[[Rule, set[str]], bool]) -> set[str]:
    """The rules of which something holds, given of which others it does: the least such set."""
    found: set[str] = set()
    grown = True
    while grown:
        before = len(found)
        for name, rule in rules.items():
            if name not in found and holds(rule, found):
                found.add(name)
        grown = len(found) > before
    return found


def may_be_empty(rule: Rule, empty: set[str]) -> bool:
    """Whether the empty text fits; `empty` names the rules that it fits."""
    match rule:
        case Text():
            return not rule.text
        case Chars():
            return False
        case Seq():
            return all(may_be_empty(part, empty) for part in rule.parts)
        case Alt():
            return any(may_be_empty(way, empty) for way in rule.choices)
        case Repeat():
            return rule.least == 0 or may_be_empty(rule.rule, empty)
        case Ref():
            return rule.name in empty


def _ends(rule: Rule, ending: set[str]) -> bool:
    match rule:
        case Text() | Chars():
            return True
        case Seq():
            return all(_ends(part, ending) for part in rule.parts)
        case Alt():
            return any(_ends(way, ending) for way in rule.choices)
        case Repeat():
            return rule.least == 0 or _ends(rule.rule, ending)
        case Ref():
            return rule.name in ending


def _firsts(rule: Rule, empty: set[str]) -> Iterator[str]:
    """The rules that a text of `rule` may begin with."""
    match rule:
        case Ref():
            yield rule.name
        case Alt():
            for way in rule.choices:
                yield from _firsts(way, empty)
        case Seq():
            for part in rule.parts:
                yield from _firsts(part, empty)
                if not may_be_empty(part, empty):
                    return
        case Repeat():
            yield from _firsts(rule.rule, empty)


def _names(rule: Rule) -> Iterator[str]:
    match rule:
        case Ref():
            yield rule.name
        case Alt():
            for way in rule.choices:
                yield from _names(way)
        case Seq():
            for part in rule.parts:
                yield from _names(part)
        case Repeat():
            yield from _names(rule.rule)
