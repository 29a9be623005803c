"""A snapshot's file: the KV state of one sequence, the tokens that it holds, and what both were made of.

A file describes itself, is replaced whole or not at all, and is believed only if its checksums are right: a damaged one
is never an error to the user, only a prompt that is read again. Knows no llama.cpp, and not which files there are.

The format, integers little-endian, nothing aligned:

    magic (8 bytes) · version, length of the header, tokens, length of the state (4 x u64)
    header (JSON) · token ids (i32 each) · checksum of each CHUNK of the state (u32 each) · SHA-256 of all before it
    state

The state comes last, so that one look at the head tells whether it is worth reading. It is large, so its checksum
is one that takes a third of the time of CRC-32, of each chunk while the processor's cache holds it: see `_checksum`.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

MAGIC = b"LMKV\r\n\x1a\n"  # the line ends tell a file that was copied as text
VERSION = 1
#: What one checksum of the state covers, and the rows that it sums, both in bytes.
CHUNK = 1 << 20
ROW = 1 << 13
#: What an unfinished file's name ends in; it starts with a dot.
PARTIAL = ".partial"

_FIXED = struct.Struct("<8s4Q")
_DIGEST = hashlib.sha256().digest_size
_MOST_HEAD = 1 << 26  # a million tokens and a layout of each take a tenth of it

Kind = Literal["static", "conversation"]


class SnapshotError(Exception):
    """A snapshot that cannot be written or believed, and why, in one line without the file's name.

    No LocalmemError: nobody has to act, for what the snapshot holds can be computed again.
    """


@dataclass(frozen=True, slots=True)
class Header:
    """What a snapshot says of itself. `n_tokens` and `state_bytes` are counts; `created` is ISO 8601 in UTC.

    `fingerprint` stands for all that shapes the state, and `settings` says for people what it was made of. `layout` is
    JSON of whoever saved it, which nothing here looks into. A snapshot that belongs to no agent has `agent` None.
    """

    kind: Kind
    fingerprint: str
    model: str
    agent: str | None
    n_tokens: int
    state_bytes: int
    settings: Mapping[str, Any]
    layout: Mapping[str, Any]
    created: str


def write_snapshot(path: Path, header: Header, tokens: Sequence[int], state: Any) -> None:
    """Write the file at `path`, readable for its owner only; the one that was there stays until this one is whole.

    `state` is anything with a contiguous buffer, not copied here. Raises SnapshotError if the disk refuses, ValueError
    if the header's counts are not those of `tokens` and `state`.
    """
    data: NDArray[np.uint8] = np.frombuffer(state, np.uint8)
    if (header.n_tokens, header.state_bytes) != (len(tokens), len(data)):
        raise ValueError(f"{len(tokens)} tokens in {len(data)} bytes, not as the header says")
    start = _before_sums(header, tokens)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)  # mode 0600
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123
                _write(file, start, data)
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise SnapshotError(_reason(error)) from error


def _before_sums(header: Header, tokens: Sequence[int]) -> bytes:
    data = json.dumps({field.name: getattr(header, field.name) for field in fields(header)}, default=dict).encode()
    fixed = _FIXED.pack(MAGIC, VERSION, len(data), len(tokens), header.state_bytes)
    return fixed + data + np.asarray(tokens, "<i4").tobytes()


def _write(file: BinaryIO, start: bytes, state: NDArray[np.uint8]) -> None:
    """The state first, with a chunk's checksum taken while the processor's cache holds it; then the head before it."""
    sums = []
    file.seek(len(start) + 4 * _chunks(len(state)) + _DIGEST)
    for chunk in _split(state):
        file.write(chunk.data)
        sums.append(_checksum(chunk))
    head = start + np.asarray(sums, "<u4").tobytes()
    file.seek(0)
    file.write(head + hashlib.sha256(head).digest())
    file.flush()
    os.fsync(file.fileno())


def read_head(path: Path) -> tuple[Header, list[int]]:
    """What the snapshot says of itself, and its token ids: checked, without a look at the state.

    Raises SnapshotError if there is none, or one that is damaged, foreign, or of another version.
    """
    with _opened(path) as file:
        header, tokens, _ = _read_head(file)
        return header, tokens


def read_state(path: Path, expected: Header | None = None) -> NDArray[np.uint8]:
    """The state, one dimension of `state_bytes` bytes, checked. Raises SnapshotError as `read_head` does.

    Another process may have replaced the file since its head was read: with `expected`, that head, it is refused then.
    """
    with _opened(path) as file:
        header, _, sums = _read_head(file)
        if expected is not None and header != expected:
            raise SnapshotError("was replaced by another in the meantime")
        state = np.empty(header.state_bytes, np.uint8)
        for chunk, checksum in zip(_split(state), sums, strict=True):
            if file.readinto(chunk.data) != len(chunk):
                raise SnapshotError("ends too early")
            if _checksum(chunk) != checksum:
                raise SnapshotError("the state's checksum is wrong")
        return state


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, open for reading; whatever the disk or the memory refuses is a SnapshotError."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise SnapshotError(_reason(error)) from error
    except MemoryError as error:
        raise SnapshotError("is larger than the memory that is free") from error


def _read_head(file: BinaryIO) -> tuple[Header, list[int], list[int]]:
    """Header, token ids, and the checksums of the state's chunks; the file stands at the state then."""
    fixed = file.read(_FIXED.size)
    if fixed[: len(MAGIC)] != MAGIC:
        raise SnapshotError("is not a snapshot" if fixed else "is empty")
    if len(fixed) < _FIXED.size:
        raise SnapshotError("ends too early")
    _, version, n_header, n_tokens, n_state = _FIXED.unpack(fixed)
    if version != VERSION:
        raise SnapshotError(f"is of version {version}, and this localmem reads version {VERSION}")
    n_sums = _chunks(n_state)
    n_rest = n_header + 4 * n_tokens + 4 * n_sums
    if (size := _FIXED.size + n_rest + _DIGEST + n_state) != (found := os.fstat(file.fileno()).st_size):
        raise SnapshotError(f"has {found:,} bytes, not {size:,}")
    if n_rest > _MOST_HEAD:
        raise SnapshotError(f"has a head of {n_rest:,} bytes")
    rest, digest = file.read(n_rest), file.read(_DIGEST)
    if hashlib.sha256(fixed + rest).digest() != digest:
        raise SnapshotError("the head's checksum is wrong")
    tokens = np.frombuffer(rest, "<i4", n_tokens, n_header).tolist()
    sums = np.frombuffer(rest, "<u4", n_sums, n_header + 4 * n_tokens).tolist()
    header = _parse(rest[:n_header])
    if (header.n_tokens, header.state_bytes) != (n_tokens, n_state):
        raise SnapshotError("the header's counts are not those of the file")
    return header, tokens, sums


#: What each key of the header may hold. Another program may write a right checksum over a wrong header.
_TYPES: dict[str, tuple[type, ...]] = {
    "kind": (str,),
    "fingerprint": (str,),
    "model": (str,),
    "agent": (str, type(None)),
    "n_tokens": (int,),
    "state_bytes": (int,),
    "settings": (dict,),
    "layout": (dict,),
    "created": (str,),
}


def _parse(data: bytes) -> Header:
    try:
        given = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SnapshotError("the header is not JSON") from error
    if not isinstance(given, dict) or given.keys() != _TYPES.keys():
        raise SnapshotError("the header has not the keys it should have")
    wrong = [key for key, types in _TYPES.items() if not isinstance(given[key], types)]
    if given["kind"] not in get_args(Kind):
        wrong.append("kind")
    if wrong:
        raise SnapshotError(f"the header's {wrong[0]} is wrong")
    return Header(**given)


def _chunks(n_bytes: int) -> int:
    return -(-n_bytes // CHUNK)


def _split(state: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    return (state[start : start + CHUNK] for start in range(0, len(state), CHUNK))


def _checksum(chunk: NDArray[np.uint8]) -> int:
    """CRC-32 of the sums of a chunk's columns and rows, its 64-bit words being laid out in rows of ROW bytes.

    Whatever is wrong inside one row, or one column, changes the sums of the other; to stay unnoticed, at least four
    words would have to change, at the corners of a rectangle, and make up for each other. What is left after the last
    whole row goes into the CRC-32 itself.
    """
    whole = len(chunk) // ROW * ROW
    words = chunk[:whole].view("<u8").reshape(-1, ROW // 8)
    columns = zlib.crc32(np.add.reduce(words, axis=0).data, zlib.crc32(chunk[whole:].data))
    return zlib.crc32(np.add.reduce(words, axis=1).data, columns)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
