"""The embedder of a recorder: it outlives agents, and leaves out what nothing looks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localmem.memory.embedder import HashEmbedder
from localmem.protocols import Embedder


class SharedEmbedder:
    """One embedder for many agents, none of which closes it; texts met before are not embedded again.

    What the agent says in a scenario stays in main context and is no hit of its searches, so those texts, `unsought`,
    get vectors that are near nothing: embedding them would be a quarter of a recorder's work.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, NDArray[np.float32]] = {}
        self.name = embedder.name
        self.unsought: frozenset[str] = frozenset()
        self._far = HashEmbedder(embedder.dimension)

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As the embedder."""
        far = {text for text in texts if text not in self._known and text in self.unsought}
        new = [text for text in dict.fromkeys(texts) if text not in self._known and text not in far]
        if new:
            self._known.update(zip(new, self._embedder.embed(new), strict=True))
        if not texts:
            return self._embedder.embed(texts)
        return np.stack([self._far.embed([text])[0] if text in far else self._known[text] for text in texts])
