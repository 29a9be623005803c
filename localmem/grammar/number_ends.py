"""The fewest characters that end a JSON number within limits. Knows the one schema of the number only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

Schema = Mapping[str, Any]


def finish_number(begun: str, schema: Schema) -> str | None:
    """The fewest characters that make `begun` a number within the schema's limits; None if there are none."""
    low, high = _limits(schema)
    second_best = None
    for end in ("", *_tails(begun, low, high, whole=schema["type"] == "integer")):
        text = begun + end
        if fits(text, schema):
            if "." not in text or text[-1] != "0" or (low, high) == (-math.inf, math.inf):
                return end
            # llguidance's ranges do not let every decimal end with a zero.
            second_best = end if second_best is None else second_best
    return second_best


def fits(text: str, schema: Schema) -> bool:
    """Whether `text` is a number within the schema's limits."""
    low, high = _limits(schema)
    try:
        value = json.loads(text)
    except ValueError:
        return False
    if value == 0 and text[0] == "-":
        # A zero with a sign is in no range of decimals, and in ranges of integers that begin below it.
        below = low < 0 and schema.get("exclusiveMinimum", -math.inf) < -1
        if not (below if schema["type"] == "integer" else (low, high) == (-math.inf, math.inf)):
            return False
    return bool(low <= value <= high) and value not in (schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum"))


def _limits(schema: Schema) -> tuple[float, float]:
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    return low, min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))


def _tails(begun: str, low: float, high: float, *, whole: bool) -> Iterator[str]:
    yield from "0123456789"
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
