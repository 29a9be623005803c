"""An embedder for tests that want to know what is embedded, and when."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localmem.errors import ModelError
from localmem.memory.embedder import HashEmbedder


class Watched(HashEmbedder):
    """Records what it embeds, and can be held up or broken."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self.broken = False

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.entered.set()
        assert self.go.wait(10)
        if self.broken:
            raise ModelError("there is no embedding model; fetch it")
        self.texts += texts
        return super().embed(texts)
