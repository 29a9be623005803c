"""A snapshot's file: what comes back, what is refused, and that it is replaced whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from localmem.engine import snapshot_file
from localmem.engine.snapshot_file import CHUNK, ROW, Header, SnapshotError, read_head, read_state, write_snapshot

TOKENS = [1, 0, 49151, 2**31 - 1, 7]
FIXED = 40  # magic and four numbers


def state_of(size: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def header_of(size: int, tokens: list[int] = TOKENS, **given: Any) -> Header:
    header = Header(
        kind="conversation",
        fingerprint="ab" * 32,
        model="tiny",
        agent="ada",
        n_tokens=len(tokens),
        state_bytes=size,
        settings={"type_k": "f16", "adapter": None},
        layout={"turns": [[1, 2], [3, 4]], "note": "é"},
        created="2026-01-02T03:04:05+00:00",
    )
    return dataclasses.replace(header, **given)


def written(path: Path, size: int = 3000, **given: Any) -> Path:
    write_snapshot(path, header_of(size, **given), TOKENS, state_of(size))
    return path


def check(path: Path) -> None:
    """Read all of it."""
    read_head(path)
    read_state(path)


@pytest.mark.parametrize("size", [0, 1, 7, 8, ROW - 1, ROW, ROW + 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + ROW + 5])
def test_what_was_written_comes_back(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a" / "b" / "x.kv"
    state = state_of(size)
    write_snapshot(path, header_of(size), TOKENS, state)
    header, tokens = read_head(path)
    assert (header, tokens) == (header_of(size), TOKENS)
    assert np.array_equal(read_state(path), state)
    assert np.array_equal(read_state(path, header), state)


@pytest.mark.parametrize("tokens", [[], [5], list(range(10_000))], ids=len)
def test_any_number_of_tokens(tmp_path: Path, tokens: list[int]) -> None:
    path = tmp_path / "x.kv"
    write_snapshot(path, header_of(4, tokens), tokens, b"abcd")
    assert read_head(path)[1] == tokens
    assert read_state(path).tobytes() == b"abcd"


def test_any_buffer_is_a_state(tmp_path: Path) -> None:
    import ctypes

    raw = state_of(4096).tobytes()
    for state in (raw, bytearray(raw), memoryview(raw), (ctypes.c_uint8 * 4096)(*raw), np.frombuffer(raw, "<f4")):
        write_snapshot(tmp_path / "x.kv", header_of(4096), TOKENS, state)
        assert read_state(tmp_path / "x.kv").tobytes() == raw


def test_a_static_prefix_belongs_to_no_agent(tmp_path: Path) -> None:
    header, _ = read_head(written(tmp_path / "x.kv", kind="static", agent=None))
    assert (header.kind, header.agent) == ("static", None)


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_only_the_owner_can_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kv"
    folder.mkdir(mode=0o755)
    seen: list[int] = []
    real = snapshot_file._write

    def looking(*given: Any) -> None:
        seen.extend(stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir())
        real(*given)

    monkeypatch.setattr(snapshot_file, "_write", looking)
    old = os.umask(0)
    try:
        path = written(folder / "x.kv")
    finally:
        os.umask(old)
    assert seen == [0o600]  # from its creation
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_counts_that_are_not_the_headers_are_refused(tmp_path: Path) -> None:
    for tokens, state in (([1], b"abcd"), (TOKENS, b"abc"), (TOKENS, b"")):
        with pytest.raises(ValueError, match="not as the header says"):
            write_snapshot(tmp_path / "x.kv", header_of(4), tokens, state)
    assert list(tmp_path.iterdir()) == []


# -- damage


def cut(at: int) -> Any:
    return lambda data: data[:at]


def put(at: int, new: bytes) -> Any:
    return lambda data: data[:at] + new + data[at + len(new) :]


def with_head(change: Any) -> Any:
    """The file with another header JSON, and lengths and checksum that are right for it."""

    def made(data: bytes) -> bytes:
        magic, version, n_header, n_tokens, n_state = struct.unpack("<8s4Q", data[:FIXED])
        rest = data[FIXED + n_header : -n_state - 32]
        header = change(json.loads(data[FIXED : FIXED + n_header]))
        header = header if isinstance(header, bytes) else json.dumps(header).encode()
        head = struct.pack("<8s4Q", magic, version, len(header), n_tokens, n_state) + header + rest
        return head + hashlib.sha256(head).digest() + data[-n_state:]

    return made


DAMAGE = {
    "empty": (cut(0), "is empty"),
    "a byte": (cut(1), "is not a snapshot"),
    "the magic only": (cut(8), "ends too early"),
    "cut in the numbers": (cut(20), "ends too early"),
    "cut in the header": (cut(100), "has 100 bytes, not 3,"),
    "cut in the state": (cut(-1), "bytes, not 3,"),
    "longer": (lambda data: data + b"x", "bytes, not 3,"),
    "foreign": (lambda data: b"GGUF" + data[4:], "is not a snapshot"),
    "text": (lambda _: b"hello, world\n" * 20, "is not a snapshot"),
    "copied as text": (lambda data: data.replace(b"\r\n", b"\n"), "is not a snapshot"),
    "another version": (put(8, struct.pack("<Q", 2)), "is of version 2, and this localmem reads version 1"),
    "an absurd header": (put(16, struct.pack("<Q", 2**63)), "bytes, not 9,"),
    "absurdly many tokens": (put(24, struct.pack("<Q", 2**64 - 1)), "bytes, not 73,"),
    "an absurd state": (put(32, struct.pack("<Q", 2**64 - 1)), "bytes, not 18,"),
    "lengths that make up for each other": (put(24, struct.pack("<2Q", 4, 3004)), "the head's checksum is wrong"),
    "a byte of the header": (put(60, b"\0"), "the head's checksum is wrong"),
    "a byte of the state": (put(-5, b"\0\1\2\3"), "the state's checksum is wrong"),
    "not JSON": (with_head(lambda _: b"{nothing"), "the header is not JSON"),
    "not text": (with_head(lambda _: b"\xff\xfe"), "the header is not JSON"),
    "nested too deeply": (with_head(lambda _: b"[" * 100_000), "the header is not JSON"),
    "no header": (with_head(lambda _: b"{}"), "the header has not the keys"),
    "a list": (with_head(lambda _: b"[]"), "the header has not the keys"),
    "a key too many": (with_head(lambda header: header | {"more": 1}), "the header has not the keys"),
    "a wrong kind": (with_head(lambda header: header | {"kind": "cold"}), "the header's kind is wrong"),
    "a kind of lists": (with_head(lambda header: header | {"kind": []}), "the header's kind is wrong"),
    "a wrong type": (with_head(lambda header: header | {"layout": "x"}), "the header's layout is wrong"),
    "no model": (with_head(lambda header: header | {"model": None}), "the header's model is wrong"),
    "other counts": (with_head(lambda header: header | {"n_tokens": 4}), "counts are not those of the file"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, damage: Any, reason: str) -> None:
    path = written(tmp_path / "x.kv")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SnapshotError) as refused:
        check(path)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    if "state" not in reason:
        with pytest.raises(SnapshotError):
            read_head(path)


def test_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.kv", tmp_path):
        for read in (read_head, read_state):
            with pytest.raises(SnapshotError, match=r"No such file|Is a directory|Permission"):
                read(path)


def test_a_head_beyond_all_measure_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "x.kv")
    monkeypatch.setattr(snapshot_file, "_MOST_HEAD", 100)
    with pytest.raises(SnapshotError, match="has a head of"):
        read_head(path)


def test_a_state_that_the_memory_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "x.kv")

    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(snapshot_file.np, "empty", full)
    with pytest.raises(SnapshotError, match="larger than the memory"):
        read_state(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A file with a state of some rows and a rest, and its bytes."""
    path = written(tmp_path_factory.mktemp("kv") / "x.kv", 5 * ROW + 13)
    return path, path.read_bytes()


SIZE = 5 * ROW + 13


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, SIZE + 500), bits=st.integers(1, 255))
@example(place=0, bits=1)
@example(place=SIZE, bits=128)
def test_any_changed_byte_is_noticed(small: tuple[Path, bytes], place: int, bits: int) -> None:
    path, whole = small
    data = bytearray(whole)
    data[place % len(data)] ^= bits
    path.write_bytes(data)
    with pytest.raises(SnapshotError):
        check(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, SIZE + 400))
def test_any_truncation_is_noticed(small: tuple[Path, bytes], length: int) -> None:
    path, whole = small
    path.write_bytes(whole[: min(length, len(whole) - 1)])
    with pytest.raises(SnapshotError):
        read_head(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.integers(0, SIZE - 1), min_size=2, max_size=3, unique=True),
    bit=st.integers(0, 7),
)
@example(places=[13, 21], bit=7)  # from the end: the highest bits of two words of a row, whose sum stays
@example(places=[13, 13 + ROW], bit=7)  # and of a column
def test_two_or_three_equal_changes_do_not_make_up_for_each_other(
    small: tuple[Path, bytes], places: list[int], bit: int
) -> None:
    path, whole = small
    data = bytearray(whole)
    for place in places:
        data[len(data) - 1 - place] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(SnapshotError, match="the state's checksum"):
        check(path)


@pytest.mark.parametrize("unit", [8, 512, 4096, ROW, CHUNK])
def test_what_disks_do_to_files_is_noticed(tmp_path: Path, unit: int) -> None:
    """Blocks that were never written, and blocks at another's place."""
    path = written(tmp_path / "x.kv", 3 * CHUNK)
    whole = path.read_bytes()
    first = len(whole) - 3 * CHUNK
    for lost in (first, len(whole) - unit):
        path.write_bytes(put(lost, bytes(unit))(whole))
        with pytest.raises(SnapshotError, match="the state's checksum"):
            check(path)
    a, b = whole[first : first + unit], whole[-unit:]
    path.write_bytes(put(len(whole) - unit, a)(put(first, b)(whole)))
    with pytest.raises(SnapshotError, match="the state's checksum"):
        check(path)


def test_a_file_replaced_since_its_head_was_read(tmp_path: Path) -> None:
    path = written(tmp_path / "x.kv")
    header, _ = read_head(path)
    written(path, created="2026-01-02T03:04:06+00:00")
    with pytest.raises(SnapshotError, match="replaced"):
        read_state(path, header)
    check(path)


# -- writing that fails


def test_a_disk_that_is_full_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "x.kv")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SnapshotError, match=r"^No space left on device$"):
        written(path, 5000)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SnapshotError, match=r"exists|Not a directory"):
        written(tmp_path / "file" / "x.kv")


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "x.kv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_a_kill_before_the_rename_leaves_the_old_one(tmp_path: Path, moment: str) -> None:
    path = written(tmp_path / "x.kv")
    before = path.read_bytes()
    program = (
        "import os, pathlib, signal, sys\n"
        "from localmem.engine.snapshot_file import *\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "header, tokens = read_head(path)\n"
        "state = read_state(path)\n"
        f"{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_snapshot(path, header, tokens, bytes(len(state)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    check(path)
    left = [name for name in os.listdir(tmp_path) if name != "x.kv"]  # noqa: PTH208
    assert [name.startswith(".") and name.endswith(snapshot_file.PARTIAL) for name in left] == [True]
