"""Exact bytes to tokens: what a tokenizer's normalisation (a leading space) would spoil. Knows no model."""

from __future__ import annotations

from functools import cached_property

from localmem.errors import GrammarError
from localmem.protocols import End, Vocabulary

_LONGEST = 16


class TokenBytes:
    """Spells a text with the fewest tokens that a vocabulary has for it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        control = self._vocabulary.control_tokens
        pieces = ((self._vocabulary.token_bytes(t), t) for t in range(self._vocabulary.size) if t not in control)
        return {piece: token for piece, token in pieces if 0 < len(piece) <= _LONGEST}

    def end(self, end: End) -> list[int]:
        """The tokens of an end, control tokens where it says so. Raises GrammarError as `tokens` does."""
        return [t for piece in end.pieces for t in ([piece] if isinstance(piece, int) else self.tokens(piece))]

    def tokens(self, text: str) -> list[int]:
        """The fewest tokens whose bytes are exactly those of `text`. Raises GrammarError if the vocabulary has none."""
        data = text.encode("utf-8", "surrogatepass")
        cost: list[int] = [0]  # tokens to the end of data, from its end backwards
        step: list[int] = [0]  # length of the first of them, 0 where there is no way
        for at in range(len(data) - 1, -1, -1):
            best, width = len(data) + 1, 0
            for length in range(min(_LONGEST, len(data) - at), 0, -1):
                rest = len(data) - at - length
                if cost[rest] + 1 < best and data[at : at + length] in self._by_bytes:
                    best, width = cost[rest] + 1, length
            cost.append(best)
            step.append(width)
        tokens, at = [], 0
        while at < len(data):
            width = step[len(data) - at]
            if not width:
                raise GrammarError("The model's vocabulary cannot write the end of this document.")
            tokens.append(self._by_bytes[data[at : at + width]])
            at += width
        return tokens
