"""Keywords: what is found, that no query is syntax, and that the index on disk is only ever a cache."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localmem.errors import StoreError
from localmem.events import Kind
from localmem.memory.keywords import Keywords
from localmem.memory.store import Store

TEXTS = [
    "I moved to Lisbon last year and I love running along the river.",
    "We met at the Café de Flore with Zoë.",
    "Меня зовут Анна, я живу в Москве.",
    "私は東京都に住んでいます。猫が好きです。",
    "서울에서 살고 있습니다",
    "ฉันชอบกินส้มตำ",
    "My cats are called Siemens and O'Malley; see https://example.org/a_b?c=1",
    "Ströme fließen. ＦＵＬＬ width, ﬁne.",
    "Who are you?",
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "a.duckdb")
    yield store
    store.close()


@pytest.fixture
def keywords(store: Store, tmp_path: Path) -> Iterator[Keywords]:
    with store.transaction():
        for text in TEXTS:
            store.append(Kind.USER, text)
    keywords = Keywords(tmp_path, store)
    yield keywords
    keywords.close()


def ids(keywords: Keywords, query: str) -> list[int]:
    return [id for id, _ in keywords.search(query, "recall")]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("lisbon", 1), ("LISBON?", 1), ("run", 1), ("rivers", 1), ("cafe", 2), ("CAFÉ", 2), ("cafe\u0301", 2),
        ("Zoe", 2), ("Анна", 3), ("москве", 3), ("東京", 4), ("京都", 4), ("猫", 4), ("東京に行きたい", 4), ("서울", 5),
        ("ส้มตำ", 6),
        ("siemens", 7), ("cat", 7), ("malley", 7), ("example.org", 7), ("fließen", 8), ("fliessen", 8), ("full", 8),
        ("fine", 8), ("who are you", 9), ("What is the name of the river?", 1),
    ],
)  # fmt: skip
def test_found(keywords: Keywords, query: str, found: int) -> None:
    assert ids(keywords, query)[:1] == [found]


@pytest.mark.parametrize(
    "query",
    ["", " ", "?", "🎉", '"(((', "AND OR NOT", "text:lisbonne", "recall_words:*", "*", "[a TO z]", "\\", "\0", "\ud800",
     "x" * 10_000, "zz^3 ~2 +qq -ww"],
)  # fmt: skip
def test_not_found_and_not_an_error(keywords: Keywords, query: str) -> None:
    assert ids(keywords, query) == []


def test_operators_are_words(keywords: Keywords) -> None:
    assert ids(keywords, "NOT lisbon") == [1]
    assert ids(keywords, '-lisbon "москве"^5') == [3, 1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(), max_size=80))
def test_any_text_is_a_query(keywords: Keywords, query: str) -> None:
    assert set(ids(keywords, query)) <= set(range(1, 10))


def test_a_query_as_long_as_a_text_is_fast_enough_to_ask(keywords: Keywords) -> None:
    assert ids(keywords, "lisbon " + " ".join(f"w{n}" for n in range(10_000))) == [1]


def test_the_exact_word_comes_before_its_relatives(store: Store, tmp_path: Path) -> None:
    for text in ("hope is large and old", "hopes are large and old", "hoping is large and old"):
        store.append(Kind.USER, text)
    keywords = Keywords(tmp_path, store)
    assert ids(keywords, "hopes")[0] == 2
    assert len(ids(keywords, "hopes")) == 3
    keywords.close()


def test_equal_scores_come_newest_first(store: Store, tmp_path: Path) -> None:
    for _ in range(5):
        store.append(Kind.USER, "the same words")
    keywords = Keywords(tmp_path, store)
    assert ids(keywords, "words") == [5, 4, 3, 2, 1]
    keywords.close()


def test_tiers_are_apart(keywords: Keywords, store: Store) -> None:
    store.insert("passages", [(1, "digest", "Lisbon has trams"), (2, "digest2", "Porto has wine")])
    assert ids(keywords, "lisbon porto") == [1]
    assert [id for id, _ in keywords.search("lisbon porto", "archival")] == [2, 1]


def test_what_is_not_committed_is_not_found(keywords: Keywords, store: Store) -> None:
    with suppress(KeyError), store.transaction():
        store.append(Kind.USER, "zanzibar")
        assert ids(keywords, "zanzibar") == []
        raise KeyError
    store.append(Kind.USER, "timbuktu")
    assert ids(keywords, "zanzibar") == []
    assert ids(keywords, "timbuktu") == [10]


def test_it_catches_up_when_opened_again(keywords: Keywords, store: Store, tmp_path: Path) -> None:
    ids(keywords, "x")
    keywords.close()
    store.append(Kind.USER, "timbuktu")
    again = Keywords(tmp_path, store)
    assert len(again) == 9
    assert ids(again, "timbuktu lisbon") == [10, 1]
    assert len(again) == 10
    again.close()


def damage(tmp_path: Path, how: str) -> None:
    folder, manifest = tmp_path / "keywords", tmp_path / "keywords.json"
    if how == "deleted":
        shutil.rmtree(folder)
    if how == "manifest deleted":
        manifest.unlink()
    if how == "manifest torn":
        manifest.write_bytes(manifest.read_bytes()[:20])
    if how == "emptied":
        for file in folder.iterdir():
            file.write_bytes(b"")
    if how == "flipped":
        for file in folder.iterdir():
            file.write_bytes(bytes(byte ^ 0x5A for byte in file.read_bytes()))
    if how == "segment lost":
        for file in folder.glob("*.term"):
            file.unlink()
    if how in ("foreign", "older format", "ahead of its manifest", "ahead of the store", "of a later life"):
        data = json.loads(manifest.read_bytes())
        change = {
            "foreign": {"store_id": "another"},
            "older format": {"format": 0},
            "ahead of its manifest": {"count": 8},
            "of a later life": {"tail": data["tail"] + 1},
            "ahead of the store": {"marks": {"recall": 99, "archival": 5}},
        }
        manifest.write_text(json.dumps(data | change[how]))


@pytest.mark.parametrize(
    "how",
    ["deleted", "manifest deleted", "manifest torn", "emptied", "flipped", "segment lost", "foreign", "older format",
     "ahead of its manifest", "ahead of the store", "of a later life"],
)  # fmt: skip
def test_a_cache_that_does_not_fit_is_made_again(keywords: Keywords, store: Store, tmp_path: Path, how: str) -> None:
    ids(keywords, "x")
    keywords.close()
    damage(tmp_path, how)
    again = Keywords(tmp_path, store)
    assert ids(again, "lisbon") == [1]
    store.append(Kind.USER, "lisbon again")
    assert sorted(ids(again, "lisbon")) == [1, 10]
    again.close()


def test_a_folder_that_cannot_be_written_is_one_line(store: Store, tmp_path: Path) -> None:
    keywords = Keywords(tmp_path, store)
    shutil.rmtree(tmp_path / "keywords")
    store.append(Kind.USER, "x")
    with pytest.raises(StoreError, match="cannot write"):
        keywords.search("x", "recall")
