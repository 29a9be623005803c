"""Archival: passages, documents and their versions, and where a hit comes from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from localmem.errors import FunctionError
from localmem.events import Kind
from localmem.memory.archival import Archival, Document, Passage
from localmem.memory.embedder import HashEmbedder
from localmem.memory.indexing import Indexer
from localmem.memory.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "a.duckdb")
    yield store
    store.close()


@pytest.fixture
def archival(store: Store, tmp_path: Path) -> Iterator[Archival]:
    indexer = Indexer.open(store, tmp_path, HashEmbedder())
    yield Archival(store, indexer)
    indexer.close()


def document(*texts: str, digest: str = "1", name: str = "notes.md", path: str = "/home/ada/notes.md") -> Document:
    return Document(name, path, digest, [Passage(text, 10 * n + 1, 10 * n + 5) for n, text in enumerate(texts)])


def found(archival: Archival, query: str = "") -> list[tuple[str, int | str]]:
    return [(hit.text, hit.source) for hit in archival.search(query, page_size=99).hits]


def test_what_the_agent_stored_is_found_with_its_event(archival: Archival, store: Store) -> None:
    before_any_event = archival.insert(" Lisbon has trams.\n")
    event = store.append(Kind.USER, "hi").id
    archival.insert("Porto has wine.")
    assert found(archival, "lisbon") == [("Lisbon has trams.", "archival")]
    assert found(archival, "wine") == [("Porto has wine.", event)]
    assert before_any_event == 1
    assert len(archival) == 2
    with pytest.raises(FunctionError):
        archival.insert(" \n")


def test_equal_texts_are_stored_once_and_keep_their_sources(archival: Archival, store: Store) -> None:
    first = store.append(Kind.USER, "1").id
    id = archival.insert("Lisbon has trams.")
    second = store.append(Kind.USER, "2").id
    assert archival.insert("Lisbon has trams.") == id
    assert archival.add_document(document("Lisbon has trams.", "Porto has wine.", "Porto has wine.")) == 1
    assert len(archival) == 2
    assert found(archival, "trams") == [("Lisbon has trams.", "/home/ada/notes.md:1-5")]
    assert archival.add_document(document("nothing", digest="2")) == 1
    assert found(archival, "trams") == [("Lisbon has trams.", second)]
    store.move_head(first)
    assert found(archival, "trams") == [("Lisbon has trams.", first)]
    store.move_head(None)
    assert found(archival, "trams") == []


def test_a_changed_document_takes_the_place_of_the_old_version(archival: Archival) -> None:
    assert archival.add_document(document("one", "two")) == 2
    assert archival.add_document(document("one", "two")) == 0
    assert archival.add_document(document("two", "three", digest="2")) == 1
    assert found(archival) == [("two", "/home/ada/notes.md:1-5"), ("three", "/home/ada/notes.md:11-15")]
    assert found(archival, "one") == []
    assert [(info.name, info.passages) for info in archival.documents()] == [("notes.md", 2)]
    assert archival.add_document(document("one", "two")) == 0
    assert [text for text, _ in found(archival)] == ["one", "two"]


def test_documents_are_told_apart_by_path_and_searched_by_name(archival: Archival) -> None:
    archival.add_document(document("apple a", "shared", name="a.md", path="/a.md"))
    archival.add_document(document("apple b", "shared", name="b.md", path="/b.md"))
    archival.insert("apple c")
    assert [info.path for info in archival.documents()] == ["/a.md", "/b.md"]
    assert len(archival) == 4
    assert archival.search("apple").total == 3
    assert [hit.source for hit in archival.search("apple", document="b.md").hits] == ["/b.md:1-5"]
    assert [hit.source for hit in archival.search(document="a.md").hits] == ["/a.md:1-5", "/a.md:11-15"]
    assert archival.search(document="none").total == 0


def test_documents_stay_wherever_the_head_moves_unless_tied(archival: Archival, store: Store) -> None:
    store.append(Kind.USER, "1")
    archival.add_document(document("apple"))
    archival.add_document(document("pear", path="message 1"), tied=True)
    assert sorted(text for text, _ in found(archival)) == ["apple", "pear"]
    store.move_head(None)
    assert [text for text, _ in found(archival)] == ["apple"]
    assert [info.path for info in archival.documents()] == ["/home/ada/notes.md"]


@pytest.mark.parametrize(
    ("passage", "source"),
    [
        (Passage("x", 3, 3), "/d:3"), (Passage("x", 3, 9), "/d:3-9"), (Passage("x", 3), "/d:3"),
        (Passage("x", page=3), "/d p. 3"), (Passage("x"), "/d"),
    ],
)  # fmt: skip
def test_sources(archival: Archival, passage: Passage, source: str) -> None:
    archival.add_document(Document("d", "/d", "1", [passage]))
    assert found(archival) == [("x", source)]


def test_pages_stay_the_same_while_documents_change(archival: Archival) -> None:
    archival.add_document(document(*(f"apple {n}" for n in range(12))))
    everything = found(archival, "apple")
    first = archival.search("apple")
    archival.add_document(document(*(f"apple {n}" for n in range(20, 40)), digest="2"))
    pages = [first] + [archival.search("apple", page=n, until=first.newest) for n in (2, 3)]
    assert [(hit.text, hit.source) for page in pages for hit in page.hits] == everything
    assert [page.total for page in pages] == [12] * 3
    assert archival.search("apple").total == 20


def test_a_failed_transaction_stores_nothing(archival: Archival, store: Store) -> None:
    def fail() -> None:
        with store.transaction():
            archival.insert("apple")
            archival.add_document(document("pear"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (len(archival), archival.documents(), found(archival, "apple pear")) == (0, [], [])
    archival.insert("plum")
    assert [text for text, _ in found(archival, "apple plum")] == ["plum"]


def test_a_large_document_is_stored_quickly_and_whole(archival: Archival) -> None:
    assert archival.add_document(document(*(f"passage number {n}" for n in range(1000)))) == 1000
    assert (len(archival), archival.documents()[0].passages) == (1000, 1000)
    assert archival.search("passage number 777").hits[0].text == "passage number 777"
