"""The calls of a validity run -> its figures: what was valid, by function and by budget. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from localmem.bench.validity import Call

#: Budgets in tokens up to which calls are counted together; the shortest legal ones are counted apart.
LIMITS = (32, 64, 128, 256, 512)
_SHOWN = 5


def verdict(calls: Sequence[Call]) -> dict[str, Any]:
    """All figures, JSON-ready."""
    names = sorted({call.function for call in calls})
    return {
        **_counts(calls),
        "by_function": {name: _counts([call for call in calls if call.function == name]) for name in names},
        "by_budget": [{"budget": name, **_counts(group)} for name, group in _groups(calls)],
        "wrong": [_about(call) for call in calls if not call.valid][:_SHOWN],
    }


def _counts(calls: Sequence[Call]) -> dict[str, Any]:
    fates = Counter(call.fate for call in calls)
    closed = Counter(call.generation.closed_by for call in calls if call.generation is not None)
    return {
        "calls": len(calls),
        "parsed": sum(call.parsed for call in calls),
        "fits": sum(call.fits for call in calls),
        "complete": sum(call.complete for call in calls),
        "executed": fates["executed"],
        "handed_back": fates["handed back"],
        "raised": fates["raised"],
        "failed": fates["failed"],
        "closed_by_budget": closed["budget"],
        "closed_by_loop": closed["loop"],
        "valid": sum(call.valid for call in calls),
    }


def _groups(calls: Sequence[Call]) -> Iterable[tuple[str, list[Call]]]:
    """The calls by budget, smallest first; groups without calls are left out."""
    tight = [call for call in calls if call.budget == call.shortest]
    groups = [("shortest legal", tight)]
    below = 0
    for limit in LIMITS:
        inside = [call for call in calls if below < call.budget <= limit and call.budget > call.shortest]
        groups.append((f"{below + 1}-{limit}", inside))
        below = limit
    return [(name, group) for name, group in groups if group]


def _about(call: Call) -> dict[str, Any]:
    text = call.generation.text if call.generation is not None else ""
    return {
        "function": call.function,
        "budget": call.budget,
        "wrong": call.wrong or call.fate,
        "text": text[:400],
    }
