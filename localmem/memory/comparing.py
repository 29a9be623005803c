"""Comparer: how much texts are alike in meaning, by the vectors of an indexer's embedder. Waits for none to be loaded.

For a message and the few texts that are compared with message after message: their vectors are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localmem.memory.indexing import Indexer

_KEPT = 1024


class Comparer:
    """Compares texts. Where it gives None, the embedder is not there; or it is not loaded yet, or busy."""

    def __init__(self, indexer: Indexer) -> None:
        self._indexer = indexer
        self._kept: dict[str, NDArray[np.float32]] = {}

    def vector(self, text: str) -> NDArray[np.float32] | None:
        """The vector of `text`, of unit length, shape (dimension,)."""
        return self._kept[text] if self._know([text]) else None

    def likeness(self, text: str, others: Sequence[str]) -> NDArray[np.float32] | None:
        """The cosine between `text` and each of `others`, of shape (len(others),)."""
        if not self._know([text, *others]):
            return None
        if not others:
            return np.empty(0, np.float32)
        cosines: NDArray[np.float32] = np.stack([self._kept[each] for each in others]) @ self._kept[text]
        return cosines

    def _know(self, texts: Sequence[str]) -> bool:
        """Whether the vectors of `texts` are kept now."""
        missing = [each for each in dict.fromkeys(texts) if each not in self._kept]
        if not missing:
            return True
        with self._indexer.paused():  # behind one text at most, however many wait to be embedded
            vectors = self._indexer.vectors(missing)
        if vectors is None:
            return False
        if len(self._kept) + len(missing) > _KEPT:
            self._kept = {each: self._kept[each] for each in texts if each in self._kept}
        self._kept.update(zip(missing, vectors, strict=True))
        return True
