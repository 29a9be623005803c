"""How much a call of a built-in function may write, and a result may show: shares of the window, in one place."""

from __future__ import annotations

import json
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

    def quotes(self, content: str, *, times: int = 1) -> bool:
        """Whether a call may quote so many texts of that size, as they are written in JSON."""
        return self.quoted(content) <= self.quoted_tokens // times

    def quoted(self, content: str) -> int:
        """The tokens of a text as it is written in JSON."""
        return self.count(json.dumps(content, ensure_ascii=False))

    @staticmethod
    def tokens_of(block: Block) -> int:
        """The most tokens that a block's value may take: its limit in characters, as ordinary text."""
        return -(-block.limit // _CHARS_A_TOKEN)
