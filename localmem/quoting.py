"""What a model that quotes may store and seek: sentences of the message that it answers. Pure.

Small models miscopy names and add what nobody said. To quote, a model only has to point at what it means.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import combinations

#: Between two sentences: white space behind a full stop and the like (none in scripts that write none), or a new line.
_BETWEEN = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"')\]»”’])\s+|(?<=[。！？])\s*|\s*\n\s*")
_BLANK = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")
_LETTER = re.compile(r"\w")
#: What stands alone has two words, or is in a script without spaces; less is an exclamation.
_ALONE = re.compile(r"\w\W*\s\W*\w|[\u0e00-\u109f\u1780-\u17ff\u3005-\u9fff\uac00-\ud7af]{3}")
#: A full stop that ends no sentence: of an initial, or of what is written before a name or a number.
_ABBREVIATED = re.compile(
    r"(?:^|[\s(])(?:\w|[MDJS]r|Mrs|Ms|Mx|Prof|Rev|St|No|vs|ca|approx|e\.g|i\.e)\.$", re.IGNORECASE
)

_LONGEST = 160  # characters of one sentence; a longer one is taken in parts
_LONGEST_PASSAGE = 240
_MOST_NEIGHBOURS = 3
_MOST_LINES = 3
_MOST = 8  # sentences; of a longer message the last ones, where people come to the point


def sentences(message: str) -> list[str]:
    """The sentences of `message`, each once and on one line; the last eight of more."""
    found: list[str] = []
    waiting = ""
    for part in _BETWEEN.split(message):
        waiting = f"{waiting} {_BLANK.sub(' ', part).strip()}".strip()
        if _ALONE.search(waiting) and not _ABBREVIATED.search(waiting):
            found += textwrap.wrap(waiting, _LONGEST)
            waiting = ""
    if waiting and found and len(found[-1]) + len(waiting) < _LONGEST:
        found[-1] = f"{found[-1]} {waiting}"
    elif _LETTER.search(waiting):
        found += textwrap.wrap(waiting, _LONGEST)
    return list(dict.fromkeys(found))[-_MOST:]


def passages(quotable: Sequence[str]) -> list[str]:
    """What a search may be for: one of the sentences, or up to three neighbours."""
    return list(dict.fromkeys(passage for passage in _runs(quotable) if len(passage) <= _LONGEST_PASSAGE))


def _runs(quotable: Sequence[str]) -> Iterator[str]:
    for length in range(1, _MOST_NEIGHBOURS + 1):
        for start in range(len(quotable) - length + 1):
            yield " ".join(quotable[start : start + length])


def selections(quotable: Sequence[str], room: int) -> list[str]:
    """What may be stored in `room` characters: up to three of the sentences, a line each."""
    picked = (lines for count in range(1, _MOST_LINES + 1) for lines in combinations(quotable, count))
    return [text for text in map("\n".join, picked) if len(text) <= room]
