"""Rules -> one regular expression that matches, as a whole, exactly the texts that the rules allow.

One thing is left out: U+10FFFF, which Unicode reserves never to be a character, is in no class. The expression is
written in what Rust's and Python's share. Only what is regular can be written: rules that refer to themselves are
refused. Knows no JSON and no vocabulary.
"""

from __future__ import annotations

from localmem.errors import GrammarError
from localmem.grammar.rules import Alt, Chars, Ref, Repeat, Rule, Rules, Seq, Text

_SPECIAL = frozenset(r"\.+*?()|[]{}^$#&-~")
_LAST = 0x10FFFE  # U+10FFFF is reserved never to be a character, and for the use of whoever runs the expression
_SURROGATES = (0xD800, 0xDFFF)

#: States of an automaton that reads UTF-8 bytes for one character that is not always one byte (measured: 11).
_WIDE = 11


def regex_of(rules: Rules, *, most_states: int) -> str:
    """The regular expression of `rules`.

    Raises GrammarError for recursion, for rules that no text fits, and where `states(rules)` exceeds `most_states`:
    written out, every rule stands wherever it is referred to, so few rules can become a very long expression.
    """
    needed = states(rules)
    if needed > most_states:
        raise GrammarError(
            f"As an automaton this would need about {needed:,} states, and backend outlines takes {most_states:,}; "
            "use lower bounds (maxLength, maxItems), or backend llguidance."
        )
    written = _Writer(rules).write(rules.rules[rules.root])
    if written is None:
        raise GrammarError("No text can satisfy this schema.")
    return written


def states(rules: Rules) -> int:
    """About how many states an automaton of `rules` has: one for each byte of each character, repetitions unrolled.

    Alternatives that begin alike may need more. Raises GrammarError for recursion.
    """
    return _Counter(rules).count(rules.rules[rules.root])


class _Walk:
    """Follows references, each to a rule that is worked out once."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._open: list[str] = []

    def _enter(self, name: str) -> Rule:
        if name in self._open:
            raise GrammarError(
                "Backend outlines cannot follow values that nest without end: those of a schema that refers to itself, "
                "or that allows any value (as an object does without additionalProperties: false); use backend "
                "llguidance or gbnf."
            )
        self._open.append(name)
        return self._rules.rules[name]

    def _leave(self) -> None:
        self._open.pop()


class _Counter(_Walk):
    def __init__(self, rules: Rules) -> None:
        super().__init__(rules)
        self._known: dict[str, int] = {}

    def count(self, rule: Rule) -> int:
        match rule:
            case Text(text):
                return len(text.encode("utf-8", "surrogatepass"))
            case Chars(ranges, negated):
                return _WIDE if negated or any(last > 0x7F for _, last in ranges) else 1
            case Seq(parts) | Alt(parts):
                return sum(map(self.count, parts))
            case Repeat(inner, least, most):
                return self.count(inner) * max(1, least if most is None else most)
            case Ref(name):
                if name not in self._known:
                    count = self.count(self._enter(name))
                    self._leave()
                    self._known[name] = count
                return self._known[name]


class _Writer(_Walk):
    def __init__(self, rules: Rules) -> None:
        super().__init__(rules)
        self._known: dict[str, str | None] = {}

    def write(self, rule: Rule) -> str | None:
        """The expression of `rule`; None if no text fits it."""
        match rule:
            case Text(text):
                return "".join(map(_literal, text)) if not any(map(_is_surrogate, text)) else None
            case Chars(ranges, negated):
                return _class(ranges, negated)
            case Seq(parts):
                written = [self._grouped(part) for part in parts]
                return None if None in written else "".join(part for part in written if part is not None)
            case Alt(choices):
                possible = [text for text in map(self.write, choices) if text is not None]
                return "|".join(possible) if possible else None
            case Repeat():
                return self._repeat(rule)
            case Ref(name):
                if name not in self._known:
                    written_rule = self.write(self._enter(name))
                    self._leave()
                    self._known[name] = written_rule
                return self._known[name]

    def _grouped(self, rule: Rule) -> str | None:
        """What can stand beside other expressions."""
        written = self.write(rule)
        return f"(?:{written})" if written is not None and not isinstance(rule, Text | Chars | Seq) else written

    def _repeat(self, rule: Repeat) -> str | None:
        most = "" if rule.most is None else rule.most
        if rule.most is not None and rule.most < rule.least:
            return None
        written = self.write(rule.rule)
        if written is None:
            return "" if rule.least == 0 else None
        single = written if isinstance(rule.rule, Chars) else f"(?:{written})"
        match rule.least, rule.most:
            case 0, None:
                return f"{single}*"
            case 0, 1:
                return f"{single}?"
            case least, _ if least == most:
                return f"{single}{{{least}}}"
            case least, _:
                return f"{single}{{{least},{most}}}"


def _literal(character: str) -> str:
    if character in _SPECIAL:
        return "\\" + character
    return character if character.isprintable() else _code(ord(character))


def _code(point: int) -> str:
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _is_surrogate(character: str) -> bool:
    return _SURROGATES[0] <= ord(character) <= _SURROGATES[1]


def _class(ranges: tuple[tuple[int, int], ...], negated: bool) -> str | None:
    """A class without the surrogates, which are no characters; None if it is empty."""
    kept: list[tuple[int, int]] = []
    at = 0
    for first, last in sorted((first, last) for first, last in ranges if first <= last):
        if negated:
            kept.append((at, first - 1))
        else:
            kept.append((max(at, first), min(last, _LAST)))
        at = max(at, last + 1)
    if negated:
        kept.append((at, _LAST))
    pieces = []
    for first, last in kept:
        for low, high in ((first, min(last, _SURROGATES[0] - 1)), (max(first, _SURROGATES[1] + 1), last)):
            if low == high:
                pieces.append(_code(low))
            elif low < high:
                pieces.append(f"{_code(low)}-{_code(high)}")
    return f"[{''.join(pieces)}]" if pieces else None
