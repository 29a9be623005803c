"""How much a call of a built-in function may write, and a result may show: shares of the window, in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from localmem.memory.core import Block

_CHARS_A_TOKEN = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a call may write, or quote, and a result may show. `count` gives the tokens of a text in the model's
    vocabulary."""

    message_chars: int
    quoted_tokens: int
    result_tokens: int
    count: Callable[[str], int]

    def quotes(self, content: str, share: float = 1.0) -> bool:
        """Whether a call may quote a text that takes at most so much of the room for that."""
        return self.count(content) <= self.quoted_tokens * share

    @staticmethod
    def tokens_of(block: Block) -> int:
        """The most tokens that a block's value may take: its limit in characters, as ordinary text."""
        return -(-block.limit // _CHARS_A_TOKEN)
