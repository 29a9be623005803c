"""Archival storage: passages that the agent wrote down or that documents brought, searchable by words and meaning.

A text is stored once, however often it comes; each place that it comes from is a source. What the agent wrote comes and
goes with the event under which it was written. The newest version of a document counts, the older ones are kept unseen.

Knows nothing of files or how they are cut into passages: `documents.py` does, and hands over `Document`s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from localmem.errors import FunctionError
from localmem.memory.indexing import Indexer
from localmem.memory.records import from_utc, storable, to_utc
from localmem.memory.search import Hit, Page, Ranking, Rankings, fuse, one_page
from localmem.memory.store import Store

_SOURCES = "FROM passage_sources s LEFT JOIN documents d ON d.id = s.document"


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document: its text, and the lines (from 1, inclusive) or the page that it stands on."""

    text: str
    first_line: int | None = None
    last_line: int | None = None
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A document to be stored. `path` tells one from another, `digest` one version of it from the next."""

    name: str
    path: str
    digest: str
    passages: Sequence[Passage]


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A document that is stored, as of its newest version; `passages` is their number."""

    name: str
    path: str
    passages: int
    time: datetime


class Archival:
    """The passages of one agent, as the head of its store sees them."""

    def __init__(self, store: Store, indexer: Indexer) -> None:
        self._store, self._indexer = store, indexer
        self._rankings = Rankings()

    def __len__(self) -> int:
        """How many passages a search can find."""
        count: int = self._store.query(f"SELECT count(DISTINCT s.passage) {_SOURCES} WHERE {self._visible_sql()}")[0][0]
        return count

    # -- writing

    def insert(self, text: str) -> int:
        """Store a passage of the agent's own; its id, which is an older one's if the text is known already."""
        text = storable(text).strip()
        if not text:
            raise FunctionError("there is no text to store; write the passage out in full")
        with self._store.transaction():
            (passage,) = self._add([Passage(text)], document=None, event=self._store.head)
        return passage

    def add_document(self, document: Document, *, tied: bool = False) -> int:
        """Store a document, or its new version in place of the one before; how many of its passages were not known.

        The same version again changes nothing. If `tied`, the document comes and goes with the head's event, as does a
        message that was too long; otherwise it stays wherever the head moves.
        """
        store, path = self._store, storable(document.path)
        with store.transaction():
            sql = f"SELECT d.digest FROM documents d WHERE d.id IN ({self._current_sql()}) AND d.path = ?"
            if store.query(sql, [path]) == [(document.digest,)]:
                return 0
            id, event = store.next_id("documents"), store.head if tied else None
            store.insert("documents", [(id, storable(document.name), path, document.digest, event, self._now())])
            known = store.next_id("passages")
            ids = self._add(document.passages, document=id, event=event)
            return sum(passage >= known for passage in set(ids))

    def _add(self, parts: Sequence[Passage], *, document: int | None, event: int | None) -> list[int]:
        """Store a source for each part, and its text where it is new; the ids of the passages."""
        store, now = self._store, self._now()
        texts = {_digest(part.text): storable(part.text) for part in parts}
        sql = "SELECT digest, id FROM passages WHERE digest IN (SELECT unnest(?))"
        ids: dict[str, int] = dict(store.query(sql, [list(texts)]))
        new = [digest for digest in texts if digest not in ids]
        ids |= {digest: id for id, digest in enumerate(new, store.next_id("passages"))}
        store.insert("passages", [(ids[digest], digest, texts[digest]) for digest in new])
        passages = [ids[_digest(part.text)] for part in parts]
        sources = enumerate(zip(passages, parts, strict=True), store.next_id("passage_sources"))
        rows = [(id, passage, document, p.first_line, p.last_line, p.page, event, now) for id, (passage, p) in sources]
        store.insert("passage_sources", rows)
        return passages

    def _now(self) -> datetime:
        return to_utc(self._store.clock())

    # -- reading

    def documents(self) -> list[DocumentInfo]:
        """The documents, in the order in which their versions were stored."""
        rows = self._store.query(
            "SELECT d.name, d.path, (SELECT count(*) FROM passage_sources s WHERE s.document = d.id), d.time "
            f"FROM documents d WHERE d.id IN ({self._current_sql()}) ORDER BY d.id"
        )
        return [DocumentInfo(name, path, passages, from_utc(time)) for name, path, passages, time in rows]

    def search(
        self,
        query: str = "",
        *,
        document: str | None = None,
        page: int = 1,
        page_size: int = 5,
        until: int | None = None,
        wait: bool = False,
    ) -> Page:
        """One page of the passages that match `query`, best first; of all passages, in order, if it is empty.

        `document` is the name of the only documents to look in. `until` is the `newest` of the first page: later pages
        are then cut from the first one's ranking. With `wait`, an embedder that is not loaded yet is waited for.
        """
        newest = until if until is not None else self._store.next_id("passages") - 1
        key = (query, document, newest, self._store.moves)
        ranking = self._rankings.get(key) if until is not None else None
        if ranking is None:
            ranking = self._rank(query, self._among(document, newest), wait=wait)
            self._rankings.keep(key, ranking)
        hits = [self._hit(id, score, document) for id, score in ranking.page(page, page_size)]
        return one_page(hits, ranking, page=page, page_size=page_size, newest=newest)

    def is_near(self, vector: NDArray[np.float32], *, least: float) -> bool | None:
        """Whether a passage is `least` like `vector`, as by the indexer."""
        among = self._among(None, self._store.next_id("passages") - 1)
        return self._indexer.is_near("archival", vector, among, least=least)

    def _rank(self, query: str, among: NDArray[np.int64], *, wait: bool) -> Ranking:
        if not query.strip():
            return Ranking(tuple((id, 0.0) for id in among.tolist()))
        matches = self._indexer.match("archival", query, among, wait=wait)
        return Ranking(tuple(fuse(matches.by_keyword, matches.by_vector)), matches.note)

    def _among(self, document: str | None, newest: int) -> NDArray[np.int64]:
        """The ids of the passages that may be hits, ascending."""
        named, parameters = ("AND d.name = ?", [newest, storable(document)]) if document is not None else ("", [newest])
        return self._store.ids(
            f"SELECT DISTINCT s.passage {_SOURCES} WHERE {self._visible_sql()} AND s.passage <= ? {named} "
            "ORDER BY s.passage",
            parameters,
        )

    def _hit(self, id: int, score: float, document: str | None) -> Hit:
        # A later page may hold a passage whose document was replaced since: it still says where it came from.
        rows = self._store.query(
            f"SELECT p.text, s.time, s.event, d.path, s.first_line, s.last_line, s.page {_SOURCES} "
            "JOIN passages p ON p.id = s.passage WHERE s.passage = ? "
            f"ORDER BY {self._visible_sql()} DESC, (d.name = ?) DESC NULLS LAST, s.id DESC LIMIT 1",
            [id, storable(document or "")],
        )
        text, time, event, path, first_line, last_line, page = rows[0]
        return Hit(text, score, from_utc(time), _source(path, first_line, last_line, page, event))

    def _current_sql(self) -> str:
        """The ids of the newest versions of the documents that the head can see."""
        return f"SELECT max(id) FROM documents WHERE {self._store.tied_sql('event')} GROUP BY path"

    def _visible_sql(self) -> str:
        """The condition that the head can see source `s`, and no newer version of its document."""
        current = f"(s.document IS NULL OR s.document IN ({self._current_sql()}))"
        return f"({self._store.tied_sql('s.event')} AND {current})"


def _digest(text: str) -> str:
    return hashlib.sha256(storable(text).encode()).hexdigest()


def _source(path: str | None, first: int | None, last: int | None, page: int | None, event: int | None) -> str | int:
    if path is None:
        return event if event is not None else "archival"
    if page is not None:
        return f"{path} p. {page}"
    if first is None:
        return path
    return f"{path}:{first}" if last in (None, first) else f"{path}:{first}-{last}"
