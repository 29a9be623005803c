"""Indexer: embeds texts in the background, and answers what matches a query, by words and by meaning.

Until a text is embedded it is found by its words only, and the answer says so; without an embedder, or with one that
cannot be loaded, that is how it stays. The embedder is loaded once there is something to embed, or when told to.
Nothing here waits for the model that talks: it asks for quiet by `paused`, and a text takes tens of milliseconds.

Knows ids and texts, not what they are texts of.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from localmem.errors import ModelError, StoreError
from localmem.memory.keywords import Keywords
from localmem.memory.records import storable
from localmem.memory.search import SIMILARITY, notes
from localmem.memory.store import Row, Store, Tier
from localmem.memory.vectors import Vectors
from localmem.protocols import Embedder

_log = logging.getLogger(__name__)

_FLUSH_BATCH = 32
#: How long a search may stand behind a text that is being embedded, and how long closing waits for one.
_PATIENCE_S = 0.25
_JOIN_S = 2.0

_UNEMBEDDED = (
    "FROM texts t WHERE NOT EXISTS "
    "(SELECT 1 FROM vectors v WHERE v.tier = t.tier AND v.item = t.item AND v.embedder = ?)"
)


@dataclass(frozen=True, slots=True)
class Matches:
    """The ids of the texts that match a query, best first, by words and by meaning; `note` says what was not asked."""

    by_keyword: list[int]
    by_vector: list[int]
    note: str = ""


class Indexer:
    """The indexes of one store, and the embedder for them. Closes these, but not the store."""

    def __init__(self, store: Store, keywords: Keywords, vectors: Vectors | None, embedder: Embedder | None) -> None:
        self._store, self._keywords = store, keywords
        self._vectors, self._embedder = vectors, embedder
        self._embedding = threading.Lock()
        self._state = threading.Condition()
        self._pauses = 0
        self._closing = False
        self._wanted, self._load_wanted = True, False
        self._loaded = False
        self._failure: str | None = None
        self._thread: threading.Thread | None = None
        store.listeners.append(self._wake)

    @classmethod
    def open(cls, store: Store, folder: Path, embedder: Embedder | None) -> Indexer:
        """With its indexes in `folder`, which is safe to delete while the agent is closed."""
        vectors = Vectors(folder, store, embedder.name) if embedder is not None else None
        return cls(store, Keywords(folder, store), vectors, embedder)

    def close(self) -> None:
        """Keep what was indexed, and leave what was not for the next time. Does not wait for a long text."""
        with self._state:
            if self._closing:
                return
            self._closing = True
            self._state.notify_all()
        self._store.listeners.remove(self._wake)
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)
        # An embedder with a process of its own ends it, and with it the thread's wait: loading takes seconds.
        getattr(self._embedder, "close", lambda: None)()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
        self._keywords.close()
        if self._vectors is not None:
            self._vectors.save()

    # -- searching

    def match(self, tier: Tier, query: str, among: NDArray[np.int64], *, wait: bool = False) -> Matches:
        """What of the ids `among` matches `query`. With `wait`, loads the embedder first if need be."""
        ids, query = set(among.tolist()), storable(query)
        by_keyword = [id for id, _ in self._keywords.search(query, tier) if id in ids]
        if self._vectors is None:
            return Matches(by_keyword, [])
        note = _unembedded_note(len(ids & self._pending(tier)))
        if not self._vectors.has_any():
            return Matches(by_keyword, [], notes(self._failure_note(), note))
        vector = self.query_vector(query, wait)
        if vector is None:
            return Matches(by_keyword, [], self._failure_note() or "found by keyword only: still loading the embedder")
        found = self._vectors.search(vector, tier, least=SIMILARITY)
        return Matches(by_keyword, [id for id, _ in found if id in ids], note)

    def query_vector(self, text: str, wait: bool = False) -> NDArray[np.float32] | None:
        """Shape (dimension,). None if the embedder is not there; or not loaded, or busy, and `wait` is False."""
        vectors = self.vectors([text], wait)
        return None if vectors is None else vectors[0]

    def vectors(self, texts: list[str], wait: bool = False) -> NDArray[np.float32] | None:
        """Shape (len(texts), dimension), of texts that need not be stored. None as by query_vector."""
        if self._embedder is None or self._failure:
            return None
        if not self._loaded and not wait:
            self._wake(load=True)
            return None
        if not self._embedding.acquire(timeout=-1 if wait else _PATIENCE_S):
            return None
        try:
            return self._embed(texts)
        except ModelError:
            return None
        finally:
            self._embedding.release()

    def is_near(
        self, tier: Tier, vector: NDArray[np.float32], among: NDArray[np.int64], *, least: float
    ) -> bool | None:
        """Whether the text of one of the ids `among` is `least` like `vector`.

        None if that cannot be told: none is, but not all are embedded.
        """
        near = [] if self._vectors is None else [id for id, _ in self._vectors.search(vector, tier, least=least)]
        if np.isin(among, near).any():
            return True
        return False if self._pending(tier).isdisjoint(among.tolist()) else None

    # -- embedding

    @property
    def pending(self) -> int:
        """How many texts are not embedded yet; 0 without an embedder."""
        if self._embedder is None:
            return 0
        count: int = self._store.committed(f"SELECT count(*) {_UNEMBEDDED}", [self._name])[0][0]
        return count

    def _pending(self, tier: Tier) -> frozenset[int]:
        rows = self._store.committed(f"SELECT t.item {_UNEMBEDDED} AND t.tier = ?", [self._name, tier])
        return frozenset(id for (id,) in rows)

    @property
    def ready(self) -> bool:
        """A query can be embedded without delay."""
        return self._loaded and self._failure is None

    @property
    def failure(self) -> str | None:
        """Why nothing can be embedded, in one line."""
        return self._failure

    def start(self) -> None:
        """Embed in the background what is not embedded, now and after each commit."""
        if self._embedder is not None and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="localmem-embedding", daemon=True)
            self._thread.start()

    def load(self) -> None:
        """Have the embedder loaded in the background before it is needed: that takes seconds."""
        self._wake(load=True)

    def pause(self) -> None:
        """Begin no further text until as many `resume` as `pause`. Returns at once."""
        with self._state:
            self._pauses += 1

    def resume(self) -> None:
        with self._state:
            self._pauses -= 1
            self._state.notify_all()

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def flush(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Embed all that is pending, here and now; how many texts that was. `progress` gets (done, total).

        Stops early, with `failure` set, if the embedder cannot be loaded.
        """
        done, total = 0, self.pending
        while batch := self._embed_next(_FLUSH_BATCH):
            done += batch
            if progress is not None:
                progress(done, max(done, total))
        return done

    @property
    def _name(self) -> str:
        return self._embedder.name if self._embedder is not None else ""

    def _wake(self, *, load: bool = False) -> None:
        with self._state:
            self._wanted = True
            self._load_wanted = self._load_wanted or load
            self._state.notify_all()

    def _work(self) -> None:
        while self._wait_for_work():
            if self._load_wanted and not self._loaded:
                with self._embedding, suppress(ModelError):
                    self._embed([""])
            try:
                # One text at a time: a search or a pause never stands behind more than that.
                if self._embed_next(1, beside_talk=True):
                    self._wake()
            except StoreError as error:  # a full disk, say: what was said is safe, and search says what it lacks
                self._failure = str(error)

    def _wait_for_work(self) -> bool:
        with self._state:
            self._state.wait_for(lambda: self._closing or (self._wanted and not self._pauses))
            self._wanted = False
            return not self._closing and self._failure is None

    def _embed_next(self, most: int, *, beside_talk: bool = False) -> int:
        """Embed and store the newest texts that are not embedded, at most `most`; how many there were.

        With `beside_talk`, a pause that began since the thread woke up is heeded too: the texts are left for later.
        """
        if self._embedder is None or self._failure or self._closing:
            return 0
        # Held from the choice of the texts to their storing, so that no text is embedded twice.
        with self._embedding:
            try:
                rows = self._unembedded(most)
                if rows and beside_talk and self._pauses:
                    self._wake()
                elif rows:
                    self._store_vectors(rows, self._embed([text for *_, text in rows]))
                return len(rows)
            except ModelError:
                return 0
            except StoreError:
                # The file was closed while a long text was being embedded: it stays pending.
                if not self._closing:
                    raise
                return 0

    def _store_vectors(self, rows: list[Row], vectors: NDArray[np.float32]) -> None:
        if not self._closing:
            embedded = [(tier, item, vector) for (tier, item, _), vector in zip(rows, vectors, strict=True)]
            self._store.add_vectors(self._name, embedded)

    def _unembedded(self, most: int) -> list[Row]:
        # What was said goes before what was loaded: a folder of documents takes minutes, a message comes up at once.
        sql = f"SELECT t.tier, t.item, t.text {_UNEMBEDDED} ORDER BY t.tier = 'archival', t.item DESC LIMIT ?"
        return self._store.committed(sql, [self._name, most])

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        assert self._embedder is not None
        try:
            vectors = self._embedder.embed(texts)
        except ModelError as error:
            self._failure = str(error)
            _log.debug("no embedder: %s", error)
            raise
        self._loaded = True
        return vectors

    def _failure_note(self) -> str:
        return f"found by keyword only: {self._failure}" if self._failure else ""


def _unembedded_note(count: int) -> str:
    if not count:
        return ""
    texts = "1 text is" if count == 1 else f"{count} texts are"
    return f"{texts} not embedded yet and can be found by keyword only"
