"""A vocabulary of bytes and of the control tokens that a test names, and the formats of templates on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from call_templates import CALL_TEMPLATES

from localmem.engine.chat_format import TemplateFormat
from localmem.errors import GrammarError
from localmem.protocols import TokenRules


class TaggedVocabulary:
    """One token a byte; the control tokens from 256 on, the last of which ends a generation."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = [name.encode() for name in names]
        self.size = 256 + len(names)
        self.control_tokens = frozenset(range(256, self.size))
        self.end_tokens = frozenset({self.size - 1})

    def id(self, name: str) -> int:
        return 256 + self.names.index(name.encode())

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        tokens: list[int] = []
        data = text.encode("utf-8", "replace")
        while data:
            named = [n for n in self.names if special and data.startswith(n)]
            name = max(named, key=len, default=b"")
            tokens.append(256 + self.names.index(name) if name else data[0])
            data = data[len(name) or 1 :]
        return tokens

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else self.names[token - 256]

    def detokenize(self, tokens: Sequence[int]) -> str:
        return bytes(t for t in tokens if t < 256).decode("utf-8", "replace")

    def read(self, tokens: Sequence[int]) -> str:
        """All of it, control tokens by their names in double brackets."""
        return b"".join(bytes([t]) if t < 256 else b"[[" + self.names[t - 256] + b"]]" for t in tokens).decode(
            "utf-8", "replace"
        )

    def gbnf(self, source: str) -> TokenRules:
        raise GrammarError("No GBNF here.")


@cache
def tagged(name: str) -> tuple[TemplateFormat, TaggedVocabulary]:
    """The chat format of one of the call templates."""
    source, bos, eos, names = CALL_TEMPLATES[name]
    ordered = [*(n for n in names if n != eos), eos]
    vocabulary = TaggedVocabulary(ordered)
    form = TemplateFormat(vocabulary, source, bos=vocabulary.id(bos) if bos else None, eos=vocabulary.id(eos))
    return form, vocabulary
