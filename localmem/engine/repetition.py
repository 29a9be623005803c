"""Notices a text that has begun to repeat itself: the last tokens are one n-gram, over and over.

Small models fall into such loops and never leave them. Knows tokens only, not what they spell.
"""

from __future__ import annotations

_LONGEST_GRAM = 64  # tokens
_LEAST_COPIES = 4
_LEAST_TOKENS = 40  # ten dashes, or a song's refrain, are no loop


class Repetition:
    """Watches one generation's tokens. Costs a comparison for each length of n-gram, microseconds a token."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what was seen: a loop was ended."""
        self._tokens: list[int] = []
        self._runs = [0] * (_LONGEST_GRAM + 1)  # for each length n: how many tokens in a row equal the one n before

    def add(self, token: int) -> int:
        """How many of the last tokens repeat one n-gram: 0 until that is a loop."""
        tokens, runs = self._tokens, self._runs
        at = len(tokens)
        looping = 0
        for n in range(1, min(_LONGEST_GRAM, at) + 1):
            if tokens[at - n] == token:
                runs[n] += 1
                if runs[n] + n >= max(_LEAST_TOKENS, _LEAST_COPIES * n):
                    looping = looping or runs[n] + n
            else:
                runs[n] = 0
        tokens.append(token)
        return looping
