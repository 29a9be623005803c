"""The parts of a grammar: control tokens, fixed texts, free texts, documents of any backend, and choices of them.

Each part begins and ends with a token of its own, and can say how it is brought to an end. `sequence` follows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localmem.errors import GrammarError
from localmem.grammar.closing import Closing
from localmem.grammar.compile import Backend, compile_grammar
from localmem.grammar.free_text import FreeText
from localmem.grammar.sources import Json
from localmem.protocols import End, Grammar, Tag, TokenRules, Vocabulary


class _Forced:
    """The rules of a part that is dictated token by token."""

    def __init__(self, tokens: Sequence[int], size: int) -> None:
        self._left = list(tokens)
        self._size = size

    def forced(self) -> list[int]:
        return list(self._left)

    def accept(self, token: int) -> bool:
        if not self._left or self._left[0] != token:
            return False
        del self._left[0]
        return True

    def mask(self) -> NDArray[np.bool_]:
        allowed = np.zeros(self._size, np.bool_)
        allowed[self._left[:1]] = True
        return allowed

    @property
    def complete(self) -> bool:
        return not self._left

    can_stop = complete


@dataclass(frozen=True, eq=False)
class Control:
    """One control token."""

    tag: Tag

    @cached_property
    def least(self) -> End | None:
        return self.end("")

    @property
    def bound(self) -> int:
        return 1

    def begin(self, vocabulary: Vocabulary) -> TokenRules:
        return _Forced([self.tag.id], vocabulary.size)

    def end(self, text: str) -> End | None:
        return End((self.tag.id,)) if not text else End() if text == self.tag.name else None


@dataclass(frozen=True, eq=False)
class Literal:
    """Exactly `text`, in the tokens that the vocabulary makes of it.

    Where it is one of several, a budget that ends it before its first `decided` characters stand has chosen `path`.
    """

    text: str
    path: str = ""
    decided: int = 0

    @cached_property
    def least(self) -> End | None:
        return self.end("")

    @property
    def bound(self) -> int:
        return len(self.text.encode())

    def begin(self, vocabulary: Vocabulary) -> TokenRules:
        tokens = vocabulary.tokenize(self.text)
        if b"".join(map(vocabulary.token_bytes, tokens)) != self.text.encode():
            raise GrammarError(f"The model's vocabulary cannot write {self.text!r}.")
        return _Forced(tokens, vocabulary.size)

    def end(self, text: str) -> End | None:
        if not self.text.startswith(text):
            return None
        rest = self.text[len(text) :]
        return End((rest,) if rest else (), (self.path,) if len(text) < self.decided else ())


@dataclass(frozen=True, eq=False)
class Document:
    """A JSON document of `schema`; `renamed` says what the beginnings of its paths are called outside."""

    schema: Any
    renamed: tuple[tuple[str, str], ...] = ()
    backend: Backend = "llguidance"

    @cached_property
    def _grammar(self) -> Grammar:
        return compile_grammar(Json(self.schema, plain=True), backend=self.backend)

    @cached_property
    def _closing(self) -> Closing:
        return Closing(self.schema)

    @cached_property
    def least(self) -> End | None:
        return self.end("")

    @cached_property
    def bound(self) -> int | None:
        return self._closing.bound()

    def begin(self, vocabulary: Vocabulary) -> TokenRules:
        return self._grammar.bind(vocabulary)

    def end(self, text: str) -> End | None:
        end = self._closing.end(text)
        return None if end is None else End(end.pieces, tuple(map(self._outside, end.cut)), end.steady)

    def _outside(self, path: str) -> str:
        for inside, outside in self.renamed:
            if path == inside or path.startswith((f"{inside}.", f"{inside}[")):
                return outside + path[len(inside) :]
        return path


@dataclass(frozen=True, eq=False)
class Alternatives:
    """One of these sequences of parts."""

    branches: tuple[Parts, ...]

    @cached_property
    def least(self) -> End | None:
        return shortest(least(branch) for branch in self.branches)

    @cached_property
    def bound(self) -> int | None:
        bounds = [bound(branch) for branch in self.branches]
        known = [one for one in bounds if one is not None]
        return max(known) if len(known) == len(bounds) else None


Part = Control | Literal | FreeText | Document | Alternatives
Parts = tuple[Part, ...]


def joined(ends: Iterable[End | None]) -> End | None:
    """Ends one after the other, texts that meet made one; None if one of them is."""
    pieces: list[str | int] = []
    cut: list[str] = []
    steady = False
    for number, end in enumerate(ends):
        if end is None:
            return None
        steady = end.steady if number == 0 else steady
        cut += (path for path in end.cut if path not in cut)
        for piece in end.pieces:
            last = pieces[-1] if pieces else 0
            if isinstance(piece, str) and isinstance(last, str):
                pieces[-1] = last + piece
            else:
                pieces.append(piece)
    return End(tuple(pieces), tuple(cut), steady)


def shortest(ends: Iterable[End | None]) -> End | None:
    """The one of these ends that can take the fewest tokens."""
    return min((end for end in ends if end is not None), key=lambda end: end.most_tokens, default=None)


def least(parts: Parts) -> End | None:
    """The shortest end of parts that have not begun."""
    return joined(part.least for part in parts)


def bound(parts: Parts) -> int | None:
    """No end of these parts takes more tokens than this; None where that cannot be said."""
    total = 0
    for part in parts:
        if part.bound is None:
            return None
        total += part.bound
    return total
