"""JSON numbers within limits, as rules: digit by digit and exact. Knows the one schema of the number only.

Whole numbers have no fraction, and decimals within limits no exponent. Only beside an exclusive limit is the length of
a fraction limited: a longer one could be read as the limit itself, which is excluded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from localmem.errors import GrammarError
from localmem.grammar.factoring import choice, optional, sequence
from localmem.grammar.rules import Chars, Repeat, Rule, Text

_DIGIT = Chars(((48, 57),))
_NOT_ZERO = Chars(((49, 57),))
_MOST_DIGITS = 60  # of a limit: a longer one is a mistake
_EXACT = 15  # two decimals of at most so many digits are never read as the same number
_WHOLE = 9  # the most digits before the point of an exclusive limit of decimals

#: Any whole number, and any number, in JSON's own notation.
INTEGER: Rule = sequence((optional(Text("-")), choice((Text("0"), sequence((_NOT_ZERO, Repeat(_DIGIT)))))))
NUMBER: Rule = sequence(
    (
        INTEGER,
        optional(sequence((Text("."), Repeat(_DIGIT, 1)))),
        optional(sequence((Chars(((69, 69), (101, 101))), optional(Chars(((43, 43), (45, 45)))), Repeat(_DIGIT, 1)))),
    )
)


@dataclass(frozen=True, slots=True)
class _Limits:
    low: Decimal | None
    high: Decimal | None
    low_open: bool = False
    high_open: bool = False


def number_rule(schema: Mapping[str, Any], path: str) -> Rule:
    """The numbers that a schema of type integer or number allows. Raises GrammarError if there are none."""
    limits = _limits(schema, path)
    whole = schema["type"] == "integer"
    if limits.low is None and limits.high is None:
        return INTEGER if whole else NUMBER
    ways = _whole_ways(limits, schema) if whole else _decimal_ways(limits, _room(limits, path))
    if not ways:
        raise GrammarError(f"No number is within the limits of {path}.", path)
    return choice(ways)


def _limits(schema: Mapping[str, Any], path: str) -> _Limits:
    low, low_open = _stricter(schema, path, "minimum", "exclusiveMinimum")
    high, high_open = _stricter(schema, path, "maximum", "exclusiveMaximum")
    return _Limits(low, high, low_open, high_open)


def _stricter(schema: Mapping[str, Any], path: str, closed: str, opened: str) -> tuple[Decimal | None, bool]:
    """The limit that counts of an inclusive and an exclusive one, and whether it is the exclusive one."""
    found = {word: _decimal(schema[word], f"{path}.{word}") for word in (closed, opened) if word in schema}
    if not found:
        return None, False
    limit = (max if closed == "minimum" else min)(found.values())
    return limit, found.get(opened) == limit


def _decimal(value: Any, path: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GrammarError(f"The limit at {path} is no number.", path)
    exact = Decimal(repr(value))
    if not exact.is_finite() or len(f"{exact:f}") > _MOST_DIGITS:
        raise GrammarError(f"The limit at {path} has too many digits.", path)
    return exact


def _room(limits: _Limits, path: str) -> int | None:
    """The most digits after the point; None if it does not matter."""
    room = None
    for limit, is_open in ((limits.low, limits.low_open), (limits.high, limits.high_open)):
        if limit is None or not is_open:
            continue
        before, after = _split(abs(limit))
        own = _EXACT - (len(str(before)) if before else 0)
        if len(str(before)) > _WHOLE or len(after) > own:
            raise GrammarError(f"The exclusive limit of {path} has too many digits; use an inclusive one.", path)
        room = own if room is None else min(room, own)
    return room


# -- whole numbers


def _whole_ways(limits: _Limits, schema: Mapping[str, Any]) -> list[Rule]:
    low = None if limits.low is None else int(limits.low.to_integral_value(ROUND_CEILING))
    high = None if limits.high is None else int(limits.high.to_integral_value(ROUND_FLOOR))
    if low is not None and limits.low_open and low == limits.low:
        low += 1
    if high is not None and limits.high_open and high == limits.high:
        high -= 1
    if low is not None and high is not None and low > high:
        return []
    ways: list[Rule] = []
    if low is None or low < 0:
        nearest = 1 if high is None or high >= 0 else -high
        ways.append(sequence((Text("-"), _whole(nearest, None if low is None else -low))))
    if high is None or high >= 0:
        ways.append(_whole(max(low or 0, 0), high))
        if low is None or low < 0:
            ways.append(Text("-0"))
    return ways


def _whole(low: int, high: int | None) -> Rule:
    """The whole numbers from `low` >= 0 to `high`."""
    if low == 0:
        return Text("0") if high == 0 else choice((Text("0"), _whole(1, high)))
    least = str(low)
    ways = [_same_length(least, "9" * len(least))]
    if high is None:
        ways.append(sequence((_NOT_ZERO, Repeat(_DIGIT, len(least)))))
        return choice(ways)
    most = str(high)
    if len(least) == len(most):
        return _same_length(least, most)
    if len(most) - len(least) > 1:
        ways.append(sequence((_NOT_ZERO, Repeat(_DIGIT, len(least), len(most) - 2))))
    return choice([*ways, _same_length("1" + "0" * (len(most) - 1), most)])


def _same_length(low: str, high: str) -> Rule:
    """Digits from `low` to `high`, as many as both have."""
    if low == high:
        return Text(low)
    if low[0] == high[0]:
        return sequence((Text(low[0]), _same_length(low[1:], high[1:])))
    rest = len(low) - 1
    zeros, nines = "0" * rest, "9" * rest
    first, last = int(low[0]) + (low[1:] != zeros), int(high[0]) - (high[1:] != nines)
    ways: list[Rule] = []
    if low[1:] != zeros:
        ways.append(sequence((Text(low[0]), _same_length(low[1:], nines))))
    if first <= last:
        ways.append(sequence((_digits(first, last), *([Repeat(_DIGIT, rest, rest)] if rest else []))))
    if high[1:] != nines:
        ways.append(sequence((Text(high[0]), _same_length(zeros, high[1:]))))
    return choice(ways)


def _digits(first: int, last: int) -> Rule:
    return Text(str(first)) if first == last else Chars(((48 + first, 48 + last),))


# -- decimals


@dataclass(frozen=True, slots=True)
class _Tails:
    """Digits that may follow: `some` of them, or (`none`) no more at all."""

    some: Rule | None
    none: bool

    def after(self, digit: Rule) -> list[Rule]:
        """The ways to go on with `digit` and then these; none if they are nothing."""
        if self.some is None:
            return [digit] if self.none else []
        return [sequence((digit, optional(self.some) if self.none else self.some))]


def _decimal_ways(limits: _Limits, room: int | None) -> list[Rule]:
    low, high = limits.low, limits.high
    if low is not None and high is not None and low > high:
        return []
    ways: list[Rule] = []
    if low is None or low < 0:
        to_zero = high is None or high >= 0
        nearest = Decimal(0) if high is None or to_zero else -high  # a zero has no sign
        span = _Limits(nearest, None if low is None else -low, to_zero or limits.high_open, limits.low_open)
        ways += [sequence((Text("-"), way)) for way in _magnitudes(span, room)]
    if high is None or high >= 0:
        from_zero = low is None or low < 0
        least = Decimal(0) if low is None or from_zero else low
        span = _Limits(least, high, limits.low_open and not from_zero, limits.high_open)
        ways += _magnitudes(span, room)
    return ways


def _magnitudes(span: _Limits, room: int | None) -> list[Rule]:
    """The decimals without a sign within limits that have none either."""
    assert span.low is not None
    least, above = _split(span.low)
    if span.high is None:
        ways = _with_fraction(Text(str(least)), _at_least(above, span.low_open, room))
        return ways + _with_fraction(_whole(least + 1, None), _any(room))
    most, below = _split(span.high)
    if least == most:
        return _with_fraction(Text(str(least)), _between(above, below, span, room))
    ways = _with_fraction(Text(str(least)), _at_least(above, span.low_open, room))
    if most - least > 1:
        ways += _with_fraction(_whole(least + 1, most - 1), _any(room))
    return ways + _with_fraction(Text(str(most)), _at_most(below, span.high_open, room))


def _split(value: Decimal) -> tuple[int, str]:
    """What stands before the point, and the digits after it."""
    before, _, after = f"{value:f}".partition(".")
    return int(before), after.rstrip("0")


def _with_fraction(before: Rule, tails: _Tails) -> list[Rule]:
    ways = [before] if tails.none else []
    if tails.some is not None:
        ways.append(sequence((before, Text("."), tails.some)))
    return [choice(ways)] if ways else []


def _tails(ways: list[Rule], none: bool) -> _Tails:
    return _Tails(choice(ways) if ways else None, none)


def _less(room: int | None) -> int | None:
    return None if room is None else room - 1


def _any(room: int | None) -> _Tails:
    return _Tails(None if room == 0 else Repeat(_DIGIT, 1, room), True)


def _zeros(room: int | None) -> _Tails:
    return _Tails(None if room == 0 else Repeat(Text("0"), 1, room), True)


def _at_least(digits: str, is_open: bool, room: int | None) -> _Tails:
    """Fractions from that of `digits` on."""
    if not digits:
        return _positive(room) if is_open else _any(room)
    if room == 0:
        return _Tails(None, False)
    first = int(digits[0])
    ways = _at_least(digits[1:], is_open, _less(room)).after(Text(digits[0]))
    return _tails(ways + (_any(_less(room)).after(_digits(first + 1, 9)) if first < 9 else []), False)


def _positive(room: int | None) -> _Tails:
    if room == 0:
        return _Tails(None, False)
    if room is None:
        return _Tails(sequence((Repeat(Text("0")), _NOT_ZERO, Repeat(_DIGIT))), False)
    return _tails(_any(room - 1).after(_NOT_ZERO) + _positive(room - 1).after(Text("0")), False)


def _at_most(digits: str, is_open: bool, room: int | None) -> _Tails:
    """Fractions up to that of `digits`."""
    if not digits:
        return _Tails(None, False) if is_open else _zeros(room)
    if room == 0:
        return _Tails(None, True)
    first = int(digits[0])
    ways = _any(_less(room)).after(_digits(0, first - 1)) if first else []
    return _tails(ways + _at_most(digits[1:], is_open, _less(room)).after(Text(digits[0])), True)


def _between(low: str, high: str, span: _Limits, room: int | None) -> _Tails:
    """Fractions from that of `low` to that of `high`."""
    none = not low and not span.low_open
    if not high:
        return _zeros(room) if none and not span.high_open else _Tails(None, False)
    if room == 0:
        return _Tails(None, none)
    first, last = int(low[:1] or "0"), int(high[0])
    if first == last:
        ways = _between(low[1:], high[1:], span, _less(room)).after(Text(str(first)))
        return _tails(ways, none)
    ways = _at_least(low[1:], span.low_open, _less(room)).after(Text(str(first)))
    if last - first > 1:
        ways += _any(_less(room)).after(_digits(first + 1, last - 1))
    return _tails(ways + _at_most(high[1:], span.high_open, _less(room)).after(Text(str(last))), none)
