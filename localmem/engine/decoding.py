"""The decode loop: forced tokens first, then a sampled token validated, and a mask only where it was refused.

The loop is the same for every engine: a `Source` says what it would like to write next and takes what was decided. Each
batch that is fed holds the last sampled token and all tokens that the grammar forces after it, so a forced token costs
no step of its own. Knows nothing of llama.cpp or of where grammars come from.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from localmem.engine.spelling import TokenBytes
from localmem.errors import GrammarError
from localmem.protocols import ClosedBy, Finish, Matcher, TextCallback, Vocabulary


class Interrupted(Exception):
    """A source was told to stop; what it had fully fed stays."""


class Source(Protocol):
    """What the loop draws tokens from."""

    def feed(self, tokens: Sequence[int]) -> None:
        """Extend the sequence; afterwards `sample` draws what follows. Raises Interrupted."""
        ...

    def sample(self, allowed: NDArray[np.bool_] | None) -> int:
        """The next token, one of `allowed` if that is given."""
        ...

    def drop(self, count: int) -> None:
        """Take back the last `count` fed tokens."""
        ...


@dataclass(slots=True)
class Decoded:
    """What the loop wrote."""

    tokens: list[int] = field(default_factory=list)
    finish: Finish = "length"
    closed_by: ClosedBy | None = None
    closed_paths: tuple[str, ...] = ()
    forced: int = 0


class DecodeLoop:
    """One generation."""

    def __init__(
        self,
        source: Source,
        vocabulary: Vocabulary,
        spell: TokenBytes,
        *,
        matcher: Matcher | None,
        max_tokens: int,
    ) -> None:
        self._source = source
        self._vocabulary = vocabulary
        self._spell = spell
        self._matcher = matcher
        self._max_tokens = max_tokens
        self._unfed: list[int] = []
        self._bytes = bytearray()
        self._out = Decoded()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._plan = self._end_of("") if matcher is not None else None

    def run(self, prompt: Sequence[int], on_text: TextCallback) -> Decoded:
        """Feed `prompt` and decode until the text is whole, the budget is spent, or the source is interrupted.

        Raises GrammarError if the shortest document does not fit `max_tokens`.
        """
        if self._plan is not None and len(self._plan[0]) > self._max_tokens:
            raise GrammarError(
                f"The shortest document of this schema takes {len(self._plan[0])} tokens; "
                f"max_tokens is {self._max_tokens}."
            )
        self._unfed = list(prompt)
        self._on_text = on_text
        try:
            while not self._step():
                pass
            self._flush()
        except Interrupted:
            self._out.finish = "interrupted"
        return self._out

    def _step(self) -> bool:
        """Write the next token or forced tokens; True when the generation has ended."""
        if self._matcher is not None and self._take_forced(self._matcher):
            return True
        if len(self._out.tokens) >= self._max_tokens:
            return True
        self._flush()
        token = self._source.sample(None)
        if self._matcher is not None:
            return self._take_constrained(self._matcher, token)
        if token in self._vocabulary.end_tokens:
            self._out.finish = "stop"
            return True
        self._write([token])
        return False

    def _take_forced(self, matcher: Matcher) -> bool:
        forced = matcher.forced()
        if forced and not self._affords(forced):
            return self._close("budget")
        for token in forced:
            if not matcher.accept(token):
                raise GrammarError("The grammar engine refused a token that it had forced.")
        self._write(forced)
        self._out.forced += len(forced)
        if matcher.complete:
            self._out.finish = "stop"
            return True
        return False

    def _take_constrained(self, matcher: Matcher, token: int) -> bool:
        if self._ends(matcher, token):
            return True
        if not self._affords([token]):
            return self._close("budget")
        if token not in self._vocabulary.control_tokens and matcher.accept(token):
            self._write([token])
            return False
        allowed = matcher.mask()
        if not allowed.any():
            raise GrammarError("The model's vocabulary cannot write what the grammar asks for here.")
        token = self._source.sample(allowed)
        if self._ends(matcher, token):
            return True
        if not self._affords([token]):
            return self._close("budget")
        if not matcher.accept(token):
            raise GrammarError("The grammar engine refused a token that its mask allows.")
        self._write([token])
        return False

    def _ends(self, matcher: Matcher, token: int) -> bool:
        if token in self._vocabulary.end_tokens and matcher.can_stop:
            self._out.finish = "stop"
            return True
        return False

    # -- the budget: before a token is taken, the shortest end after it must still fit

    def _affords(self, tokens: Sequence[int]) -> bool:
        """Whether the shortest legal end still fits after `tokens`. Planned only where the budget could be short."""
        matcher = self._matcher
        assert matcher is not None
        if self._plan is None:
            return len(self._out.tokens) + len(tokens) <= self._max_tokens
        left = self._max_tokens - len(self._out.tokens) - len(tokens)
        if matcher.end_bound is not None and left >= matcher.end_bound:
            return True
        after = bytes(self._bytes) + b"".join(map(self._vocabulary.token_bytes, tokens))
        end = matcher.end(_whole_characters(after))
        # A token that does not fit the grammar has no end; it is refused by the matcher, not for want of budget.
        if end is None or end.most_tokens <= left:
            return True
        return len(self._spell.end(end)) <= left

    def _end_of(self, text: str) -> tuple[list[int], tuple[str, ...]] | None:
        assert self._matcher is not None
        end = self._matcher.end(text)
        return None if end is None else (self._spell.end(end), end.cut)

    def _close(self, why: ClosedBy) -> bool:
        """Write the shortest legal end in place of what the model would have written."""
        matcher = self._matcher
        assert matcher is not None
        plan = None
        while plan is None or len(self._out.tokens) + len(plan[0]) > self._max_tokens:
            if plan is not None:
                self._take_back()  # what was taken back with a broken character made the end longer
            while len(_whole_characters(bytes(self._bytes)).encode()) < len(self._bytes):
                self._take_back()  # the beginning of a character that will now never be finished
            plan = self._end_of(self.text)
            if plan is None:
                return True  # no end can be planned: finish stays "length"
        self._write(plan[0])
        self._out.finish = "closed"
        self._out.closed_by, self._out.closed_paths = why, plan[1]
        return True

    def _take_back(self) -> None:
        """Undo the last token."""
        token = self._out.tokens.pop()
        del self._bytes[len(self._bytes) - len(self._vocabulary.token_bytes(token)) :]
        if self._unfed:
            self._unfed.pop()
        else:
            self._source.drop(1)
        self._decoder.reset()

    # -- writing

    def _write(self, tokens: Sequence[int]) -> None:
        if not tokens:
            return
        data = b"".join(map(self._vocabulary.token_bytes, tokens))
        self._out.tokens += tokens
        self._unfed += tokens
        self._bytes += data
        text = self._decoder.decode(data)
        if text:
            self._on_text(text)

    def _flush(self) -> None:
        if self._unfed:
            self._source.feed(self._unfed)
            self._unfed = []

    @property
    def text(self) -> str:
        """What was written, up to the last whole character; bytes that are no character replaced."""
        return codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(self._bytes))


def _whole_characters(data: bytes) -> str:
    """`data` as text, up to its last whole character."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return data[: error.start].decode()
