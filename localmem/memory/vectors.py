"""Vectors: a FAISS index of the store's unit vectors, searched by inner product. A cache, and the only user of FAISS.

The store's table holds the vectors; the index follows it by row id and is written to disk now and then, so that opening
need not read the table. Knows nothing of texts or of how vectors are made: only the name of what made them.
"""

from __future__ import annotations

import logging
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localmem.memory.manifest import Manifest, write_whole
from localmem.memory.store import Row, Store, Tier

_log = logging.getLogger(__name__)

#: Reading this many vectors from the store takes milliseconds; writing a large index for one more does not.
_WORTH_SAVING = 256

#: FAISS has one space of keys: the tier is its lowest bit.
_TIER_BIT: dict[Tier, int] = {"recall": 0, "archival": 1}


def _faiss() -> Any:
    with warnings.catch_warnings():
        # SWIG's generated types have no __module__, and Python 3.12 and later say so at import.
        warnings.filterwarnings("ignore", message=".*has no __module__ attribute", category=DeprecationWarning)
        import faiss

    return faiss


class Vectors:
    """The vectors that one embedder made of one store's texts, in `folder`/vectors.faiss."""

    def __init__(self, folder: Path, store: Store, embedder: str) -> None:
        self._file, self._manifest = folder / "vectors.faiss", folder / "vectors.json"
        self._store, self._embedder = store, embedder
        self._lock = threading.Lock()
        self._index: Any = None
        self._mark = 0
        self._saved_mark = 0
        self._read()

    def __len__(self) -> int:
        """How many vectors can be searched, as of the last search."""
        return 0 if self._index is None else int(self._index.ntotal)

    def has_any(self) -> bool:
        """Whether a search could find anything: a query is not worth embedding if not."""
        if not len(self):
            with self._lock:
                self._catch_up()
        return len(self) > 0

    def search(self, vector: NDArray[np.float32], tier: Tier, *, least: float) -> list[tuple[int, float]]:
        """(id, similarity) of every vector of `tier` at least `least` like `vector`, shape (dimension,); best first.

        Of equal similarities the higher id comes first.
        """
        with self._lock:
            self._catch_up()
            if self._index is None or self._index.d != vector.shape[0]:
                return []
            query = np.ascontiguousarray(vector, dtype=np.float32)[np.newaxis]
            # FAISS leaves out what equals the radius, so the radius is the next number below.
            radius = float(np.nextafter(np.float32(least), np.float32(-2)))
            _, similarities, keys = self._index.range_search(query, radius)
        ours = keys % 2 == _TIER_BIT[tier]
        items, similarities = keys[ours] // 2, similarities[ours]
        order = np.lexsort((-items, -similarities))
        return list(zip(items[order].tolist(), similarities[order].tolist(), strict=True))

    def save(self, *, least: int = _WORTH_SAVING) -> None:
        """Write the index if at least `least` vectors were stored since it was written: the table has the others."""
        with self._lock:
            self._catch_up()
            if self._index is None or self._mark - self._saved_mark < least:
                return
            data = _faiss().serialize_index(self._index).tobytes()
            write_whole(self._file, data)
            Manifest(
                store_id=self._store.store_id,
                made_by=self._embedder,
                marks={"vectors": self._mark},
                count=int(self._index.ntotal),
                tail=self._tail(self._mark),
                check=zlib.crc32(data),
            ).write(self._manifest)
            self._saved_mark = self._mark

    def _read(self) -> None:
        manifest = Manifest.read(self._manifest)
        if manifest is None or not manifest.fits(self._store.store_id, self._embedder):
            return
        try:
            data = self._file.read_bytes()
        except OSError as error:
            _log.debug("no vector index: %s", error)
            return
        # FAISS trusts the bytes that it reads, so damage is found before it sees them.
        if zlib.crc32(data) != manifest.check or manifest.tail != self._tail(manifest.marks["vectors"]):
            _log.debug("%s is not what its manifest says; it is made again from the store", self._file)
            return
        self._index = _faiss().deserialize_index(np.frombuffer(data, dtype=np.uint8))
        self._mark = self._saved_mark = manifest.marks["vectors"]

    def _tail(self, mark: int) -> int:
        rows = self._store.committed("SELECT vector FROM vectors WHERE id = ?", [mark])
        return zlib.crc32(rows[0][0]) if rows else -1

    def _catch_up(self) -> None:
        sql = "SELECT id, tier, item, vector FROM vectors WHERE embedder = ? AND id > ? ORDER BY id"
        rows = self._store.committed(sql, [self._embedder, self._mark])
        if rows:
            self._add(rows)
            self._mark = rows[-1][0]

    def _add(self, rows: list[Row]) -> None:
        vectors = np.stack([np.frombuffer(vector, dtype="<f4") for *_, vector in rows]).astype(np.float32)
        keys = np.array([2 * item + _TIER_BIT[tier] for _, tier, item, _ in rows], dtype=np.int64)
        if self._index is None:
            faiss = _faiss()
            # One thread: 100,000 vectors take milliseconds, and the cores belong to the model.
            faiss.omp_set_num_threads(1)
            self._index = faiss.IndexIDMap(faiss.IndexFlatIP(vectors.shape[1]))
        self._index.add_with_ids(vectors, keys)
