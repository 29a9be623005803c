"""What recall and archival share: hits, pages, the fusion of two rankings, and how a ranking stays the same.

Knows no index, no store and no kind of text: ids and scores go in, pages come out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from localmem.events import Kind

#: The least cosine similarity at which a vector counts as a match. With MiniLM, 12 of 14 pairs of a question and the
#: remark that answers it reach it, and 2 % of the pairs that have nothing to do with each other.
SIMILARITY = 0.3

#: The constant of reciprocal rank fusion, as its authors fixed it.
_RRF_K = 60

_RANKINGS_KEPT = 16


@dataclass(frozen=True, slots=True)
class Hit:
    """A text that was found. `source` is the id of an event, or the path of a document with its lines or page."""

    text: str
    score: float
    time: datetime
    source: int | str
    kind: Kind | None = None
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the hits of a search; `page` counts from 1 and `total` is over all pages.

    `newest` is the highest id that was considered: given back as `until`, it keeps later pages as they were. `note`
    says what the search could not do.
    """

    hits: tuple[Hit, ...]
    total: int
    page: int
    pages: int
    newest: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ids that a search found, best first, each with its score."""

    items: tuple[tuple[int, float], ...]
    note: str = ""

    def page(self, number: int, size: int) -> tuple[tuple[int, float], ...]:
        first = (max(1, number) - 1) * size
        return self.items[first : first + size]

    def pages(self, size: int) -> int:
        return -(-len(self.items) // size)


def fuse(*rankings: Iterable[int]) -> list[tuple[int, float]]:
    """Reciprocal rank fusion: an id scores the sum of 1 / (60 + rank) over the rankings that hold it.

    Best first; of equal scores the higher id, which is the newer. Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion
    outperforms Condorcet and Individual Rank Learning Methods", SIGIR 2009.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, id in enumerate(ranking, 1):
            scores[id] = scores.get(id, 0.0) + 1 / (_RRF_K + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], -item[0]))


class Rankings:
    """The last few rankings, so that the later pages of a search come from the ranking of the first.

    Filtering by id alone would not do: each new text shifts BM25's weights, and each new vector adds old texts.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Ranking] = OrderedDict()

    def get(self, key: Hashable) -> Ranking | None:
        return self._kept.get(key)

    def keep(self, key: Hashable, ranking: Ranking) -> None:
        self._kept[key] = ranking
        self._kept.move_to_end(key)
        while len(self._kept) > _RANKINGS_KEPT:
            self._kept.popitem(last=False)


def notes(*parts: str) -> str:
    """The parts that say something, as one sentence."""
    return "; ".join(part for part in parts if part)


def one_page(hits: Sequence[Hit], ranking: Ranking, *, page: int, page_size: int, newest: int) -> Page:
    total = len(ranking.items)
    return Page(tuple(hits), total, max(1, page), ranking.pages(page_size), newest, ranking.note)
