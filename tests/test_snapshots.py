"""Which snapshots there are and which go first."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from localmem.config import Paths
from localmem.engine.snapshots import Snapshots
from localmem.errors import ConfigError

PRINT = "0123456789abcdef" * 4


def put(path: Path, size: int = 100, *, age: float = 0.0) -> Path:
    """A file of that size, last used `age` seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_where_a_snapshot_is(paths: Paths) -> None:
    snapshots = Snapshots(paths, 1)
    static = snapshots.static(PRINT, [1, 2, 3])
    assert static.parent == paths.cache / "kv"
    assert static.name.startswith(f"{PRINT[:16]}-")
    assert static.suffix == ".kv"
    assert snapshots.conversation("ada", PRINT) == paths.agent_folder("ada") / "kv" / f"{PRINT[:16]}.kv"
    assert not paths.cache.exists()
    with pytest.raises(ConfigError):
        snapshots.conversation("../ada", PRINT)


def test_another_prefix_or_fingerprint_has_another_file(paths: Paths) -> None:
    snapshots = Snapshots(paths, 1)
    keys = [(PRINT, [1, 2, 3]), (PRINT, [1, 2]), (PRINT, [3, 2, 1]), (PRINT, []), ("f" * 64, [1, 2, 3])]
    assert len({snapshots.static(*key) for key in keys}) == len(keys)
    assert snapshots.static(PRINT, [1, 2, 3]) == snapshots.static(PRINT, (1, 2, 3))


def test_files_are_those_of_all_agents_and_no_others(paths: Paths) -> None:
    snapshots = Snapshots(paths, 1000)
    assert snapshots.files() == []
    wanted = [
        put(snapshots.static(PRINT, [1])),
        put(snapshots.conversation("ada", PRINT)),
        put(snapshots.conversation("bob", PRINT)),
        put(snapshots.conversation("bob", "e" * 64)),
    ]
    assert [snapshots.owner(path) for path in wanted] == [None, "ada", "bob", "bob"]
    put(paths.agents / "stray.kv")
    put(paths.agent_folder("ada") / "agent.duckdb")
    put(paths.cache / "kv" / "notes.txt")
    put(paths.cache / "kv" / ".x.kv.abc.partial")
    put(paths.cache / "kv" / "._x.kv")  # such as some systems leave beside a file
    assert snapshots.files() == sorted(wanted)


@pytest.mark.parametrize(
    ("budget", "left"),
    [(1000, "dbca"), (400, "dbca"), (399, "bca"), (299, "ca"), (200, "ca"), (100, "a"), (99, ""), (0, "")],
)
def test_the_least_recently_used_goes_first(paths: Paths, budget: int, left: str) -> None:
    snapshots = Snapshots(paths, budget)
    ages = {"a": 1, "b": 300, "c": 200, "d": 400}
    files = {name: put(snapshots.conversation(name, PRINT), age=age) for name, age in ages.items()}
    removed = snapshots.prune()
    assert {name for name in files if files[name].exists()} == set(left)
    assert removed == [files[name] for name in "dbca" if name not in left]
    assert snapshots.prune() == []


def test_use_makes_it_go_last(paths: Paths) -> None:
    snapshots = Snapshots(paths, 150)
    old, new = put(snapshots.static(PRINT, [1]), age=500), put(snapshots.static(PRINT, [2]), age=5)
    snapshots.touch(old)
    assert snapshots.prune() == [new]
    snapshots.touch(new)  # gone: nothing happens
    assert not new.exists()


def test_what_unfinished_writing_left_goes_after_an_hour(paths: Paths) -> None:
    snapshots = Snapshots(paths, 1000)
    folder = paths.cache / "kv"
    stale = put(folder / ".x.kv.abc.partial", age=3700)
    young = put(folder / ".y.kv.abc.partial", age=60)
    other = put(folder / "z.partial", age=3700)
    assert snapshots.prune() == [stale]
    assert young.exists()
    assert other.exists()


@pytest.mark.parametrize(("budget", "size", "room"), [(0, 0, False), (0, 1, False), (10, 10, True), (10, 11, False)])
def test_room(paths: Paths, budget: int, size: int, room: bool) -> None:
    snapshots = Snapshots(paths, budget)
    assert snapshots.enabled is (budget > 0)
    assert snapshots.room_for(size) is room


def test_a_file_that_another_process_removes_meanwhile(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots = Snapshots(paths, 0)
    files = [put(snapshots.static(PRINT, [n])) for n in range(3)]
    listed = snapshots.files()
    monkeypatch.setattr(snapshots, "files", lambda: listed)
    files[0].unlink()
    assert set(snapshots.prune()) == {*files[1:]}


def test_a_file_that_cannot_be_removed(paths: Paths, caplog: pytest.LogCaptureFixture) -> None:
    snapshots = Snapshots(paths, 0)
    stubborn = snapshots.static(PRINT, [1])
    stubborn.mkdir(parents=True)  # a folder cannot be unlinked, whoever runs this
    gone = put(snapshots.static(PRINT, [2]))
    with caplog.at_level("DEBUG", "localmem.engine.snapshots"):
        assert snapshots.prune() == [gone]
    assert f"snapshot {stubborn} stays" in caplog.text
    assert f"snapshot {gone} removed: " in caplog.text
