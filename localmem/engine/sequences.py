"""The sequences of one context: the current one, one to read ahead on, and a scratch one; and how cells are shared out.

The current sequence may fill the whole window. Beside it, `spare` cells hold what is read ahead: those tokens of the
sequence ahead that it does not share with the current one. A prompt that the sequence ahead holds more of makes it the
current one, and the other is emptied. Knows nothing of when, or by whom, anything is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localmem.engine.kv import SequenceCache, State, common_prefix

#: Sequences of a context: llama.cpp's `n_seq_max`.
COUNT = 3


class Sequences:
    """Which sequence holds what; `cells` are the KV cache's, all sequences together."""

    def __init__(self, context: Any, *, rewinds: bool, cells: int, spare: int) -> None:
        self.current, self.ahead, self._scratch = (SequenceCache(context, i, rewinds=rewinds) for i in range(COUNT))
        self._cells, self._spare = cells, spare
        #: Tokens at the beginning of `ahead` that lie in the same cells as the current sequence's.
        self._shared = 0

    def missing(self, prompt: Sequence[int]) -> int:
        """Tokens of `prompt` that would have to be decoded before it were held whole."""
        longer = [*prompt, -1]  # as the beginning of what is asked next
        return len(prompt) - max(self.current.usable(longer), self.ahead.usable(longer))

    def choose(self, prompt: Sequence[int], room: int) -> SequenceCache:
        """The sequence that holds most of `prompt`, now the current one, with cells for `room` tokens in all."""
        if self.ahead.log and self.ahead.usable(prompt) > self.current.usable(prompt):
            self.swap()
        self._shared = min(self._shared, common_prefix(self.current.log, prompt))
        if room + len(self.ahead.log) - self._shared > self._cells:
            self.forget_ahead()
        return self.current

    def swap(self) -> None:
        """Make the sequence ahead the current one, and empty the other."""
        self.current, self.ahead = self.ahead, self.current
        self.forget_ahead()

    def forget_ahead(self) -> None:
        """Free the cells of what was read ahead."""
        self.ahead.clear()
        self._shared = 0

    def to_read(self, prompt: Sequence[int]) -> SequenceCache | None:
        """The sequence on which `prompt` is to be read ahead, set to what it holds of it; None without room for it.

        A prompt that extends the current sequence is read there: nothing is lost by it.
        """
        longer = [*prompt, -1]
        held = len(self.current.log)
        if self.current.log == list(prompt[:held]):
            return self.current
        shared = common_prefix(self.current.log, prompt)
        if self.current.usable(longer) > self.ahead.usable(longer):
            self._shared = self.ahead.branch(self.current, shared)
        else:
            self.ahead.fit(longer)
            self._shared = min(self._shared, len(self.ahead.log))
        if len(prompt) - self._shared > self._spare:
            self.forget_ahead()
            return None
        return self.ahead

    def state_of(self, tokens: Sequence[int]) -> State | None:
        """The state of a sequence that holds just `tokens`; None if it cannot be had."""
        if self.current.log == list(tokens):
            return self.current.state()
        if not self.current.rewinds or self._scratch.branch(self.current, len(tokens)) < len(tokens):
            return None
        state = self._scratch.state() if self._scratch.log == list(tokens) else None
        self._scratch.clear()
        return state
