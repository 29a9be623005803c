"""The shortest legal end of a text that is being generated, kept current cheaply.

Asked before each token is taken: does the end that the text would have then still fit the budget? Where the budget is
larger than any end, nothing is planned; nor in the middle of a string, where ordinary characters change no end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from localmem.engine.spelling import TokenBytes
from localmem.errors import GrammarError
from localmem.protocols import End, Matcher, Vocabulary

_NOT_ORDINARY = re.compile(rb'["\\\x00-\x1f]')  # what may end a string, or lengthen its end
_ESCAPED = re.compile(rb'\\["n]')


class Ending:
    """The end of one generation's text, under one matcher. `shortest` is that of the empty text; None: no plan."""

    def __init__(self, matcher: Matcher, vocabulary: Vocabulary, spell: TokenBytes) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._spell = spell
        self._planned: tuple[bytes, End | None] = (b"", None)  # the last end that was planned, and for which text
        self._steady: End | None = None  # the end of the text so far, if ordinary characters leave it as it is
        self.shortest = matcher.end("")

    def check(self, max_tokens: int) -> None:
        """Raise GrammarError if not even the shortest text fits, or the vocabulary cannot write it."""
        needed = len(self._spell.end(self.shortest)) if self.shortest is not None else 0
        if needed > max_tokens:
            raise GrammarError(
                f"The shortest document of this schema takes {needed} tokens; max_tokens is {max_tokens}."
            )

    def fits(self, text: bytes | bytearray, tokens: Sequence[int], left: int) -> bool:
        """Whether the shortest legal end still fits `left` tokens once `tokens` are written after `text`."""
        if self.shortest is None:
            return left >= 0
        bound = self._matcher.end_bound
        if bound is not None and left >= bound:
            return True
        end = self._after(text, b"".join(map(self._vocabulary.token_bytes, tokens)))
        # A token that does not fit the grammar has no end; it is refused by the matcher, not for want of budget.
        if end is None or end.most_tokens <= left:
            return True
        return len(self._spell.end(end)) <= left

    def _after(self, text: bytes | bytearray, data: bytes) -> End | None:
        """The end once `data` is written; in the middle of a string, what it was before."""
        if self._steady is not None and not _NOT_ORDINARY.search(data):
            return self._steady
        after = bytes(text) + data
        self._planned = (after, self._matcher.end(whole_characters(after)))
        return self._planned[1]

    def of(self, text: str) -> tuple[list[int], tuple[str, ...]] | None:
        """The tokens of the shortest end of `text`, and the JSON paths that it cuts."""
        end = self._matcher.end(text)
        return None if end is None else (self._spell.end(end), end.cut)

    def of_loop(self, text: bytes | bytearray, repeated: bytes) -> tuple[list[int], tuple[str, ...]] | None:
        """What ends the string that `text` stands in and that goes on `repeated`; and the JSON path of that string.

        None if it is not within one string: a list that repeats an item is left alone.
        """
        end = self._after(text, b"")
        if end is None or not end.steady or _NOT_ORDINARY.search(_ESCAPED.sub(b"", repeated)):
            return None
        first = end.pieces[0]
        return [first] if isinstance(first, int) else self._spell.tokens(first[0]), end.cut[:1]

    def written(self, text: bytes | bytearray, data: bytes) -> None:
        """`data` was written and made the text `text`."""
        if _NOT_ORDINARY.search(data):
            self._steady = None
        if self._planned[0] == text:
            end = self._planned[1]
            self._steady = end if end is not None and end.steady else None

    def taken_back(self) -> None:
        """The text is shorter again: nothing is known of its end."""
        self._steady = None


def whole_characters(data: bytes) -> str:
    """`data` as text, up to its last whole character."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return data[: error.start].decode()
