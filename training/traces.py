"""Traces: the tokens that main context held, which of them the model chose, and what could have stood there instead."""

from __future__ import annotations

from dataclasses import dataclass, field

#: How much a decision counts in learning; other choices count less.
DECIDES = 4.0


@dataclass(frozen=True, slots=True)
class Branch:
    """What could have stood in a trace from token `at` on: a message, and the beginning of its answer, of which the
    last `word` tokens are the first word of the thought."""

    at: int
    tokens: list[int]
    word: int


@dataclass(slots=True)
class Trace:
    """Tokens that main context held, and which of them the model is to write. `kinds` says where each turn begins, and
    `branches` what could have stood in the place of some."""

    tokens: list[int]
    written: list[tuple[int, int]] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    kinds: list[tuple[int, str]] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
