"""Comparer: cosines of texts, whose vectors are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from embedders import Watched

from localmem.events import Kind
from localmem.memory.comparing import Comparer
from localmem.memory.indexing import Indexer
from localmem.memory.store import Store


@pytest.fixture
def embedder() -> Watched:
    return Watched()


@pytest.fixture
def indexer(tmp_path: Path, embedder: Watched) -> Iterator[Indexer]:
    store = Store.open(tmp_path / "a.duckdb")
    indexer = Indexer.open(store, tmp_path, embedder)
    store.append(Kind.USER, "x")
    yield indexer
    indexer.close()
    store.close()


def test_likeness_is_the_cosine_of_vectors_that_are_kept(indexer: Indexer, embedder: Watched) -> None:
    comparer = Comparer(indexer)
    assert comparer.likeness("tea", ["green tea"]) is None, "nothing is loaded yet, and nobody waits"
    assert comparer.vector("tea") is None
    indexer.flush()
    alike = comparer.likeness("green tea", ["tea", "green tea", "mountains", "tea"])
    assert alike is not None
    assert alike.shape == (4,)
    assert alike[1] == pytest.approx(1.0)
    assert alike[0] == alike[3]
    assert alike[2] < alike[0] < alike[1]
    known = list(embedder.texts)
    assert comparer.likeness("tea", ["mountains", "green tea"]) is not None
    vector = comparer.vector("tea")
    assert vector is not None
    assert np.linalg.norm(vector) == pytest.approx(1.0)
    assert embedder.texts == known, "none is embedded twice"
    assert comparer.likeness("tea", []) is not None


def test_of_vectors_that_nobody_asks_for_any_more_few_are_kept(
    indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localmem.memory.comparing._KEPT", 8)
    indexer.flush()
    comparer = Comparer(indexer)
    for n in range(30):
        alike = comparer.likeness(f"message {n}", [f"line {n}", "line"])
        assert alike is not None
    assert len(comparer._kept) <= 8


def test_a_broken_embedder_knows_no_likeness(indexer: Indexer, embedder: Watched) -> None:
    indexer.flush()
    embedder.broken = True
    assert Comparer(indexer).likeness("tea", ["coffee"]) is None
