"""A model's vocabulary on llama.cpp: text to tokens, tokens to bytes, and which tokens no text may produce.

Knows nothing of prompts or messages.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import llama_cpp

from localmem.engine.gbnf import GbnfParser
from localmem.errors import ModelError
from localmem.protocols import TokenRules

_CONTROL = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
_LOOKS_SPECIAL = re.compile(r"<.+>|\[[A-Z_/]+\]", re.DOTALL)


class LlamaVocabulary:
    """The vocabulary of a loaded model; valid as long as the model is."""

    def __init__(self, model: llama_cpp.llama_model_p) -> None:
        self._pointer = llama_cpp.llama_model_get_vocab(model)
        self._size = int(llama_cpp.llama_vocab_n_tokens(self.pointer))
        self._lead = self._find_lead()

    def _find_lead(self) -> str:
        """What to put before a text so that it is tokenized as it is: SentencePiece adds a space to a beginning."""
        pieces = b"".join(map(self._piece, self._tokenize("a", special=False)))
        return "\x02" if pieces == b" a" else ""

    @property
    def pointer(self) -> Any:
        """llama.cpp's own vocabulary. Raises ModelError if its model is gone."""
        if self._pointer is None:  # NULL would crash the process
            raise ModelError("This engine is closed; load the model again.")
        return self._pointer

    @property
    def size(self) -> int:
        return self._size

    @cached_property
    def bos(self) -> int | None:
        """The token that begins every prompt, None where the model wants none."""
        if not llama_cpp.llama_vocab_get_add_bos(self.pointer):
            return None
        return int(llama_cpp.llama_vocab_bos(self.pointer))

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        return frozenset(t for t in range(self._size) if llama_cpp.llama_vocab_is_eog(self.pointer, t))

    @cached_property
    def control_tokens(self) -> frozenset[int]:
        """Control tokens, and user-defined ones that look like them (some GGUFs mark turn markers so)."""
        return frozenset(t for t in range(self._size) if self._is_control(t))

    def _is_control(self, token: int) -> bool:
        attributes = llama_cpp.llama_vocab_get_attr(self.pointer, token)
        if attributes & _CONTROL:
            return True
        if not attributes & llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED:
            return False
        return _LOOKS_SPECIAL.fullmatch(self._piece(token).decode("utf-8", "replace")) is not None

    @cached_property
    def _markers(self) -> re.Pattern[str] | None:
        """Finds where a control token's name begins.

        llama.cpp makes control tokens of names even with special parsing off: of user-defined ones always, and with
        SentencePiece of any whose name can be merged from ordinary pieces.
        """
        names = {self._piece(t).decode("utf-8", "replace") for t in self.control_tokens}
        ordered = sorted((name for name in names if len(name) > 1), key=len, reverse=True)
        return re.compile(f"(?={'|'.join(map(re.escape, ordered))})") if ordered else None

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        if special:
            return self._tokenize(text, special=True)
        tokens: list[int] = []
        start = 0
        for match in self._markers.finditer(text) if self._markers is not None else ():
            # Cut inside each name, also where names overlap: parts of it are ordinary text wherever they stand.
            tokens += self._tokenize_exactly(text[start : match.start() + 1])
            start = match.start() + 1
        return tokens + self._tokenize_exactly(text[start:])

    def _tokenize_exactly(self, text: str) -> list[int]:
        tokens = self._tokenize(self._lead + text, special=False) if text else []
        if self._lead:
            pieces = map(self.token_bytes, tokens)
            skip = next((i + 1 for i, piece in enumerate(pieces) if piece == self._lead.encode()), 0)
            return tokens[skip:]
        return tokens

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        if not data:
            return []
        room = len(data) + 8
        while True:
            buffer = (llama_cpp.llama_token * room)()
            n = llama_cpp.llama_tokenize(self.pointer, data, len(data), buffer, room, False, special)
            if n >= 0:
                return list(buffer[:n])
            room = -n

    def token_bytes(self, token: int) -> bytes:
        return self._pieces[token]

    @cached_property
    def _pieces(self) -> list[bytes]:
        return [self._piece(t) for t in range(self._size)]

    def _piece(self, token: int) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            n = llama_cpp.llama_token_to_piece(self.pointer, token, buffer, room, 0, True)
            if n >= 0:
                return buffer.raw[:n]
            room = -n

    def gbnf(self, source: str) -> TokenRules:
        return self._gbnf.rules(source)

    @cached_property
    def _gbnf(self) -> GbnfParser:
        return GbnfParser(self)

    def close(self) -> None:
        """The model is gone."""
        self._pointer = None

    def detokenize(self, tokens: Sequence[int]) -> str:
        control = self.control_tokens
        return b"".join(self._pieces[t] for t in tokens if t not in control).decode("utf-8", "replace")
