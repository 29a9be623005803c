"""The decode loop: forced tokens first, then a sampled token validated, and a mask only where it was refused.

The loop is the same for every engine: a `Source` says what it would like to write next and takes what was decided. Each
batch that is fed holds the last sampled token and all tokens that the grammar forces after it, so a forced token costs
no step of its own. Knows nothing of llama.cpp or of where grammars come from.
"""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from localmem.engine.ending import Ending, whole_characters
from localmem.engine.repetition import Repetition
from localmem.engine.spelling import TokenBytes
from localmem.errors import GrammarError
from localmem.protocols import ClosedBy, Finish, Generation, Matcher, TextCallback, Vocabulary


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
        self._matcher = matcher
        self._max_tokens = max_tokens
        self._unfed: list[int] = []
        self._bytes = bytearray()
        self._out = Decoded()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._repetition = Repetition()
        self._ending = Ending(matcher, vocabulary, spell) if matcher is not None else None

    def run(self, prompt: Sequence[int], on_text: TextCallback) -> Decoded:
        """Feed `prompt` and decode until the text is whole, the budget is spent, or the source is interrupted.

        Raises GrammarError if the shortest document does not fit `max_tokens`.
        """
        if self._ending is not None:
            self._ending.check(self._max_tokens)
        self._unfed = list(prompt)
        self._on_text = on_text
        try:
            while not self._step():
                pass
        except Interrupted:
            self._out.finish = "interrupted"
        return self._out

    def settle(self) -> None:
        """Feed what was written last: no text waits for it, only the next prompt does."""
        with contextlib.suppress(Interrupted):
            if self._out.finish != "interrupted":
                self._flush()

    def _step(self) -> bool:
        """Write the next token or forced tokens; True when the generation has ended."""
        if self._matcher is not None and self._take_forced(self._matcher):
            return True
        if len(self._out.tokens) >= self._max_tokens:
            return self._spend()
        self._flush()
        token = self._source.sample(None)
        if self._matcher is not None:
            return self._take_constrained(self._matcher, token)
        if token in self._vocabulary.end_tokens:
            self._out.finish = "stop"
            return True
        self._write([token])
        return False

    def _spend(self) -> bool:
        """The budget is spent: on a whole text, though more could follow, where ends are planned."""
        if self._ending is not None and self._ending.shortest is not None:
            return self._close("budget")
        self._out.finish = "length"
        return True

    def _take_forced(self, matcher: Matcher) -> bool:
        forced = matcher.forced()
        if forced and not self._affords(forced):
            return self._close("budget")
        for token in forced:
            if not matcher.accept(token):
                raise GrammarError("The grammar engine refused a token that it had forced.")
        self._write(forced)
        self._out.forced += len(forced)
        for token in forced:
            self._repetition.add(token)
        if matcher.complete:
            self._whole()
            return True
        return False

    def _take_constrained(self, matcher: Matcher, token: int) -> bool:
        if self._ends(matcher, token):
            return True
        if not self._affords([token]):
            return self._close("budget")
        if matcher.accept(token):
            return self._take(matcher, token)
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
        return self._take(matcher, token)

    def _take(self, matcher: Matcher, token: int) -> bool:
        """Write a sampled token, and end the string in which the model only repeats itself."""
        self._write([token])
        looping = self._repetition.add(token)
        if looping:
            self._break_loop(matcher, looping)
        return False

    def _ends(self, matcher: Matcher, token: int) -> bool:
        if token in self._vocabulary.end_tokens and matcher.can_stop:
            self._whole()
            return True
        return False

    def _whole(self) -> None:
        """The model itself has come to an end; if it was helped out of a loop, that stays said."""
        if self._out.closed_by is None:
            self._out.finish = "stop"

    def _affords(self, tokens: Sequence[int]) -> bool:
        """Whether the shortest legal end still fits after `tokens`."""
        assert self._ending is not None
        return self._ending.fits(self._bytes, tokens, self._max_tokens - len(self._out.tokens) - len(tokens))

    # -- closing

    def _break_loop(self, matcher: Matcher, looping: int) -> None:
        """End the string in which the last `looping` tokens repeat one n-gram; what follows is the model's again."""
        assert self._ending is not None
        repeated = b"".join(map(self._vocabulary.token_bytes, self._out.tokens[-looping:]))
        found = self._ending.of_loop(self._bytes, repeated)
        if found is not None and all(map(matcher.accept, found[0])):
            self._write(found[0])
            self._out.finish, self._out.closed_by = "closed", "loop"
            self._out.closed_paths += found[1]
            self._repetition.restart()

    def _close(self, why: ClosedBy) -> bool:
        """Write the shortest legal end in place of what the model would have written."""
        assert self._ending is not None
        plan = None
        while plan is None or len(self._out.tokens) + len(plan[0]) > self._max_tokens:
            if plan is not None:
                self._take_back()  # what was taken back with a broken character made the end longer
            while len(whole_characters(bytes(self._bytes)).encode()) < len(self._bytes):
                self._take_back()  # the beginning of a character that will now never be finished
            plan = self._ending.of(self.text)
            if plan is None:  # no end can be planned: whatever was closed before, this is not whole
                self._out.finish = "length"
                return True
        self._write(plan[0])
        self._out.finish = "closed"
        self._out.closed_by = why
        self._out.closed_paths = tuple(dict.fromkeys((*self._out.closed_paths, *plan[1])))
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
        if self._ending is not None:
            self._ending.taken_back()

    # -- writing

    def _write(self, tokens: Sequence[int]) -> None:
        if not tokens:
            return
        data = b"".join(map(self._vocabulary.token_bytes, tokens))
        self._out.tokens += tokens
        self._unfed += tokens
        self._bytes += data
        if self._ending is not None:
            self._ending.written(self._bytes, data)
        text = self._decoder.decode(data)
        if text:
            self._on_text(text)

    def _flush(self) -> None:
        if self._unfed:
            self._source.feed(self._unfed)
            self._unfed = []

    def generation(
        self, *, prompt: int, reused: int, diverged_at: int | None, times: tuple[float, float]
    ) -> Generation:
        """What this loop did, after a prompt of so many tokens; `times` are `ttft_s` and `decode_s`."""
        out = self._out
        return Generation(
            text=self.text,
            tokens=out.tokens,
            finish=out.finish,
            closed_by=out.closed_by,
            closed_paths=out.closed_paths,
            prompt_tokens=prompt,
            reused_tokens=reused,
            forced_tokens=out.forced,
            ttft_s=times[0],
            decode_s=times[1],
            diverged_at=diverged_at,
        )

    @property
    def text(self) -> str:
        """What was written, up to the last whole character; bytes that are no character replaced."""
        return codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(self._bytes))
