"""A grammar in parts, one after the other, as one matcher.

Where the next part is a choice, or a part may end here but need not, the matcher follows all of them at once until the
tokens tell. A control token is only ever written as itself: no text of another part can produce it. An end is that of
the part which is open, and the shortest of each part after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localmem.errors import GrammarError
from localmem.grammar.free_text import FreeText
from localmem.grammar.parts import (
    Alternatives,
    Control,
    Document,
    Literal,
    Parts,
    bound,
    joined,
    least,
    shortest,
)
from localmem.protocols import End, TokenRules, Vocabulary


@dataclass(frozen=True, slots=True)
class PartsGrammar:
    """These parts, one after the other."""

    parts: Parts

    def bind(self, vocabulary: Vocabulary) -> PartsMatcher:
        return PartsMatcher(self.parts, vocabulary)


@dataclass(frozen=True, slots=True)
class _Place:
    """A part that is being written, what comes after it, and at which byte it began. Without `rules` all is written."""

    part: Control | Literal | FreeText | Document | None
    rules: TokenRules | None
    rest: Parts
    start: int

    def takes(self, *, special: bool) -> TokenRules | None:
        """The rules for control tokens, or for all others: those of a document know no control token."""
        return self.rules if special == isinstance(self.part, Control) else None

    def end(self, data: bytes) -> End | None:
        if self.start > len(data):
            return None
        text = data[self.start :].decode("utf-8", "surrogatepass")
        here = self.part.end(text) if self.part is not None else None if text else End()
        return joined((here, least(self.rest)))


class PartsMatcher:
    """One generation's places in a grammar of parts.

    Forced tokens are followed as far as they go: those given out by `forced` are `ahead` of what was accepted.
    """

    def __init__(self, parts: Parts, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._special = vocabulary.control_tokens | vocabulary.end_tokens
        self._written = bytearray()
        self._ahead: list[int] = []
        self._places = self._enter(parts)
        self._before: list[_Place] = []
        self.end_bound = bound(parts)

    def _enter(self, parts: Parts) -> list[_Place]:
        """All places where a text that goes on with `parts` may be now."""
        if not parts:
            return [_Place(None, None, (), len(self._written))]
        first, rest = parts[0], parts[1:]
        if isinstance(first, Alternatives):
            return [place for branch in first.branches for place in self._enter((*branch, *rest))]
        return self._stay_or_go_on(_Place(first, first.begin(self._vocabulary), rest, len(self._written)))

    def _stay_or_go_on(self, place: _Place) -> list[_Place]:
        rules = place.rules
        assert rules is not None
        stay = [] if rules.complete else [place]
        return [*stay, *self._enter(place.rest)] if rules.complete or rules.can_stop else stay

    def _take(self, token: int) -> bool:
        special = token in self._special
        kept = [p for p in self._places if (rules := p.takes(special=special)) is not None and rules.accept(token)]
        if kept:
            self._written += self._vocabulary.token_bytes(token)
            self._places = [after for place in kept for after in self._stay_or_go_on(place)]
        return bool(kept)

    def forced(self) -> list[int]:
        if not self._ahead:
            # In the middle of a character an end is that of the text before it, and other places may stand open there.
            self._before = [*(() if _is_whole(self._written) else self._before), *self._places]
        while tokens := _common([place.rules.forced() if place.rules else [] for place in self._places]):
            for token in tokens:
                if not self._take(token):
                    raise GrammarError("The grammar engine refused a token that it had forced.")
            self._ahead += tokens
            self._before += self._places
        return list(self._ahead)

    def accept(self, token: int) -> bool:
        if not self._ahead:
            return self._take(token)
        if token != self._ahead[0]:
            return False
        del self._ahead[0]
        return True

    def mask(self) -> NDArray[np.bool_]:
        allowed = np.zeros(self._vocabulary.size, np.bool_)
        if self._ahead:
            allowed[self._ahead[0]] = True
            return allowed
        for special in (False, True):
            for place in self._places:
                if (rules := place.takes(special=special)) is not None:
                    allowed |= rules.mask()
            if not special:
                allowed[list(self._special)] = False
        return allowed

    @property
    def complete(self) -> bool:
        return not self._ahead and all(place.rules is None for place in self._places)

    @property
    def can_stop(self) -> bool:
        return not self._ahead and any(place.rules is None for place in self._places)

    def end(self, text: str) -> End | None:
        data = text.encode("utf-8", "surrogatepass")
        if len(data) < len(self._written):  # tokens were taken back, or forced ones not yet accepted
            return shortest(place.end(data) for place in (*self._before, *self._places))
        return shortest(place.end(data) for place in self._places)


def _is_whole(data: bytearray) -> bool:
    """Whether the last character of a text is complete."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _common(lists: Sequence[Sequence[int]]) -> list[int]:
    """What all lists begin with."""
    count = 0
    while lists and all(count < len(one) and one[count] == lists[0][count] for one in lists):
        count += 1
    return list(lists[0][:count]) if lists else []
