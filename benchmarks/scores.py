"""Verdicts on turns -> shares with their intervals, by kind and in all, and tables of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.intervals import wilson
from benchmarks.table import table

Row = dict[str, Any]

#: What is judged; `quality` is all that arguments had to hold, `chain` all that was asked for.
MEASURES = (
    "choice",
    "functions",
    "stored",
    "query",
    "arguments",
    "quality",
    "answer",
    "source",
    "nothing",
    "chain",
)
_SHOWN = ("choice", "functions", "stored", "query", "arguments", "quality", "answer", "chain")
_USER_FUNCTIONS = "function"  # the kind of turn that asks for one


def summary(rows: Sequence[Row]) -> dict[str, Row]:
    """JSON-ready, set by set. "all" has the calls of memory; those of user functions stand apart."""
    sets = dict.fromkeys(row["set"] for row in rows)
    return {name: _of_set([row for row in rows if row["set"] == name]) for name in sets}


def _of_set(rows: Sequence[Row]) -> Row:
    kinds = sorted({row["kind"] for row in rows} - {_USER_FUNCTIONS})
    own = [row for row in rows if row["kind"] == _USER_FUNCTIONS]
    found = {
        "all": _scores([row for row in rows if row["kind"] != _USER_FUNCTIONS]),
        "kinds": {kind: _scores([row for row in rows if row["kind"] == kind]) for kind in kinds},
    }
    return found | ({"user functions": _scores(own)} if own else {})


def _scores(rows: Sequence[Row]) -> Row:
    shares = {measure: _share([row[measure] for row in rows if row[measure] is not None]) for measure in MEASURES}
    answered = [row for row in rows if row["seconds"] is not None]
    each = max(1, len(answered))
    return {
        "turns": len(rows),
        **{measure: share for measure, share in shares.items() if share is not None},
        "tokens": round(sum(row["tokens"] for row in answered) / each, 1),
        "seconds": round(sum(row["seconds"] for row in answered) / each, 2),
    }


def _share(verdicts: Sequence[bool]) -> Row | None:
    right, asked = sum(verdicts), len(verdicts)
    if not asked:
        return None
    low, high = wilson(right, asked)
    return {"right": right, "of": asked, "share": round(right / asked, 4), "interval": [round(low, 4), round(high, 4)]}


def report(figures: Mapping[str, Any]) -> str:
    """A table for each set: shares in percent, each with its 95 % interval, or - where nothing was asked."""
    lines: list[str] = []
    for name, scores in figures["sets"].items():
        parts = {**scores["kinds"], "all": scores["all"]}
        if "user functions" in scores:
            parts["user functions"] = scores["user functions"]
        head = [f"{figures['model']}, {figures['prompt']}, {name}", "n", *_SHOWN, "tokens", "s"]
        lines += [table(head, [_cells(part, one) for part, one in parts.items()]), ""]
    return "\n".join(lines).rstrip()


def _cells(name: str, scores: Mapping[str, Any]) -> list[str]:
    shares = [_cell(scores.get(measure)) for measure in _SHOWN]
    return [name, str(scores["turns"]), *shares, f"{scores['tokens']:.0f}", f"{scores['seconds']:.1f}"]


def _cell(share: Mapping[str, Any] | None) -> str:
    if share is None:
        return "-"
    low, high = share["interval"]
    return f"{share['share']:.1%} ({low:.0%}-{high:.0%})".replace("%", "")
