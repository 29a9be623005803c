"""Keywords: a tantivy index that ranks texts by BM25. A cache of the store's texts, and the only user of tantivy.

A text is indexed twice: as English stems, which find "ran" and "running" for "run" only where Snowball says so, and as
words, so that a name in its exact form ranks above what merely shares a stem. Scripts that write no spaces are indexed
as characters and pairs of characters. A query is text, never syntax: it goes through the same analysis, word by word.

Knows nothing of events, visibility or vectors.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
import unicodedata
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localmem.errors import StoreError
from localmem.memory.manifest import Manifest
from localmem.memory.ownership import first_line
from localmem.memory.records import storable
from localmem.memory.store import Row, Store, Tier

_log = logging.getLogger(__name__)

_TIERS: tuple[Tier, ...] = ("recall", "archival")
_MADE_BY = "tantivy: stems, words, pairs"
_LONGEST_WORD = 100  # bytes; longer ones are checksums and data, and are not indexed
_MOST_TERMS = 256  # of a query; a longer one is a text, and its first words say what it is about
_HEAP = 15_000_000  # bytes; the least that tantivy takes

#: Runs of Thai, Lao, Burmese, Khmer, kana, Han and Hangul: no spaces between words, or none around particles.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff]+"
)

#: Words that say nothing about what is sought. They are indexed, and count in a query of nothing else.
STOP_WORDS = frozenset(
    """
    a about am an and any are as at be been being but by can could did do does doing for from had has have having he
    her hers him his how i if in into is it its just ll me my of on or our ours out s she should so t than that the
    their theirs them then there these they this those to too up ve was we were what when where which while who whom
    why with would you your yours
    """.split()  # noqa: SIM905
)


def _spaced(text: str, *, query: bool) -> str:
    """Composed, and with unspaced runs as their pairs of characters, and single ones too but in a query of more."""

    def grams(run: re.Match[str]) -> str:
        characters = run[0]
        pairs = [characters[i : i + 2] for i in range(len(characters) - 1)]
        singles = [] if query and pairs else list(characters)
        return f" {' '.join(pairs + singles)} "

    return UNSPACED.sub(grams, unicodedata.normalize("NFKC", text))


class _Analysis:
    """The two ways to cut a text into terms, and the schema of an index that uses them."""

    def __init__(self) -> None:
        import tantivy

        self._tantivy = tantivy
        whole = self._builder().build()
        stemmed = self._builder().filter(tantivy.Filter.stemmer("english")).build()
        self._analyzers = {"words": whole, "stems": stemmed}
        builder = tantivy.SchemaBuilder()
        builder.add_integer_field("item", fast=True)
        for tier in _TIERS:
            for name in self._analyzers:
                builder.add_text_field(f"{tier}_{name}", tokenizer_name=name, index_option="freq")
        self._schema = builder.build()

    def _builder(self) -> Any:
        make, filters = self._tantivy.TextAnalyzerBuilder, self._tantivy.Filter
        builder = make(self._tantivy.Tokenizer.simple()).filter(filters.remove_long(_LONGEST_WORD))
        return builder.filter(filters.lowercase()).filter(filters.ascii_fold())

    def open(self, folder: Path) -> Any:
        """The index in `folder`, made there if there is none. ValueError or OSError if it is damaged."""
        folder.mkdir(parents=True, exist_ok=True)
        index = self._tantivy.Index(self._schema, path=str(folder))
        for name, analyzer in self._analyzers.items():
            index.register_tokenizer(name, analyzer)
        return index

    def document(self, tier: Tier, item: int, text: str) -> Any:
        document = self._tantivy.Document()
        document.add_integer("item", item)
        spaced = _spaced(text, query=False)
        for name in self._analyzers:
            document.add_text(f"{tier}_{name}", spaced)
        return document

    def query(self, tier: Tier, text: str) -> Any:
        """Any of the terms of `text`; None if it has none."""
        spaced = _spaced(storable(text), query=True)
        words = self._analyzers["words"].analyze(spaced)
        kept = [word for word in words if word not in STOP_WORDS] or words
        term, should = self._tantivy.Query.term_query, self._tantivy.Occur.Should
        clauses = []
        for name, analyzer in self._analyzers.items():
            terms = dict.fromkeys(term for word in kept for term in analyzer.analyze(word))
            field = f"{tier}_{name}"
            clauses += [(should, term(self._schema, field, value, "freq")) for value in list(terms)[:_MOST_TERMS]]
        return self._tantivy.Query.boolean_query(clauses) if clauses else None


class Keywords:
    """The texts of one store, ranked by BM25, in `folder`/keywords. Catches up with the store when it is searched."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder, self._manifest = folder / "keywords", folder / "keywords.json"
        self._store = store
        self._lock = threading.Lock()
        self._analysis = _Analysis()
        self._writer: Any = None
        self._marks: dict[str, int] = dict.fromkeys(_TIERS, 0)
        self._index = self._read() or self._make()

    def __len__(self) -> int:
        """How many texts can be searched, as of the last search."""
        return int(self._index.searcher().num_docs)

    def search(self, query: str, tier: Tier) -> list[tuple[int, float]]:
        """(id, BM25 score) of every text of `tier` that has a word of `query`, best first, of equals the higher id.

        Any text is a query. Texts that no transaction has committed are not found.
        """
        with self._lock:
            self._catch_up()
            parsed = self._analysis.query(tier, query)
            searcher = self._index.searcher()
            if parsed is None or not searcher.num_docs:
                return []
            found = searcher.search(parsed, limit=searcher.num_docs, count=False).hits
            items = searcher.fast_field_values("item", [address for _, address in found])
        scored = [(item, score) for item, (score, _) in zip(items, found, strict=True)]
        return sorted(scored, key=lambda hit: (-hit[1], -hit[0]))

    def close(self) -> None:
        """Leave the index on disk as the store is now."""
        with self._lock:
            self._catch_up()
            if self._writer is not None:
                self._writer.wait_merging_threads()
                self._writer = None

    def _read(self) -> Any:
        """The index on disk, or None if it is not this store's, not whole, or holds what the store does not."""
        manifest = Manifest.read(self._manifest)
        if manifest is None or not manifest.fits(self._store.store_id, _MADE_BY):
            return None
        try:
            index = self._analysis.open(self._folder)
            whole = index.searcher().num_docs == manifest.count == self._count(manifest.marks)
            whole = whole and manifest.tail == self._tail(manifest.marks)
        except (OSError, ValueError) as error:
            _log.debug("%s is damaged: %s", self._folder, error)
            return None
        if not whole:
            _log.debug("%s is not what its manifest says; it is made again from the store", self._folder)
            return None
        self._marks = dict(manifest.marks)
        return index

    def _count(self, marks: Mapping[str, int]) -> int:
        sql = "SELECT count(*) FROM texts WHERE (tier = ? AND item <= ?) OR (tier = ? AND item <= ?)"
        count: int = self._store.committed(sql, [value for tier in _TIERS for value in (tier, marks[tier])])[0][0]
        return count

    def _tail(self, marks: Mapping[str, int]) -> int:
        sql = "SELECT text FROM texts WHERE (tier = ? AND item = ?) OR (tier = ? AND item = ?) ORDER BY tier"
        rows = self._store.committed(sql, [value for tier in _TIERS for value in (tier, marks[tier])])
        return zlib.crc32("\0".join(text for (text,) in rows).encode())

    def _make(self) -> Any:
        self._manifest.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)
        return self._analysis.open(self._folder)

    def _catch_up(self) -> None:
        """One commit for all texts since the last search: it costs as much for one as for a thousand."""
        sql = "SELECT tier, item, text FROM texts WHERE tier = ? AND item > ? ORDER BY item"
        rows: list[Row] = []
        for tier in _TIERS:
            rows += self._store.committed(sql, [tier, self._marks[tier]])
        if not rows:
            return
        try:
            self._add(rows)
        except (OSError, ValueError) as error:
            self._writer = None
            raise StoreError(f"cannot write {self._folder}: {first_line(error)}; make room, or delete it") from error
        self._marks |= {tier: item for tier, item, _ in rows}
        # A crash before this line leaves more texts than the manifest counts: the index is then made again.
        tail = self._tail(self._marks)
        Manifest(self._store.store_id, _MADE_BY, self._marks, len(self), tail).write(self._manifest)

    def _add(self, rows: list[Row]) -> None:
        if self._writer is None:
            self._writer = self._index.writer(heap_size=_HEAP, num_threads=1)
        for tier, item, text in rows:
            self._writer.add_document(self._analysis.document(tier, item, text))
        self._writer.commit()
        self._index.reload()
