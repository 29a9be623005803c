"""Indexer: embedding beside the talk, never in its way, and never a crash."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from embedders import Watched
from numpy.typing import NDArray

from localmem.errors import StoreError
from localmem.events import Kind
from localmem.memory.embedder import HashEmbedder
from localmem.memory.indexing import Indexer
from localmem.memory.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "a.duckdb")
    yield store
    store.close()


@pytest.fixture
def embedder() -> Watched:
    return Watched()


@pytest.fixture
def indexer(store: Store, tmp_path: Path, embedder: Watched) -> Iterator[Indexer]:
    indexer = Indexer.open(store, tmp_path, embedder)
    yield indexer
    embedder.go.set()
    indexer.close()


def eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.005)


def everything(store: Store) -> NDArray[np.int64]:
    return store.ids("SELECT id FROM events ORDER BY id")


def test_flush_embeds_all_and_says_how_far_it_is(store: Store, indexer: Indexer, embedder: Watched) -> None:
    for n in range(70):
        store.append(Kind.USER, f"t{n}")
    store.append(Kind.THOUGHT, "never")
    store.insert("passages", [(1, "d", "passage")])
    progress: list[tuple[int, int]] = []
    assert indexer.pending == 71
    assert indexer.flush(lambda done, total: progress.append((done, total))) == 71
    assert progress == [(32, 71), (64, 71), (71, 71)]
    assert embedder.texts == [f"t{n}" for n in reversed(range(70))] + ["passage"]
    assert (indexer.pending, indexer.flush()) == (0, 0)


def test_the_background_embeds_what_is_committed(store: Store, indexer: Indexer, embedder: Watched) -> None:
    store.append(Kind.USER, "before")
    indexer.start()
    indexer.start()
    eventually(lambda: indexer.pending == 0)
    with store.transaction():
        store.append(Kind.USER, "inside")
        time.sleep(0.05)
        assert "inside" not in embedder.texts
    eventually(lambda: indexer.pending == 0)
    assert embedder.texts == ["before", "inside"]
    assert indexer.ready


def test_nothing_is_loaded_before_there_is_something_to_embed(indexer: Indexer, embedder: Watched) -> None:
    indexer.start()
    assert indexer.match("recall", "apple", np.array([1])).note == ""
    time.sleep(0.05)
    assert embedder.texts == []
    assert not indexer.ready


def test_it_is_quiet_while_paused(store: Store, indexer: Indexer, embedder: Watched) -> None:
    indexer.start()
    with indexer.paused():
        indexer.pause()
        store.append(Kind.USER, "a")
        time.sleep(0.05)
        assert embedder.texts == []
    time.sleep(0.05)
    assert embedder.texts == [], "paused twice, resumed once"
    indexer.resume()
    eventually(lambda: embedder.texts == ["a"])


def test_a_search_does_not_wait_for_the_embedder_to_load(store: Store, tmp_path: Path, embedder: Watched) -> None:
    store.append(Kind.USER, "apple pie")
    first = Indexer.open(store, tmp_path, HashEmbedder())
    first.flush()
    first.close()
    embedder.go.clear()
    indexer = Indexer.open(store, tmp_path, embedder)
    indexer.start()
    matches = indexer.match("recall", "apple", everything(store))
    assert matches.by_keyword == [1]
    assert matches.by_vector == []
    assert "still loading" in matches.note
    assert embedder.entered.wait(5), "the search asked for it"
    embedder.go.set()
    eventually(lambda: indexer.ready)
    matches = indexer.match("recall", "apple", everything(store))
    assert (matches.by_keyword, matches.by_vector, matches.note) == ([1], [1], "")
    indexer.close()


def test_a_search_may_wait_for_the_embedder(store: Store, tmp_path: Path, embedder: Watched) -> None:
    store.append(Kind.USER, "apple pie")
    first = Indexer.open(store, tmp_path, HashEmbedder())
    first.flush()
    first.close()
    indexer = Indexer.open(store, tmp_path, embedder)
    assert indexer.query_vector("apple") is None
    assert indexer.match("recall", "apple", everything(store), wait=True).by_vector == [1]
    indexer.close()


def test_what_is_near_is_so_by_its_cosine(store: Store, indexer: Indexer) -> None:
    ids = [store.append(Kind.USER, text).id for text in ("green tea", "mountains")]
    indexer.flush()
    vector = indexer.query_vector("tea")
    assert vector is not None
    assert indexer.is_near("recall", vector, np.array(ids), least=0.5) is True
    assert indexer.is_near("recall", vector, np.array(ids), least=0.99) is False
    assert indexer.is_near("recall", vector, np.array(ids[1:]), least=0.5) is False
    assert indexer.is_near("recall", vector, np.array([], np.int64), least=0.5) is False
    assert indexer.is_near("archival", vector, np.array(ids), least=0.5) is False, "ids of the other tier"


def test_of_what_is_not_embedded_nobody_knows_whether_it_is_near(store: Store, indexer: Indexer) -> None:
    tea = store.append(Kind.USER, "tea").id
    indexer.flush()
    late = store.append(Kind.USER, "green tea").id
    vector = indexer.query_vector("green tea")
    assert vector is not None
    assert indexer.is_near("recall", vector, np.array([late]), least=0.5) is None
    assert indexer.is_near("recall", vector, np.array([tea, late]), least=0.5) is True
    assert indexer.is_near("recall", vector, np.array([tea]), least=0.99) is False


def test_loading_is_done_when_told_and_nobody_waits_for_it(indexer: Indexer, embedder: Watched) -> None:
    embedder.go.clear()
    indexer.start()
    indexer.load()
    assert embedder.entered.wait(5)
    assert not indexer.ready
    embedder.go.set()
    eventually(lambda: indexer.ready)


def test_closing_does_not_wait_and_what_is_pending_stays_pending(
    store: Store, tmp_path: Path, embedder: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localmem.memory.indexing._JOIN_S", 0.05)
    indexer = Indexer.open(store, tmp_path, embedder)
    embedder.go.clear()
    store.append(Kind.USER, "long")
    indexer.start()
    assert embedder.entered.wait(5)
    began = time.monotonic()
    indexer.close()
    indexer.close()
    assert time.monotonic() - began < 1
    embedder.go.set()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "localmem-embedding"]
    thread.join(5)
    again = Indexer.open(store, tmp_path, HashEmbedder())
    assert again.pending == 1
    assert again.flush() == 1
    again.close()


def test_a_missing_model_leaves_keywords_and_a_note(store: Store, indexer: Indexer, embedder: Watched) -> None:
    store.append(Kind.USER, "apple pie")
    embedder.broken = True
    indexer.start()
    eventually(lambda: indexer.failure is not None)
    assert not indexer.ready
    assert indexer.flush() == 0
    matches = indexer.match("recall", "apple", everything(store), wait=True)
    assert matches.by_keyword == [1]
    assert "there is no embedding model" in matches.note
    store.append(Kind.USER, "more")
    assert indexer.pending == 2


def test_without_an_embedder_there_are_keywords(store: Store, tmp_path: Path) -> None:
    indexer = Indexer.open(store, tmp_path, None)
    indexer.start()
    store.append(Kind.USER, "apple pie")
    matches = indexer.match("recall", "apple", everything(store), wait=True)
    assert (matches.by_keyword, matches.by_vector, matches.note) == ([1], [], "")
    assert (indexer.pending, indexer.flush(), indexer.ready) == (0, 0, False)
    indexer.close()


def test_two_embedders_are_never_mixed(store: Store, tmp_path: Path) -> None:
    store.append(Kind.USER, "apple pie")
    for embedder in (HashEmbedder(16), HashEmbedder(32), HashEmbedder(16)):
        indexer = Indexer.open(store, tmp_path, embedder)
        indexer.flush()
        assert indexer.match("recall", "apple pie", everything(store), wait=True).by_vector == [1]
        indexer.close()
    assert store.query("SELECT embedder, item FROM vectors ORDER BY id") == [("hash-16", 1), ("hash-32", 1)]


def test_flush_and_the_background_embed_each_text_once(store: Store, indexer: Indexer, embedder: Watched) -> None:
    with store.transaction():
        for n in range(200):
            store.append(Kind.USER, f"t{n}")
    indexer.start()
    indexer.flush()
    eventually(lambda: indexer.pending == 0)
    assert sorted(embedder.texts) == sorted(f"t{n}" for n in range(200))
    assert store.query("SELECT count(*), count(DISTINCT item) FROM vectors") == [(200, 200)]


def test_a_disk_that_takes_no_vectors_is_a_note_and_not_a_crash(
    store: Store, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("the disk is full; make room")

    monkeypatch.setattr(store, "add_vectors", full)
    store.append(Kind.USER, "apple pie")
    indexer.start()
    eventually(lambda: indexer.failure is not None)
    found = indexer.match("recall", "apple pie", everything(store))
    assert found.by_keyword == [1]
    assert "the disk is full" in found.note
