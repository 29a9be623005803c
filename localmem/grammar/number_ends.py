"""The fewest characters that end a JSON number within limits. Knows the one schema of the number only."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import product
from typing import Any

Schema = Mapping[str, Any]

_LONGEST = 4000  # digits: Python refuses to make an integer of more than 4,300


def finish_number(begun: str, schema: Schema) -> str | None:
    """The fewest characters that make `begun` a number within the schema's limits; None if there are none."""
    low, high = _limits(schema)
    step = schema.get("multipleOf")
    tails = _tails(begun, low, high, whole=schema["type"] == "integer") if step is None else _multiples(begun, schema)
    second_best = None
    for end in ("", *tails):
        text = begun + end
        if fits(text, schema):
            if _everywhere(text, low, high, step):
                return end
            second_best = end if second_best is None else second_best
    return second_best


def _everywhere(text: str, low: float, high: float, step: Any) -> bool:
    """Whether a number is taken by every validator: not if binary fractions do not divide, as 0.3 by 0.1."""
    limited = (low, high) != (-math.inf, math.inf)
    if limited and text[0] == "-" and float(text) == 0:
        return False  # which ranges hold a zero with a sign, llguidance decides by their other end
    if step is not None:
        quotient = float(text) / float(step)
        return quotient.is_integer()
    # llguidance's ranges do not let every decimal end with a zero.
    return "." not in text or text[-1] != "0" or not limited


def fits(text: str, schema: Schema) -> bool:
    """Whether `text` is a number within the schema's limits."""
    low, high = _limits(schema)
    try:
        value = json.loads(text) if len(text) <= _LONGEST else _vast(text)
    except ValueError:
        return False
    if value == 0 and text[0] == "-":
        # A zero with a sign is in no range of decimals, and in ranges of integers that begin below it.
        below = low < 0 and schema.get("exclusiveMinimum", -math.inf) < -1
        if not (below if schema["type"] == "integer" else (low, high) == (-math.inf, math.inf)):
            return False
    if "multipleOf" in schema and (len(text) > _LONGEST or not _divides(schema["multipleOf"], text)):
        return False
    return bool(low <= value <= high) and value not in (schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum"))


def _vast(text: str) -> float:
    """A number of more digits than Python makes an integer of: near enough for any limit. Raises ValueError."""
    json.loads(re.sub(r"\d+", "1", text))  # whether it is one
    if re.match(r"-?0\d", text):
        raise ValueError(text)
    return float(text)


def is_multiple(value: int | float, step: Any) -> bool:
    """Whether `value` is a multiple of `step`, both as they are written in decimals."""
    return (Fraction(str(value)) / Fraction(str(step))).denominator == 1


def _divides(step: Any, text: str) -> bool:
    """llguidance divides the digits that are written: a quarter divides 1 and 2.50, but neither 1.0 nor 2.5."""
    if not set(text) <= set("-.0123456789"):
        return False
    whole, _, fraction = text.lstrip("-").partition(".")
    if not fraction:
        return (Fraction(whole) / Fraction(str(step))).denominator == 1
    places, digits = _needed(step), _digits_of(step)
    if len(fraction) != places and (digits != 1 or len(fraction) > places):
        return False
    return int(whole + fraction) % digits == 0


def _needed(step: Any) -> int:
    """How many decimals `step` has."""
    return next((n for n in range(40) if (Fraction(str(step)) * 10**n).denominator == 1), 40)


def _digits_of(step: Any) -> int:
    return int(Fraction(str(step)) * 10 ** _needed(step))


def _limits(schema: Schema) -> tuple[float, float]:
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    return low, min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))


def _tails(begun: str, low: float, high: float, *, whole: bool) -> Iterator[str]:
    yield from "0123456789"
    if len(begun) > _LONGEST:
        return
    if set(begun) <= set("-0123456789"):
        yield from _digits(begun, low, high)
    if whole:
        return
    starts = [""] if begun.strip("-0123456789") else [".", "0.", "-0."]
    for length in range(1, 4):
        yield from (start + "".join(digits) for start in starts for digits in product("0123456789", repeat=length))


def _digits(begun: str, low: float, high: float) -> Iterator[str]:
    """Digits (and a sign) that take an integer begun as `begun` into the limits, shortest first."""
    for length in range(1, 20):
        for sign in [""] if begun else ["", "-"]:
            head = sign + begun
            smallest = int(head.lstrip("-") or 0) * 10**length
            least, most = smallest, smallest + 10**length - 1
            if head.startswith("-"):
                least, most = -most, -least
            if max(least, low) <= min(most, high):
                for near in (max(least, -(-low // 1)) if low > least else least, min(most, high)):
                    value = int(near)
                    yield from (
                        f"{sign}{abs(v) - smallest:0{length}d}" for v in (value, value + 1) if least <= v <= most
                    )


def _multiples(begun: str, schema: Schema) -> Iterator[str]:
    """Digits (with a sign or a point before them) that make a multiple within the limits, shortest first."""
    if set(begun) - set("-.0123456789"):
        return  # another branch's
    low, high = _limits(schema)
    step, decimals = Fraction(str(schema["multipleOf"])), 0
    if schema["type"] != "integer":
        decimals = _needed(step)
    for count in range(20):
        for sign in [""] if begun else ["", "-"]:
            whole, point, fraction = (sign + begun).lstrip("-").partition(".")
            bounds = (-high, -low) if (sign + begun).startswith("-") else (low, high)
            for head, places in _heads(whole, point, fraction, count):
                if places > decimals:
                    continue
                unit = Fraction(1, 10**places)
                smallest = int(whole + fraction or 0) * 10**count
                every = _digits_of(step) if places else step.numerator
                for number in _near((smallest, smallest + 10**count - 1), every, unit, bounds):
                    yield sign + head + (f"{number - smallest:0{count}d}" if count else "")


def _heads(whole: str, point: str, fraction: str, count: int) -> list[tuple[str, int]]:
    """What may stand before `count` more digits, and how many decimals the number then has."""
    if point:
        return [("", len(fraction) + count)]
    return [("", 0), ("." if whole else "0.", count)] if count else [("", 0)]


def _near(span: tuple[int, int], every: int, unit: Fraction, bounds: tuple[float, float]) -> Iterator[int]:
    """The first whole numbers of a span that are multiples of `every`, and in units within the bounds."""
    least, most = span
    if bounds[0] != -math.inf:
        least = max(least, math.ceil(Fraction(str(bounds[0])) / unit))
    if bounds[1] != math.inf:
        most = min(most, math.floor(Fraction(str(bounds[1])) / unit))
    first = -(-least // every) * every
    yield from (number for number in (first, first + every, first + 2 * every) if number <= most)
