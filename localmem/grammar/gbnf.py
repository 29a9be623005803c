"""Grammars run by llama.cpp: rules written as GBNF, its notation. The vocabulary gives out llama.cpp's matcher.

Knows no llama.cpp by name, only its notation and two facts about it: counts above 2,000 are silently taken for "any
number", so counted repetition is written as rules of its own; and a rule that repeats nothing never ends.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from localmem.errors import GrammarError
from localmem.grammar.factoring import choice
from localmem.grammar.gbnf_text import read_gbnf
from localmem.grammar.json_rules import json_rules
from localmem.grammar.plans import Plan, plan_for
from localmem.grammar.rule_checks import may_be_empty, nullable
from localmem.grammar.rules import Alt, Chars, Ref, Repeat, Rule, Rules, Seq, Text
from localmem.grammar.sources import Choice, Gbnf, Json
from localmem.protocols import End, TokenRules, Vocabulary

_MOST_RULES = 20_000
_MOST_COUNT = 1_000_000
_FEW = 12  # repetitions that are left to llama.cpp, which writes each one out
_CHAIN = 2000  # repetitions that are one rule each, so that a matcher never has two ways open; above it, a block
_BLOCK = 1000
_LAST = 0x10FFFF
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
_OWN_NAME = re.compile(r"-(?:to-|x|part-)\d+$")  # how rules that are added here are called


class GbnfGrammar:
    """A JSON Schema, some texts or a person's own GBNF, for llama.cpp. Raises GrammarError if it cannot be enforced.

    `text` is the grammar as llama.cpp gets it.
    """

    def __init__(self, source: Json | Choice | Gbnf) -> None:
        self.source = source
        self.text = _source_text(source)
        self._plan = plan_for(source)

    def bind(self, vocabulary: Vocabulary) -> GbnfMatcher:
        return GbnfMatcher(vocabulary.gbnf(self.text), self._plan)


class GbnfMatcher:
    """One generation's place in a grammar: llama.cpp's token rules, and a plan for the end."""

    def __init__(self, rules: TokenRules, plan: Plan) -> None:
        self._rules = rules
        self._plan = plan
        self.end_bound = plan.bound()

    def forced(self) -> list[int]:
        return self._rules.forced()

    def accept(self, token: int) -> bool:
        return self._rules.accept(token)

    def mask(self) -> NDArray[np.bool_]:
        return self._rules.mask()

    @property
    def complete(self) -> bool:
        return self._rules.complete

    @property
    def can_stop(self) -> bool:
        return self._rules.can_stop

    def end(self, text: str) -> End | None:
        return self._plan.end(text)


def _source_text(source: Json | Choice | Gbnf) -> str:
    match source:
        case Json():
            return _of_schema(source.text())
        case Choice(texts):
            return write_gbnf(_one_of(texts))
        case Gbnf(text):
            # Read and written again: llama.cpp's own parser drops a limit above 2,000 without a word.
            return write_gbnf(read_gbnf(text))


@lru_cache(maxsize=32)
def _of_schema(schema: str) -> str:
    """Cached: most steps offer what the last one did."""
    return write_gbnf(json_rules(json.loads(schema)))


def _one_of(texts: tuple[str, ...]) -> Rules:
    if not texts:
        raise GrammarError("There is nothing to choose from; give at least one text.")
    return Rules({"root": choice(map(Text, texts))})


def write_gbnf(rules: Rules, *, few: int = _FEW) -> str:
    """The rules in llama.cpp's notation, beginning at `root`; equal rules give equal text.

    Up to `few` (at most 1999) repetitions are left to llama.cpp: more of them are nicer to read and slower to parse.

    Raises GrammarError if they are too large, or repeat without end what may be nothing.
    """
    writer = _Writer(rules, min(few, _CHAIN - 1))
    try:
        for name, rule in rules.rules.items():
            writer.add(writer.names[name], rule)
    except RecursionError:
        raise GrammarError("This grammar is nested too deep.") from None
    lines = {"root": writer.lines["root"], **writer.lines}
    return "".join(f"{name} ::= {body}\n" for name, body in lines.items())


class _Writer:
    """GBNF while it is written: one line a rule."""

    def __init__(self, rules: Rules, few: int) -> None:
        self.names = _legal_names(rules)
        self._few = few
        self.lines: dict[str, str] = {}
        self._empty = nullable(rules.rules)
        self._rule = ""

    def add(self, name: str, rule: Rule) -> None:
        self._rule = name
        self._line(name, self._alternatives(rule))

    def _line(self, name: str, body: str) -> None:
        if len(self.lines) >= _MOST_RULES:
            raise GrammarError(f"This grammar takes more than {_MOST_RULES:,} rules; use smaller limits.")
        self.lines[name] = body

    def _alternatives(self, rule: Rule) -> str:
        ways = rule.choices if isinstance(rule, Alt) else (rule,)
        if not ways:
            raise GrammarError("A rule without alternatives fits no text.")
        return " | ".join(map(self._sequence, ways))

    def _sequence(self, rule: Rule) -> str:
        parts = rule.parts if isinstance(rule, Seq) else (rule,)
        return " ".join(map(self._item, parts)) or '""'

    def _item(self, rule: Rule) -> str:
        match rule:
            case Text():
                return f'"{"".join(map(_character, rule.text))}"'
            case Chars():
                return _class(rule)
            case Ref():
                return self.names[rule.name]
            case Repeat():
                return self._repeat(rule)
            case _:
                return f"({self._alternatives(rule)})"

    # -- repetition

    def _repeat(self, rule: Repeat) -> str:
        least, most = rule.least, rule.most
        if most is not None and most < least:
            raise GrammarError(f"A repetition of at least {least} and at most {most} fits no text.")
        if max(least, most or 0) > _MOST_COUNT:
            raise GrammarError(f"A repetition of more than {_MOST_COUNT:,} is too large for this backend.")
        if most is None and may_be_empty(rule.rule, self._empty):
            raise GrammarError(f"The rule {self._rule!r} repeats without end what may be nothing.")
        item = self._item(rule.rule)
        if most is None:
            return f"{self._exactly(item, least - 1)} {item}+".strip() if least else f"{item}*"
        return f"{self._exactly(item, least)} {self._up_to(item, most - least)}".strip() or '""'

    def _exactly(self, item: str, count: int) -> str:
        if count <= 1:
            return item * max(count, 0)
        if count <= self._few:
            return f"{item}{{{count}}}"
        # In tens of tens: eight hundred are eight times the rule of a hundred.
        name, size, parts = self._named(item), 1, []
        while count:
            count, digit = divmod(count, 10)
            block = name if size == 1 else self._block(name, size)
            if digit:
                parts.append(block if digit == 1 else f"{block}{{{digit}}}")
            size *= 10
        return " ".join(reversed(parts))

    def _block(self, name: str, size: int) -> str:
        block = f"{name}-x{size}"
        if block not in self.lines:
            inner = name if size == 10 else self._block(name, size // 10)
            self._line(block, f"{inner}{{10}}")
        return block

    def _up_to(self, item: str, count: int) -> str:
        if count <= self._few:
            return "" if not count else f"{item}?" if count == 1 else f"{item}{{0,{count}}}"
        name = self._named(item)
        wanted = f"{name}-to-{count}"
        # What is missing of the chain, from its end: the rules of a longer one are shared with every shorter one.
        missing = []
        while count > 0 and f"{name}-to-{count}" not in self.lines:
            missing.append(count)
            count -= _BLOCK if count > _CHAIN else 1
        for number in reversed(missing):
            if number > _CHAIN:
                rest = self._up_to(name, _BLOCK - 1)
                body = f"{self._block(name, _BLOCK)} {name}-to-{number - _BLOCK} | {rest}"
            else:
                body = f'{name} {name}-to-{number - 1} | ""' if number > 1 else f"{name}?"
            self._line(f"{name}-to-{number}", body)
        return wanted

    def _named(self, item: str) -> str:
        """A rule for what is repeated."""
        if item in self.lines or item in self.names.values():
            return item
        known = next((name for name, body in self.lines.items() if body == item), None)
        if known is not None:
            return known
        number = 1
        while (name := f"{self._rule}-part-{number}") in self.lines or name in self.names.values():
            number += 1
        self._line(name, item)
        return name


def _legal_names(rules: Rules) -> dict[str, str]:
    """Names of letters, digits and hyphens; the rule that texts begin at is `root`."""
    names, taken = {rules.root: "root"}, {"root"}
    for name in rules.rules:
        if name in names:
            continue
        wanted = "".join(c if c.isascii() and c.isalnum() else "-" for c in name) or "rule"
        wanted += "-" if _OWN_NAME.search(wanted) else ""
        legal, number = wanted, 1
        while legal in taken:
            number += 1
            legal = f"{wanted}-{number}"
        names[name] = legal
        taken.add(legal)
    return names


def _class(chars: Chars) -> str:
    if any(low > high or low < 0 or high > _LAST for low, high in chars.ranges):
        raise GrammarError("A range of characters ends before it begins, or beyond the last character.")
    if not chars.ranges:
        if chars.negated:
            return "."
        raise GrammarError("A class of no characters fits no text.")
    spans = (_character(chr(a)) + (f"-{_character(chr(b))}" if a != b else "") for a, b in chars.ranges)
    return f"[{'^' if chars.negated else ''}{''.join(spans)}]"


def _character(character: str) -> str:
    """A character as it may stand in a text and in a class: by number, unless it is plainly harmless."""
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if (character.isalnum() and code < 0x80) or character in " !#$%&'()*+,./:;<=>?@_`{|}~":
        return character
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
