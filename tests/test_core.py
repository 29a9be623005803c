"""Core memory: edits, limits, and edits that come and go with the head."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from localmem.errors import ConfigError, FunctionError
from localmem.events import Kind
from localmem.memory.core import Core
from localmem.memory.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "a.duckdb")
    yield store
    store.close()


@pytest.fixture
def core(store: Store) -> Core:
    core = Core(store)
    core.add("persona", "I am Ada.", limit=100, description="who you are")
    core.add("human", limit=20)
    return core


def test_blocks_come_in_the_order_in_which_they_were_added(core: Core, store: Store) -> None:
    core.set("persona", "I am Eve.")
    for reader in (core, Core(store)):
        assert reader.labels == ["persona", "human"]
        assert [block.value for block in reader] == ["I am Eve.", ""]
        assert reader["persona"].description == "who you are"
        assert len(reader) == 2
        assert "human" in reader
        assert "humans" not in reader


@pytest.mark.parametrize("label", ["", "Human", "1st", "a-b", "a b", "é", "_x", "a" * 33, "a\n"])
def test_labels_that_are_refused(core: Core, label: str) -> None:
    with pytest.raises(ConfigError):
        core.add(label, limit=10)


def test_adding_is_refused_in_one_line(core: Core) -> None:
    core.add("a" * 32, limit=1)
    for add in (lambda: core.add("human", limit=5), lambda: core.add("new", "too long", limit=5)):
        with pytest.raises(ConfigError):
            add()
    with pytest.raises(ConfigError, match="persona, human"):
        core["nobody"]


@pytest.mark.parametrize(
    ("before", "edit", "after"),
    [
        ("", lambda core: core.append("human", "a"), "a"),
        ("a", lambda core: core.append("human", "b"), "a\nb"),
        ("a", lambda core: core.append("human", ""), "a"),
        ("a", lambda core: core.append("human", "x" * 18), "a\n" + "x" * 18),
        ("cat\ncatalog", lambda core: core.replace("human", "cat", "dog"), "dog\ncatalog"),
        ("catalog\ncat", lambda core: core.replace("human", "cat", "dog"), "catalog\ndog"),
        ("a\nb\nc", lambda core: core.replace("human", "b", ""), "a\nc"),
        ("b", lambda core: core.replace("human", "b", ""), ""),
        ("a cat, a cat", lambda core: core.replace("human", "cat", "dog"), "a dog, a cat"),
        ("a\nb", lambda core: core.replace("human", "a\nb", "c"), "c"),
        ("a", lambda core: core.set("human", "x" * 20), "x" * 20),
        ("a", lambda core: core.set("human", "\udce9"), "?"),
    ],
)
def test_edits(core: Core, store: Store, before: str, edit: Callable[[Core], object], after: str) -> None:
    core.set("human", before)
    edit(core)
    assert core["human"].value == after
    assert Core(store)["human"].value == after


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda core: core.set("human", "x" * 21), "21 characters.*limit is 20"),
        (lambda core: core.append("human", "x" * 15), "room for 15 more"),
        (lambda core: core.replace("human", "line", "x" * 21), "room for 15"),
        (lambda core: core.replace("human", "absent", "x"), "does not contain 'absent'"),
        (lambda core: core.replace("human", "", "x"), "does not contain"),
    ],
)
def test_edits_that_are_refused_change_nothing(core: Core, edit: Callable[[Core], object], message: str) -> None:
    core.set("human", "line\n")
    with pytest.raises(FunctionError, match=message):
        edit(core)
    assert core["human"].value == "line\n"
    assert len(core.history("human")) == 2


def test_history_and_undo(core: Core) -> None:
    core.append("human", "a")
    core.append("human", "b")
    core.set("human", "a\nb")  # changes nothing, so it is no edit
    assert [(edit.before, edit.after) for edit in core.history("human")] == [("", ""), ("", "a"), ("a", "a\nb")]
    assert [edit.label for edit in core.history()] == ["persona", "human", "human", "human"]
    assert core.undo("human").value == "a"
    core.append("human", "c")
    assert core.undo("human").value == "a"
    assert core.undo("human").value == ""
    with pytest.raises(ConfigError, match="no edit to undo"):
        core.undo("human")
    with pytest.raises(ConfigError, match="no block"):
        core.history("nobody")


def test_edits_come_and_go_with_the_head(core: Core, store: Store) -> None:
    first = store.append(Kind.USER, "1").id
    core.append("human", "first")
    second = store.append(Kind.USER, "2").id
    core.append("human", "second")
    core.add("extra", limit=5)
    assert [edit.event for edit in core.history("human")] == [None, first, second]
    store.move_head(first)
    assert (core["human"].value, core.labels) == ("first", ["persona", "human"])
    assert len(core.history("human")) == 2
    store.append(Kind.USER, "other")
    core.append("human", "other")
    assert core["human"].value == "first\nother"
    store.move_head(None)
    assert core["human"].value == ""
    store.move_head(second)
    assert (core["human"].value, core.labels) == ("first\nsecond", ["persona", "human", "extra"])
    store.append(Kind.USER, "3")
    assert core["human"].value == "first\nsecond"


def test_an_edit_is_rolled_back_with_its_transaction(core: Core, store: Store) -> None:
    with suppress(KeyError), store.transaction():
        store.append(Kind.USER, "1")
        core.append("human", "gone")
        assert core["human"].value == "gone"
        raise KeyError
    assert core["human"].value == ""
