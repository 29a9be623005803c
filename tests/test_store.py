"""Store: branches, transactions, what survives, and who may open a file."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import numpy as np
import pytest

from localmem.errors import StoreError
from localmem.events import FunctionCall, Kind
from localmem.memory.schema import MIGRATIONS
from localmem.memory.store import Store

ROOT = Path(__file__).parent.parent


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "ada" / "ada.duckdb", agent="ada")
    yield store
    store.close()


def say(store: Store, *texts: str) -> list[int]:
    return [store.append(Kind.USER, text).id for text in texts]


def texts(store: Store) -> list[str]:
    return [event.text for event in store.path()]


def test_an_event_comes_back_as_it_was_appended(store: Store) -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    store.clock = lambda: datetime(2024, 2, 29, 1, 2, 3, 456789, zone)
    call = FunctionCall("search", {"query": "naïve ☕", "page": 2, "nested": {"a": [1, None]}})
    first = store.append(Kind.CALL, call=call, stats={"ttft_s": 0.5}, details={"x": [1]})
    second = store.append(Kind.RESULT, "a\0b\r\n\t日本", details={"status": "ok"})
    assert store.event(first.id) == first
    assert store.event(second.id) == second
    assert (second.parent, first.parent) == (first.id, None)
    assert first.time == datetime(2024, 2, 28, 19, 32, 3, 456789, UTC)
    assert first.time.utcoffset() == timedelta(0)


def test_lone_surrogates_are_replaced_rather_than_refused(store: Store) -> None:
    assert store.append(Kind.USER, "caf\udce9 ok").text == "caf? ok"


def test_everything_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    with_events = Store.open(tmp_path / "a.duckdb", agent="ada")
    first, second = say(with_events, "one", "two")
    with_events.bookmark("here")
    with_events.move_head(first)
    stamps = with_events.store_id, with_events.created, with_events.agent
    with_events.close()
    with_events.close()
    again = Store.open(tmp_path / "a.duckdb", agent="another")
    assert (again.store_id, again.created, again.agent) == stamps
    assert (again.head, texts(again), again.bookmarks()) == (first, ["one"], {"here": second})
    assert say(again, "three") == [second + 1]
    assert texts(again) == ["one", "three"]
    again.close()


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    for use in (store.path, lambda: store.append(Kind.USER, "x"), lambda: store.committed("SELECT 1")):
        with pytest.raises(StoreError, match="closed"):
            use()


# -- branches


def test_the_head_sees_its_ancestors_only(store: Store) -> None:
    a, b, c = say(store, "a", "b", "c")
    store.move_head(b)
    assert texts(store) == ["a", "b"]
    d, e = say(store, "d", "e")
    assert texts(store) == ["a", "b", "d", "e"]
    assert [event.parent for event in store.path()] == [None, a, b, d]
    store.move_head(c)
    assert texts(store) == ["a", "b", "c"]
    store.move_head(d)
    say(store, "f")
    assert texts(store) == ["a", "b", "d", "f"]
    store.move_head(a)
    assert texts(store) == ["a"]
    store.move_head(None)
    assert texts(store) == []
    assert store.last() is None
    say(store, "g")
    assert texts(store) == ["g"]
    store.move_head(e)
    assert [event.id for event in store.path(after=b)] == [d, e]


def test_a_tip_goes_on_without_a_new_branch(store: Store) -> None:
    a, b = say(store, "a", "b")
    store.move_head(a)
    store.move_head(b)
    say(store, "c")
    assert store.query("SELECT count(*) FROM branches") == [(1,)]


def test_ancestors_match_the_parents_on_random_trees(store: Store) -> None:
    random = np.random.default_rng(7)
    parents: dict[int, int | None] = {}
    for _ in range(120):
        if parents and random.random() < 0.4:
            choices = [None, *parents]
            store.move_head(choices[random.integers(len(choices))])
        event = store.append(Kind.USER, "x")
        parents[event.id] = event.parent
    for head in [*parents][::9]:
        store.move_head(head)
        expected, at = [], head
        while at is not None:
            expected.append(at)
            at = parents[at]
        assert [event.id for event in store.path()] == expected[::-1]


def test_last_is_the_newest_ancestor_of_a_kind(store: Store) -> None:
    user = store.append(Kind.USER, "u")
    alert = store.append(Kind.ALERT, "a")
    store.append(Kind.ASSISTANT, "x")
    assert store.last(Kind.USER) == user
    assert store.last(Kind.USER, Kind.ALERT) == alert
    assert store.last(Kind.TIMER) is None
    assert store.path(kinds=[Kind.ALERT, Kind.USER]) == [user, alert]
    assert store.path(after=user.id, kinds={Kind.USER, Kind.ALERT}) == [alert]
    store.move_head(alert.id)
    assert store.last(Kind.ASSISTANT) is None
    assert store.last() == alert


def test_an_event_that_is_not_there(store: Store) -> None:
    say(store, "a")
    for use in (store.event, store.move_head, lambda id: store.amend(id, details={})):
        with pytest.raises(StoreError, match="no event 99"):
            use(99)
    assert store.head == 1


def test_amend_merges_details(store: Store) -> None:
    event = store.append(Kind.RESULT, "r", details={"status": "started", "function": "f"})
    store.amend(event.id, details={"status": "ok"})
    assert store.event(event.id).details == {"status": "ok", "function": "f"}
    with store.transaction():
        new = store.append(Kind.CALL)
        for n in range(3):
            store.amend(new.id, details={"n": n})
            store.amend(event.id, details={"n": n})
    assert store.event(new.id).details == {"n": 2}
    assert store.event(event.id).details == {"status": "ok", "function": "f", "n": 2}


def test_a_bookmark_can_be_given_again(store: Store) -> None:
    with pytest.raises(StoreError, match="nothing to bookmark"):
        store.bookmark("x")
    say(store, "a")
    store.bookmark("x")
    say(store, "b")
    store.bookmark("y")
    store.bookmark("x")
    assert store.bookmarks() == {"x": 2, "y": 2}


# -- transactions


def test_a_failed_transaction_leaves_no_trace(store: Store) -> None:
    say(store, "a")
    moves = store.moves
    with suppress(KeyError), store.transaction():
        say(store, "b")
        with store.transaction():
            store.move_head(None)
            say(store, "fork")
            store.bookmark("n")
        raise KeyError
    assert (store.head, texts(store), store.bookmarks()) == (1, ["a"], {})
    assert store.moves != moves
    assert say(store, "c") == [2]
    assert texts(store) == ["a", "c"]
    assert store.query("SELECT count(*) FROM branches") == [(1,)]


def test_a_statement_that_fails_is_one_line_and_rolls_back(store: Store) -> None:
    def fail() -> None:
        with store.transaction():
            say(store, "a")
            store.execute("SELECT * FROM nothing_like_it")

    with pytest.raises(StoreError) as caught:
        fail()
    assert "\n" not in str(caught.value)
    assert store.head is None
    assert say(store, "b") == [1]


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_inside_a_statement_is_a_ctrl_c(store: Store) -> None:
    [first] = say(store, "kept")
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with suppress(KeyboardInterrupt), store.transaction():
        say(store, "lost")
        store.query("SELECT count(*) FROM range(100000000) a, range(1000) b WHERE a.range * b.range % 7 = 3")
    timer.join()
    assert store.head == first
    assert texts(store) == ["kept"]


def test_committed_does_not_see_an_open_transaction(store: Store) -> None:
    with store.transaction():
        say(store, "a")
        assert store.query("SELECT count(*) FROM events") == [(1,)]
        assert store.committed("SELECT count(*) FROM events") == [(0,)]
    assert store.committed("SELECT count(*) FROM events") == [(1,)]


def test_another_thread_never_lands_in_a_transaction(store: Store) -> None:
    started, vectors_stored = threading.Event(), threading.Event()

    def work() -> None:
        started.wait(5)
        store.add_vectors("e", [("recall", 1, np.ones(2, np.float32))])
        vectors_stored.set()
        store.append(Kind.ALERT, "other thread")

    thread = threading.Thread(target=work)
    thread.start()
    with suppress(KeyError), store.transaction():
        say(store, "rolled back")
        started.set()
        assert vectors_stored.wait(5)
        raise KeyError
    thread.join(5)
    assert texts(store) == ["other thread"]
    assert store.query("SELECT item FROM vectors") == [(1,)]


def test_listeners_hear_of_commits_only(store: Store) -> None:
    heard: list[int | None] = []
    store.listeners.append(lambda: heard.append(store.head))
    with store.transaction():
        say(store, "a", "b")
    with suppress(KeyError), store.transaction():
        say(store, "c")
        raise KeyError
    assert heard == [2]


WRITER = """
import sys
from pathlib import Path
from localmem.events import Kind
from localmem.memory.store import Store
store = Store.open(Path(sys.argv[1]))
for n in range(10_000):
    with store.transaction():
        store.append(Kind.USER, f"q{n}")
        store.append(Kind.ASSISTANT, f"a{n}")
    print(n, flush=True)
"""


def test_kill_9_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = int(line)
            if last == 40:
                owner = refused(path)
                assert "python" in owner
                assert f"(pid {process.pid})" in owner
                os.kill(process.pid, signal.SIGKILL)
    store = Store.open(path)
    found = texts(store)
    assert len(found) % 2 == 0
    assert len(found) >= 2 * (last + 1)
    assert found == [f"{who}{n}" for n in range(len(found) // 2) for who in "qa"]
    store.close()


# -- files that are refused


def refused(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        Store.open(path)
    assert "\n" not in str(caught.value)
    assert str(path.name) in str(caught.value)
    return str(caught.value)


def test_one_process_opens_a_file_once(store: Store, tmp_path: Path) -> None:
    assert "already open" in refused(store.path_on_disk)
    link = tmp_path / "ada" / "link"
    link.symlink_to(store.path_on_disk)
    with pytest.raises(StoreError, match="already open"):
        Store.open(link)
    store.close()
    Store.open(store.path_on_disk).close()


def test_a_newer_file_is_left_alone(store: Store) -> None:
    store.execute("UPDATE meta SET value = ? WHERE key = 'version'", [str(len(MIGRATIONS) + 1)])
    store.close()
    assert "upgrade localmem" in refused(store.path_on_disk)
    assert "upgrade localmem" in refused(store.path_on_disk)


def test_files_that_are_no_agents(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "is a folder" in refused(tmp_path / "folder")
    (tmp_path / "text").write_text("hello " * 5000)
    assert "not an agent's file" in refused(tmp_path / "text")
    other = duckdb.connect(str(tmp_path / "other"))
    other.execute("CREATE TABLE mine (x INTEGER)")
    other.close()
    assert "not an agent's" in refused(tmp_path / "other")
    with pytest.raises(StoreError):
        Store.open(tmp_path / "text" / "below.duckdb")


@pytest.mark.parametrize("damage", ["cut", "flipped", "unstamped"])
def test_damaged_files(store: Store, damage: str) -> None:
    say(store, *("some words " * 50 for _ in range(50)))
    if damage == "unstamped":
        store.execute("DELETE FROM meta")
    store.close()
    path = store.path_on_disk
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:6000]
    if damage == "flipped":
        data[12288::3] = bytes(byte ^ 0x55 for byte in data[12288::3])
    path.write_bytes(data)
    refused(path)
    refused(path)


def test_no_extension_is_fetched(store: Store) -> None:
    with pytest.raises(StoreError):
        store.query("SELECT * FROM 'https://127.0.0.1:1/x.parquet'")
    settings = dict(store.query("SELECT name, value FROM duckdb_settings() WHERE name LIKE 'auto%extensions'"))
    assert settings == {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}


def test_what_is_searchable_is_decided_at_append(store: Store) -> None:
    cases = {
        (Kind.USER, "x", ""): True, (Kind.ASSISTANT, "x", ""): True, (Kind.SUMMARY, "x", ""): True,
        (Kind.TIMER, "x", ""): True, (Kind.ALERT, "x", ""): True, (Kind.RESULT, "x", ""): True,
        (Kind.RESULT, "x", '{"search": true}'): False, (Kind.THOUGHT, "x", ""): False, (Kind.LOGIN, "x", ""): False,
        (Kind.HEARTBEAT, "x", ""): False, (Kind.USER, " \n", ""): False,
    }  # fmt: skip
    for (kind, text, details), expected in cases.items():
        event = store.append(kind, text, details=json.loads(details or "{}"))
        assert store.query("SELECT searchable FROM events WHERE id = ?", [event.id]) == [(expected,)], (kind, text)
