"""Traces: the tokens that main context held, which of them the model chose, and what could have stood there instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from localmem.protocols import Vocabulary
from training.scenario import Call

_BEFORE_THOUGHT = len(b'{"thought": "')


@dataclass(frozen=True, slots=True)
class Branch:
    """What could have stood in a trace from token `at` on: a message, and the beginning of its answer, of which the
    last `word` tokens are the first word of the thought."""

    at: int
    tokens: list[int]
    word: int


@dataclass(slots=True)
class Trace:
    """Tokens that main context held, and which of them the model is to write. `kinds` says where each turn begins."""

    tokens: list[int]
    written: list[tuple[int, int]] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    kinds: list[tuple[int, str]] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)


class Beginnings:
    """How a model's tokens spell the beginnings of calls, up to the first word of a thought: as they did before."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: dict[str, tuple[list[int], int]] = {}

    def learn(self, call: Call, written: Sequence[int]) -> None:
        """Keep how the first word of this call's thought was written, if it has one."""
        word = _first_word(call)
        if not word or word in self._known:
            return
        ends = [*accumulate(len(self._vocabulary.token_bytes(token)) for token in written)]
        count = next(at for at, end in enumerate(ends, 1) if end >= _BEFORE_THOUGHT + len(word.encode()))
        self._known[word] = [*written[:count]], sum(end > _BEFORE_THOUGHT for end in ends[:count])

    def of(self, call: Call) -> tuple[list[int], int] | None:
        """The tokens with which a call begins, and how many of them are the word; None if it has not been met."""
        return self._known.get(_first_word(call))


def _first_word(call: Call) -> str:
    """That with which the thought of a call begins: the decision."""
    found = re.match(r"\w+", call.thought)
    return found[0] if found else ""
