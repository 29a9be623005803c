"""Whether a text fits rules, worked out the plain way: what the backends are held against."""

from __future__ import annotations

from functools import cache

from localmem.grammar.rules import Alt, Chars, Ref, Repeat, Rule, Rules, Seq, Text


def fits(rules: Rules, text: str) -> bool:
    """Whether all of `text` is one of the rules' texts."""

    @cache
    def ends(rule: Rule, at: int) -> frozenset[int]:
        match rule:
            case Text():
                return frozenset([at + len(rule.text)] if text.startswith(rule.text, at) else [])
            case Chars():
                known = at < len(text) and any(low <= ord(text[at]) <= high for low, high in rule.ranges)
                return frozenset([at + 1] if at < len(text) and known != rule.negated else [])
            case Seq():
                places = frozenset([at])
                for part in rule.parts:
                    places = frozenset(end for place in places for end in ends(part, place))
                return places
            case Alt():
                return frozenset(end for way in rule.choices for end in ends(way, at))
            case Ref():
                return ends(rules.rules[rule.name], at)
            case Repeat():
                return repeated(rule, at)

    def repeated(rule: Repeat, at: int) -> frozenset[int]:
        found: set[int] = set()
        places, count = frozenset([at]), 0
        while places and (rule.most is None or count <= rule.most):
            if count >= rule.least:
                if places <= found:
                    break
                found |= places
            places = frozenset(end for place in places for end in ends(rule.rule, place))
            count += 1
        return frozenset(found)

    return len(text) in ends(Ref(rules.root), 0)
