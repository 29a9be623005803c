"""How sure a share, or the difference of two shares over the same cases, is. Knows only what was right and what not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_Z = 1.959964  # 95 %


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): sound for few cases and for shares near 0 and 1."""
    if count == 0:
        return 0.0, 1.0
    share, square = right / count, _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class Paired:
    """One way minus another over the same cases. `gained` are right in the first alone, `lost` in the second alone."""

    count: int
    gained: int
    lost: int
    low: float
    high: float

    @property
    def difference(self) -> float:
        return (self.gained - self.lost) / self.count if self.count else 0.0

    @property
    def p(self) -> float:
        """McNemar's exact test, two-sided: how likely so uneven a split is if both are equally good."""
        differing = self.gained + self.lost
        tail = sum(math.comb(differing, k) for k in range(min(self.gained, self.lost) + 1))
        return float(min(1.0, 2 * tail / 2**differing))


def paired(first: Sequence[bool], second: Sequence[bool], *, samples: int = 10_000, seed: int = 0) -> Paired:
    """The difference of two ways with its 95 % bootstrap interval (percentiles, cases drawn together)."""
    differences = np.asarray(first, dtype=np.int64) - np.asarray(second, dtype=np.int64)
    count = len(differences)
    gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
    if count == 0:
        return Paired(0, 0, 0, -1.0, 1.0)
    # Drawing cases is drawing how many of the three kinds there are.
    odds = [gained / count, lost / count, (count - gained - lost) / count]
    drawn = np.random.default_rng(seed).multinomial(count, odds, size=samples)
    low, high = np.percentile((drawn[:, 0] - drawn[:, 1]) / count, [2.5, 97.5])
    return Paired(count, gained, lost, float(low), float(high))
