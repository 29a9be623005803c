"""The sequences of one context: the current one and one to read ahead on; and how the KV cache's cells are shared out.

The current sequence may fill the whole window. Beside it, `spare` cells hold what is read ahead: those tokens of the
sequence ahead that it does not share with the current one. A prompt that the sequence ahead holds more of makes it the
current one, and the other is emptied. Knows nothing of when, or by whom, anything is read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp

from localmem.engine.kv import SequenceCache, State, common_prefix
from localmem.models.ram import STEP, spare_cells


def original_context(model: Any) -> int:
    """The window for which a model with LongRoPE has its short factors; 0 for all other models."""
    architecture = _metadata(model, "general.architecture")
    value = _metadata(model, f"{architecture}.rope.scaling.original_context_length")
    return int(value) if value.isdecimal() else 0


def _metadata(model: Any, key: str) -> str:
    buffer = ctypes.create_string_buffer(128)
    length = llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length > 0 else ""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a model's KV cache is laid out. `cells` are all, `spare` those beside the window.

    `rewinds`: a sequence can be cut at any length. `shares`: sequences lie in one pool, so that one may begin with the
    cells of another. Sliding-window attention must not: in a pool, llama.cpp gives the cells that have left the window
    of one sequence to another, and what was rewound over them would be gone. So there each has cells of its own.
    """

    window: int
    spare: int
    rewinds: bool
    shares: bool
    sliding: int = 0

    @classmethod
    def of(cls, model: Any, n_ctx: int, *, reads_ahead: bool) -> Layout:
        recurrent = llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model)
        sliding = int(llama_cpp.llama_model_n_swa(model))
        window = -(-n_ctx // STEP) * STEP  # as llama.cpp pads it
        spare = spare_cells(n_ctx, sliding=sliding > 0) if reads_ahead else 0
        original = original_context(model)
        if not sliding and window <= original < window + spare:
            spare = (original - window) // STEP * STEP  # with more, LongRoPE would take its factors for long windows
        return cls(window, spare, not recurrent, not (recurrent or sliding), sliding)

    @property
    def pooled(self) -> bool:
        """Whether all sequences lie in one pool of cells: llama.cpp's `kv_unified`."""
        return self.shares or not self.rewinds

    @property
    def cells(self) -> int:
        return self.window + self.spare

    @property
    def count(self) -> int:
        """Sequences: llama.cpp's `n_seq_max`. In a pool of attention's cells a further one, to copy from, is free."""
        return 3 if self.shares else 2 if self.spare else 1


class Sequences:
    """Which sequence holds what."""

    def __init__(self, context: Any, layout: Layout) -> None:
        def made(number: int) -> SequenceCache:
            how = {"rewinds": layout.rewinds, "shares": layout.shares}
            return SequenceCache(context, number, **how, sliding=layout.sliding)

        self.layout = layout
        self.current = made(0)
        self.ahead = made(1) if layout.count > 1 else None
        self._scratch = made(2) if layout.count > 2 else None
        #: Tokens at the beginning of `ahead` that lie in the same cells as the current sequence's.
        self._shared = 0

    def missing(self, prompt: Sequence[int]) -> int:
        """Tokens of `prompt` that would have to be decoded before it were held whole."""
        longer = [*prompt, -1]  # as the beginning of what is asked next
        return len(prompt) - max(cache.usable(longer) for cache in (self.current, self.ahead) if cache is not None)

    def choose(self, prompt: Sequence[int], room: int) -> SequenceCache:
        """The sequence that holds most of `prompt`, now the current one, with cells for `room` tokens in all."""
        self.current.check()
        if self.ahead is None:
            return self.current
        self.ahead.check()
        if self.ahead.usable(prompt) > self.current.usable(prompt):
            self.current, self.ahead = self.ahead, self.current
            self.forget_ahead()
            if self.layout.shares:
                self.current.compact()
        self._shared = min(self._shared, common_prefix(self.current.log, prompt))
        if self.layout.pooled and room + len(self.ahead.log) - self._shared > self.layout.cells:
            self.forget_ahead()
        return self.current

    def forget_ahead(self) -> None:
        """Free the cells of what was read ahead."""
        if self.ahead is not None:
            self.ahead.clear()
        self._shared = 0

    def to_read(self, prompt: Sequence[int]) -> SequenceCache | None:
        """The sequence on which `prompt` is to be read ahead, set to what it holds of it; None without room for it.

        A prompt that extends the current sequence is read there: nothing is lost by it.
        """
        self.current.check()
        longer = [*prompt, -1]
        held = len(self.current.log)
        if self.current.log == list(prompt[:held]):
            return self.current
        if self.ahead is None:
            return None
        self.ahead.check()
        shared = common_prefix(self.current.log, prompt)
        if self.current.usable(longer) > self.ahead.usable(longer):
            branched = self.ahead.branch(self.current, shared)
            self._shared = branched if self.layout.pooled else 0
        else:
            self.ahead.fit(longer)
            self._shared = min(self._shared, len(self.ahead.log))
        if len(prompt) - self._shared > self.layout.spare:
            self.forget_ahead()
            return None
        return self.ahead

    def state_of(self, tokens: Sequence[int], *, most: int) -> State | None:
        """The state of a sequence that holds just `tokens`; None if it cannot be had, or has more than `most` bytes."""
        if self.current.log == list(tokens):
            return self.current.state() if self.current.state_bytes() <= most else None
        if self._scratch is None or self._scratch.branch(self.current, len(tokens)) < len(tokens):
            return None
        wanted = self._scratch.log == list(tokens) and self._scratch.state_bytes() <= most
        state = self._scratch.state() if wanted else None
        self._scratch.clear()
        return state
