"""What is in the KV cache: per sequence the log of tokens whose keys and values it holds, how far a prompt matches.

The log is the truth that the rest of the engine relies on: a token is in it only once llama.cpp has decoded it, and
whatever breaks in between, `resync` cuts it back to what the cache says it holds. Knows nothing of text or messages.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

State = NDArray[np.uint8]

_MOST_CHECKPOINTS = 8
_MOST_CHECKPOINT_BYTES = 128 << 20
_MOST_COMPACTED = 256 << 20


@dataclass(frozen=True, slots=True)
class Match:
    """How a prompt meets the cache: `reused` tokens stay; `diverged_at` is None if the prompt extends the log."""

    reused: int
    diverged_at: int | None


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:  # list equality runs in C: the usual case, an extension, costs microseconds
        return n
    return next(i for i in range(n) if a[i] != b[i])


class SequenceCache:
    """One sequence of a context's KV cache and its token log.

    A cache that cannot rewind (recurrent and hybrid models) goes back to a checkpoint instead: a copy of what such a
    model carries along, made at a length to which a prompt may want to return. Without one it is emptied.
    """

    def __init__(
        self, context: Any, sequence: int = 0, *, rewinds: bool = True, shares: bool = True, sliding: int = 0
    ) -> None:
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self.sequence = sequence
        self.rewinds = rewinds
        #: Whether the beginning of another sequence can be had without copying it.
        self.shares = shares
        #: Tokens that sliding-window attention sees; 0 if there is none.
        self._sliding = sliding
        self.log: list[int] = []
        self._checkpoints: dict[int, State] = {}

    # -- how far a prompt matches

    def usable(self, prompt: Sequence[int]) -> int:
        """How many tokens of `prompt` the cache can be set back to; the last token is always left to decode."""
        return self._reachable(min(common_prefix(self.log, prompt), len(prompt) - 1))

    def fit(self, prompt: Sequence[int]) -> Match:
        """Make the cache a proper prefix of `prompt`, keeping as much as it can; the rest is to be decoded."""
        shared = common_prefix(self.log, prompt)
        diverged_at = shared if shared < len(self.log) else None
        keep = min(shared, len(prompt) - 1)
        if keep < len(self.log):
            keep = self._rewind(keep)
        return Match(keep, diverged_at)

    def _reachable(self, length: int) -> int:
        """The greatest length up to `length` that the cache can be set back to."""
        if length == len(self.log):
            return length
        if self.rewinds:
            return length if self._window_is_whole(length) else 0
        return self._checkpoint(length)

    def _checkpoint(self, length: int) -> int:
        """The last checkpoint up to `length`; 0 if there is none."""
        return max((at for at in self._checkpoints if at <= length), default=0)

    def _window_is_whole(self, length: int) -> bool:
        """Whether a sliding window that ends at `length` is still there: a restored state has only the newest one."""
        if not self._sliding:
            return True
        first = int(llama_cpp.llama_memory_seq_pos_min(self._memory, self.sequence))
        return first <= max(0, length - self._sliding)

    def _rewind(self, length: int) -> int:
        """Set the cache back to `length` tokens or, where it cannot, to fewer; to how many."""
        reached = self._reachable(length)
        if reached == 0 or not self._cut(reached):
            self.clear()
            return 0
        return reached

    def _cut(self, length: int) -> bool:
        if not self.rewinds and not self._put(self._checkpoints[length], llama_cpp.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY):
            return False
        if not llama_cpp.llama_memory_seq_rm(self._memory, self.sequence, length, -1):
            return False
        if self._last_position() != length - 1:
            return False
        del self.log[length:]
        self._checkpoints = {at: state for at, state in self._checkpoints.items() if at <= length}
        return True

    # -- checkpoints

    def mark(self) -> None:
        """Where the cache cannot rewind, make it possible to come back to this length."""
        if self.rewinds or not self.log or len(self.log) in self._checkpoints:
            return
        self._checkpoints[len(self.log)] = self._get(llama_cpp.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY)
        while len(self._checkpoints) > 2 and (
            len(self._checkpoints) > _MOST_CHECKPOINTS
            or sum(state.nbytes for state in self._checkpoints.values()) > _MOST_CHECKPOINT_BYTES
        ):
            del self._checkpoints[sorted(self._checkpoints)[1]]  # the first is the prefix, the last are the newest

    # -- states

    def branch(self, other: SequenceCache, length: int) -> int:
        """Become the first tokens of `other`, `length` or, where that cannot be had, fewer. How many."""
        self.clear()
        reached = other._reachable(length)
        if reached == 0:
            return 0
        end = reached if self.shares else -1
        llama_cpp.llama_memory_seq_cp(self._memory, other.sequence, self.sequence, 0, end)
        self.log = other.log[:reached] if self.shares else list(other.log)
        self._checkpoints = {at: state for at, state in other._checkpoints.items() if at <= reached}
        return reached if len(self.log) == reached else self._rewind(reached)

    def compact(self) -> None:
        """Move to the first cells. Without flash attention, a step takes as long as the last cell in use is far."""
        if self.state_bytes() <= _MOST_COMPACTED:
            tokens, state = list(self.log), self.state()
            self.load(tokens, state)

    def state_bytes(self) -> int:
        """What `state` would take."""
        return self._size(0)

    def state(self) -> State:
        """Everything that the cache holds of this sequence, to be put back by `load`."""
        return self._get(0)

    def load(self, tokens: Sequence[int], state: State) -> bool:
        """Hold `tokens`, whose `state` was saved before. If llama.cpp refuses it the cache is empty."""
        self.clear()
        if not self._put(state, 0) or self._last_position() != len(tokens) - 1:
            self.clear()
            return False
        self.log = list(tokens)
        self.mark()
        return True

    def _size(self, flags: int) -> int:
        return int(llama_cpp.llama_state_seq_get_size_ext(self._context, self.sequence, flags))

    def _get(self, flags: int) -> State:
        size = self._size(flags)
        state: State = np.empty(size, np.uint8)
        written = llama_cpp.llama_state_seq_get_data_ext(self._context, _bytes(state), size, self.sequence, flags)
        return state[:written]

    def _put(self, state: State, flags: int) -> bool:
        read = llama_cpp.llama_state_seq_set_data_ext(self._context, _bytes(state), state.nbytes, self.sequence, flags)
        return bool(read)

    # -- truth

    def clear(self) -> None:
        """Forget everything."""
        self.log.clear()  # first: a log that claims too little is only slow
        self._checkpoints.clear()
        llama_cpp.llama_memory_seq_rm(self._memory, self.sequence, -1, -1)

    def check(self) -> None:
        """Let the log say what the cache holds, should an exception (Ctrl-C) have struck between the two."""
        if self._last_position() != len(self.log) - 1:
            self.resync()

    def resync(self) -> None:
        """After a decode that failed or was aborted: keep only what the cache really holds."""
        if not self.rewinds:  # the state of a batch that broke off is spoilt, whatever its position says
            last = self._checkpoint(len(self.log))
            if last == 0 or not self._cut(last):
                self.clear()
            return
        held = self._last_position() + 1
        if held > len(self.log):
            self._rewind(len(self.log))
        else:
            del self.log[held:]

    def _last_position(self) -> int:
        return int(llama_cpp.llama_memory_seq_pos_max(self._memory, self.sequence))


def _bytes(state: State) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
