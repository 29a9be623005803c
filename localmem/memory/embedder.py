"""Text to vectors: a sentence-transformers model on the CPU, and the fake that stands in for it in tests.

The only user of sentence_transformers, which is imported at the first text. No byte is fetched: the model is a folder.
Knows nothing of what is embedded or where the vectors go.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localmem.errors import ModelError
from localmem.memory.records import storable

#: Read by the Hugging Face libraries when they are imported: no network, and no warning at a later fork.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class SentenceEmbedder:
    """The model in `folder`, known as `name`. ModelError, at the first text, if it cannot be loaded."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = Path(folder), name
        self._lock = threading.Lock()
        self._loaded: Any = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimension(self) -> int:
        with self._lock:
            return int(self._model().get_embedding_dimension())

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), dimension), rows of unit length.

        A text longer than the model reads is embedded as the mean of its windows.
        """
        with self._lock:
            model = self._model()
            windows = [self._windows(model, storable(text)) for text in texts]
            flat = [window for of_text in windows for window in of_text]
            dimension = int(model.get_embedding_dimension())
            vectors = np.zeros((len(texts), dimension), dtype=np.float32)
            if not flat:
                return vectors
            try:
                encoded = model.encode(flat, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True)
            except (RuntimeError, ValueError) as error:
                raise ModelError(f"the embedding model in {self._folder} failed: {error}; fetch it again") from error
        owner = np.repeat(np.arange(len(texts)), [len(of_text) for of_text in windows])
        np.add.at(vectors, owner, encoded.astype(np.float32))
        return _unit(vectors)

    def _model(self) -> Any:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> Any:
        if not self._folder.is_dir():
            raise ModelError(f"there is no embedding model in {self._folder}; fetch it, or go on with keywords only")
        for variable, value in _OFFLINE.items():
            os.environ.setdefault(variable, value)
        try:
            from sentence_transformers import SentenceTransformer

            with _no_progress_bars():
                return SentenceTransformer(str(self._folder), device="cpu", local_files_only=True)
        except (ImportError, OSError, ValueError, KeyError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"cannot load the embedding model in {self._folder}: {reason}; fetch it again") from error

    @staticmethod
    def _windows(model: Any, text: str) -> list[str]:
        """`text` in parts that the model reads whole, cut between word pieces."""
        room = model.max_seq_length - model.tokenizer.num_special_tokens_to_add()
        cut = model.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        offsets = cut["offset_mapping"]
        if len(offsets) <= room:
            return [text]
        return [
            text[part[0][0] : part[-1][1]] for part in (offsets[i : i + room] for i in range(0, len(offsets), room))
        ]


class HashEmbedder:
    """A fake that needs no weights: each word adds to one of `dimension` places, chosen by its hash.

    Texts are alike as far as they share words. Feature hashing: Weinberger et al., ICML 2009.
    """

    def __init__(self, dimension: int = 64) -> None:
        self._dimension = dimension

    @property
    def name(self) -> str:
        return f"hash-{self._dimension}"

    @property
    def dimension(self) -> int:
        return self._dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()) or [text]:
                digest = hashlib.sha256(storable(word).encode()).digest()
                row[int.from_bytes(digest[:8], "little") % self._dimension] += 1 if digest[8] & 1 else -1
        # Words of opposite signs can cancel out; a vector still has to point somewhere.
        vectors[~vectors.any(axis=1), 0] = 1
        return _unit(vectors)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """While weights are read, which transformers shows on stderr; others in this process get their bars back."""
    logging = import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
    return unit
