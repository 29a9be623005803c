"""The figures of the KV benchmark: turns under several policies -> tokens, times, and ratios to ours. Measures nothing.

A ratio of times is one of medians, or of 95th percentiles (nearest rank), over the same generations of both policies.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from localmem.bench.kv import Read, Taken
from localmem.bench.kv_policies import OURS

#: What a time to first token is taken of: the first generation of each turn (the table's), each generation of a turn
#: and of its page-out, all of a turn's generations together, and the wait from the message to the first token.
TIMES: Mapping[str, Callable[[Taken], Iterable[float]]] = {
    "first": lambda taken: [taken.reads[0].ttft_s],
    "all": lambda taken: [read.ttft_s for read in taken.reads],
    "turn": lambda taken: [sum(read.ttft_s for read in taken.reads)],
    "wait": lambda taken: [taken.wait_s],
}
_EDITS = ("core_memory_append", "core_memory_replace")


def figures(taken: Sequence[Taken]) -> dict[str, Any]:
    """All figures, JSON-ready: of each policy, and of each other one's ratio to ours. Whole turns only are counted."""
    turns = _by_policy(taken)
    policies = {policy: _policy(own) for policy, own in turns.items()}
    ratios = {policy: _ratios(policies[policy], policies[OURS]) for policy in turns if OURS in turns and policy != OURS}
    first = next(iter(turns.values()), [])
    return {
        "turns": len(first),
        "edits": sum(one.edits for one in first),
        "page_outs": sum(one.paged_out > 0 for one in first),
        "same_texts": len({tuple(one.said for one in own) for own in turns.values()}) <= 1,
        "policies": policies,
        "ratios": ratios,
    }


def _by_policy(taken: Sequence[Taken]) -> dict[str, list[Taken]]:
    """The turns of each policy, as many of each: what was broken off is left out."""
    turns: dict[str, list[Taken]] = {}
    for one in taken:
        turns.setdefault(one.policy, []).append(one)
    whole = min(map(len, turns.values()), default=0)
    return {policy: own[:whole] for policy, own in sorted(turns.items(), key=lambda item: item[0] != OURS)}


def _policy(taken: Sequence[Taken]) -> dict[str, Any]:
    reads = [read for one in taken for read in one.reads]
    prompt, prefilled = sum(read.prompt for read in reads), sum(read.prefilled for read in reads)
    idle = sum(one.idle_tokens for one in taken)
    return {
        "generations": len(reads),
        "prompt_tokens": prompt,
        "prefix_hit": round(1 - prefilled / prompt, 4) if prompt else None,
        "prefix_hit_idle_counted": round(1 - (prefilled + idle) / prompt, 4) if prompt else None,
        "prefilled": prefilled + idle,
        "prefilled_waited_for": prefilled,
        "prefilled_idle": idle,
        "idle_s": round(sum(one.idle_s for one in taken if one.idle_tokens), 1),
        "longest_idle_s": max((one.idle_s for one in taken if one.idle_tokens), default=0.0),
        "ttft": {name: _times([time for one in taken for time in times(one)]) for name, times in TIMES.items()},
        "prefill_s": round(sum(read.ttft_s for read in reads), 1),
        "page_out_turn_prefilled": max((one.prefilled for one in taken if one.paged_out), default=None),
        "page_out_prefilled": [
            sum(read.prefilled for read in one.reads[-one.paged_out :]) for one in _paged_out(taken)
        ],
        "after_page_out": _after_page_out(taken),
        "after_edit": _after_edit(taken),
        "fullest": max((one.context for one in taken), default=0),
    }


def _paged_out(taken: Sequence[Taken]) -> list[Taken]:
    return [one for one in taken if one.paged_out]


def _times(times: Sequence[float]) -> dict[str, float]:
    """Seconds."""
    if not times:
        return {}
    ordered = sorted(times)
    at = math.ceil(0.95 * len(ordered)) - 1
    return {"median": round(statistics.median(times), 4), "p95": round(ordered[at], 4), "max": round(ordered[-1], 4)}


def _after_edit(taken: Sequence[Taken]) -> dict[str, Any]:
    """What the generation right after an edit of core memory read."""
    return _cost(after for one in taken for read, after in pairwise(one.reads) if read.call in _EDITS)


def _after_page_out(taken: Sequence[Taken]) -> dict[str, Any]:
    """What the first generation after a page-out read: of a later turn, or the merge of summaries."""
    return _cost(after.reads[0] for one, after in pairwise(taken) if one.paged_out)


def _cost(reads: Iterable[Read]) -> dict[str, Any]:
    """Tokens and seconds, from the least to the most."""
    found = list(reads)
    if not found:
        return {}
    tokens, seconds = [read.prefilled for read in found], [read.ttft_s for read in found]
    return {"tokens": [min(tokens), max(tokens)], "seconds": [round(min(seconds), 3), round(max(seconds), 3)]}


def _ratios(other: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Another policy's figures over ours."""
    ttft = {
        name: {key: _over(other["ttft"][name][key], ours["ttft"][name][key]) for key in ("median", "p95")}
        for name in TIMES
        if ours["ttft"][name]
    }
    return {
        "ttft": ttft,
        "prefilled": _over(other["prefilled"], ours["prefilled"]),
        "prefilled_waited_for": _over(other["prefilled_waited_for"], ours["prefilled_waited_for"]),
        "prefill_s": _over(other["prefill_s"], ours["prefill_s"]),
    }


def _over(one: float, other: float) -> float | None:
    return round(one / other, 2) if other else None
