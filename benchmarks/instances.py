"""Whether a grammar accepts a value: token by token with a model's own tokenizer, in whatever order its keys may come.

A grammar fixes the layout of a document: keys in one order, numbers in one spelling. An instance of a test suite is a
value, not a text. So it counts as accepted if any text of it is: first the one with keys as the schema lists them,
then, if that is refused, others, found by a search that lets the grammar itself say which key may come next. The same
search runs for invalid instances: none of their texts may be accepted. It ends after MOST_PROBES questions, or
`most_seconds`, and says so.

Knows nothing of files, figures or backends.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Any

from benchmarks.key_order import KeyOrder, Parts
from localmem.errors import GrammarError
from localmem.protocols import Grammar, Vocabulary

MOST_PROBES = 400  # questions to a grammar in the search for a text of one instance


@dataclass(slots=True)
class Reading:
    """What became of one instance. `text` is the accepted text, else the first one tried, up to what was refused."""

    accepted: bool
    text: str
    reordered: bool = False
    undecided: bool = False
    probes: int = 0
    mask_ms: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


class Reader:
    """Reads instances under one grammar. `masks` is at how many positions of a text the mask is computed, too."""

    def __init__(
        self, grammar: Grammar, vocabulary: Vocabulary, schema: Any, *, masks: int = 4, most_seconds: float = 2.0
    ) -> None:
        self._grammar = grammar
        self._vocabulary = vocabulary
        self._order = KeyOrder(schema)
        self._masks = masks
        self._most_seconds = most_seconds
        self._probes, self._until, self._ended = 0, 0.0, False

    def read(self, instance: Any) -> Reading:
        """The verdict on one instance."""
        first = next(self._texts(instance, "", self._order.root, probing=False))
        reading = self._follow(first)
        self._probes, self._until, self._ended = 0, time.monotonic() + self._most_seconds, False
        if not reading.accepted:
            for text in self._texts(instance, "", self._order.root, probing=True):
                again = self._follow(text) if self._whole(text) else None
                if again is not None and again.accepted:
                    again.reordered, again.probes = True, self._probes
                    again.complaints += reading.complaints
                    return again
        reading.probes = self._probes
        reading.undecided = self._ended
        return reading

    # -- one text

    def _follow(self, text: str) -> Reading:
        """Feed `text` token by token; at some positions compare the mask and the forced tokens with what happens."""
        matcher = self._grammar.bind(self._vocabulary)
        tokens = self._vocabulary.tokenize(text)
        reading = Reading(False, text)
        looked_at = set(range(0, len(tokens), max(1, math.ceil(len(tokens) / max(1, self._masks)))))
        forced: list[tuple[int, bytes]] = []
        done = 0
        try:
            for position, token in enumerate(tokens):
                allowed = None
                if self._masks and position in looked_at:
                    forced.append((done, b"".join(map(self._vocabulary.token_bytes, matcher.forced()))))
                    started = time.perf_counter()
                    allowed = bool(matcher.mask()[token])
                    reading.mask_ms.append(1000 * (time.perf_counter() - started))
                if allowed is None and self._masks:
                    taken = matcher.accept(token)
                    allowed = taken if taken else bool(matcher.mask()[token])
                else:
                    taken = matcher.accept(token)
                if self._masks and taken != allowed:
                    reading.complaints.append(f"mask and accept differ after {text.encode()[:done]!r}: {token}")
                if not taken:
                    reading.text = text.encode()[:done].decode(errors="replace")
                    return reading
                done += len(self._vocabulary.token_bytes(token))
            reading.accepted = matcher.can_stop
        except GrammarError as error:
            reading.complaints.append(f"gave up: {error}")
        if reading.accepted:
            reading.complaints += _wrongly_forced(forced, text.encode())
        return reading

    def _whole(self, text: str) -> bool:
        return self._allows(text, whole=True)

    def _allows(self, text: str, *, whole: bool = False) -> bool:
        """Whether `text` may begin (or, `whole`, be) a document; False when all questions have been asked."""
        self._ended |= self._probes >= MOST_PROBES or time.monotonic() > self._until
        if self._ended:
            return False
        self._probes += 1
        matcher = self._grammar.bind(self._vocabulary)
        taken = all(matcher.accept(token) for token in self._vocabulary.tokenize(text))
        return taken and (matcher.can_stop or not whole)

    # -- all texts of a value

    def _texts(self, value: Any, before: str, parts: Parts, *, probing: bool) -> Iterator[str]:
        """Texts that begin with `before` and go on with `value`, as far as the grammar allows them if `probing`.

        `parts` are those of the schema that say something about `value`.
        """
        if isinstance(value, Mapping):
            if self._goes(before + "{", probing):
                yield from self._members(value, self._order.sorted(value, parts), before + "{", parts, probing)
        elif isinstance(value, list):
            if self._goes(before + "[", probing):
                yield from self._items(value, 0, before + "[", parts, probing)
        else:
            spellings = _spellings(value)
            for spelling in spellings if probing else islice(spellings, 1):
                if self._goes(before + spelling, probing):
                    yield before + spelling

    def _members(
        self, value: Mapping[str, Any], left: Sequence[str], before: str, parts: Parts, probing: bool
    ) -> Iterator[str]:
        if not left:
            yield before + "}"
            return
        if len(left) < len(value):
            before += ", "
        for key in left if probing else left[:1]:
            begun = f"{before}{_dump(key)}: "
            if self._goes(begun, probing):
                others = [other for other in left if other != key]
                for text in self._texts(value[key], begun, self._order.of_key(key, parts), probing=probing):
                    yield from self._members(value, others, text, parts, probing)

    def _items(self, items: Sequence[Any], at: int, before: str, parts: Parts, probing: bool) -> Iterator[str]:
        if at == len(items):
            yield before + "]"
            return
        separator = ", " if at else ""
        for text in self._texts(items[at], before + separator, self._order.of_item(at, parts), probing=probing):
            yield from self._items(items, at + 1, text, parts, probing)

    def _goes(self, text: str, probing: bool) -> bool:
        return not probing or self._allows(text)


def _dump(value: Any) -> str:
    """DEL counts as a control character in localmem's layout, which Python's JSON does not think."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _spellings(value: Any) -> Iterator[str]:
    """How a string, number, boolean or null may be written; Python's own spelling first."""
    seen = {_dump(value)}
    yield from seen
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return
    others = [format(Decimal(repr(value)), "f")]
    if value == int(value):
        others += [str(int(value)), f"{int(value)}.0"]
    for spelling in others:
        if spelling not in seen and len(spelling) < 400:
            seen.add(spelling)
            yield spelling


def _wrongly_forced(forced: Sequence[tuple[int, bytes]], text: bytes) -> Iterator[str]:
    """Where the grammar said that something must follow, though the text that it then accepted goes on otherwise."""
    for done, must in forced:
        if not text[done:].startswith(must):
            yield f"forced {must!r} after {text[:done]!r}, yet accepted {text[done : done + len(must)]!r}"
