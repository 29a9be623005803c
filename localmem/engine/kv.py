"""What is in the KV cache: per sequence the log of tokens whose keys and values it holds, how far a prompt matches.

The log is the truth that the rest of the engine relies on: a token is in it only once llama.cpp has decoded it, and
whatever breaks in between, `resync` cuts it back to what the cache says it holds. Knows nothing of text or messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import llama_cpp


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
    """One sequence of a context's KV cache and its token log."""

    def __init__(self, context: llama_cpp.llama_context_p, sequence: int = 0, *, rewinds: bool = True) -> None:
        self._memory = llama_cpp.llama_get_memory(context)
        self._sequence = sequence
        self._rewinds = rewinds
        self.log: list[int] = []

    def fit(self, prompt: Sequence[int]) -> Match:
        """Make the cache a proper prefix of `prompt`, keeping as much as it can; the rest is to be decoded.

        At least one token of the prompt is always left to decode, for its logits. A cache that cannot rewind
        (recurrent and hybrid models) is emptied unless the prompt extends it.
        """
        shared = common_prefix(self.log, list(prompt))
        diverged_at = shared if shared < len(self.log) else None
        keep = min(shared, len(prompt) - 1)
        if keep < len(self.log):
            keep = self._rewind(keep)
        return Match(keep, diverged_at)

    def _rewind(self, length: int) -> int:
        removed = self._rewinds and llama_cpp.llama_memory_seq_rm(self._memory, self._sequence, length, -1)
        if not removed or self._last_position() != length - 1:
            self.clear()
            return 0
        del self.log[length:]
        return length

    def clear(self) -> None:
        """Forget everything."""
        llama_cpp.llama_memory_seq_rm(self._memory, self._sequence, -1, -1)
        self.log.clear()

    def resync(self) -> None:
        """After a decode that failed or was aborted: keep only what the cache really holds."""
        if not self._rewinds:  # the state of a batch that broke off is spoilt, whatever its position says
            self.clear()
            return
        held = self._last_position() + 1
        if held > len(self.log):
            self._rewind(len(self.log))
        else:
            del self.log[held:]

    def _last_position(self) -> int:
        return int(llama_cpp.llama_memory_seq_pos_max(self._memory, self._sequence))
