"""Vectors: exact similarities, and an index on disk that is only ever a cache."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from localmem.memory.store import Store
from localmem.memory.vectors import Vectors


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "a.duckdb")
    yield store
    store.close()


def unit(*values: float) -> NDArray[np.float32]:
    vector = np.array(values, dtype=np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def filled(store: Store) -> None:
    store.add_vectors("e", [("recall", 1, unit(1, 0)), ("recall", 2, unit(1, 1)), ("archival", 1, unit(0, 1))])
    store.add_vectors("other", [("recall", 9, unit(1, 0))])
    store.add_vectors("e", [("recall", 3, unit(-1, 0)), ("archival", 2, unit(1, 0)), ("recall", 4, unit(1, 0))])


def ids(vectors: Vectors, tier: str = "recall", least: float = 0.3) -> list[int]:
    assert tier in ("recall", "archival")
    return [id for id, _ in vectors.search(unit(1, 0), "recall" if tier == "recall" else "archival", least=least)]


def test_search_finds_all_that_are_alike_enough(store: Store, tmp_path: Path) -> None:
    vectors = Vectors(tmp_path, store, "e")
    assert not vectors.has_any()
    assert ids(vectors) == []
    filled(store)
    assert vectors.has_any()
    assert vectors.search(unit(1, 0), "recall", least=0.3) == [(4, 1.0), (1, 1.0), (2, pytest.approx(0.5**0.5))]
    assert ids(vectors, least=1.0) == [4, 1]
    assert ids(vectors, least=-1.0) == [4, 1, 2, 3]
    assert ids(vectors, "archival") == [2]
    assert vectors.search(unit(1, 0, 0), "recall", least=0.3) == []


def test_it_is_exact(store: Store, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    table = np.stack([unit(*random.normal(size=16)) for _ in range(300)])
    store.add_vectors("e", [("recall", n, row) for n, row in enumerate(table)])
    query = unit(*random.normal(size=16))
    similarities = table @ query
    expected = [int(n) for n in np.argsort(-similarities) if similarities[n] >= 0.25]
    assert [id for id, _ in Vectors(tmp_path, store, "e").search(query, "recall", least=0.25)] == expected


def test_what_is_saved_is_read_and_caught_up(store: Store, tmp_path: Path) -> None:
    filled(store)
    vectors = Vectors(tmp_path, store, "e")
    vectors.save()
    assert not (tmp_path / "vectors.faiss").exists(), "too few to be worth a file"
    vectors.save(least=1)
    store.add_vectors("e", [("recall", 5, unit(1, 0))])
    again = Vectors(tmp_path, store, "e")
    assert len(again) == 6
    assert ids(again) == [5, 4, 1, 2]


@pytest.mark.parametrize(
    "how", ["index lost", "index torn", "index flipped", "manifest torn", "foreign", "embedder", "ahead"]
)
def test_a_cache_that_does_not_fit_is_made_again(store: Store, tmp_path: Path, how: str) -> None:
    filled(store)
    Vectors(tmp_path, store, "e").save(least=1)
    index, manifest = tmp_path / "vectors.faiss", tmp_path / "vectors.json"
    data = json.loads(manifest.read_bytes())
    if how == "index lost":
        index.unlink()
    if how == "index torn":
        index.write_bytes(index.read_bytes()[:30])
    if how == "index flipped":
        index.write_bytes(bytes(byte ^ 0xFF for byte in index.read_bytes()))
    if how == "manifest torn":
        manifest.write_bytes(b'{"store')
    if how == "foreign":
        manifest.write_text(json.dumps(data | {"store_id": "another"}))
    if how == "embedder":
        Vectors(tmp_path, store, "other").save(least=1)
    if how == "ahead":
        manifest.write_text(json.dumps(data | {"marks": {"vectors": 99}}))
    again = Vectors(tmp_path, store, "e")
    assert len(again) == 0
    assert ids(again) == [4, 1, 2]
    again.save(least=1)
    assert len(Vectors(tmp_path, store, "e")) == 6
