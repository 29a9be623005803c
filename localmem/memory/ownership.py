"""One process owns an agent's file, once: the claim on a path, and why a file could not be opened, in one line.

DuckDB keeps other processes out by a lock, but lets its own process open a file twice. Here it is known by its
messages only.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from localmem.errors import StoreError

_open_files: set[Path] = set()
_open_files_lock = threading.Lock()


@contextmanager
def claimed(path: Path) -> Iterator[Path]:
    """The real path of an agent's file, in a folder that exists, claimed until `release`, or until the block fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path = path.resolve()
    except (OSError, RuntimeError) as error:
        raise StoreError(f"cannot make a folder for {path}: {first_line(error)}; choose another path") from error
    if path.is_dir():
        raise StoreError(f"{path} is a folder, not an agent's file; choose another path")
    with _open_files_lock:
        if path in _open_files:
            raise StoreError(f"{path} is already open in this process; close it first")
        _open_files.add(path)
    try:
        yield path
    except BaseException:
        release(path)
        raise


def release(path: Path) -> None:
    with _open_files_lock:
        _open_files.discard(path)


def why_not_opened(path: Path, reason: str) -> str:
    """DuckDB's message, in the operator's words and with a next step."""
    if "set lock" in reason or "being used by another process" in reason:
        return f"{path} is in use by {_owner(reason)}; close it there first"
    if "not a valid DuckDB database" in reason:
        return f"{path} is not an agent's file; choose another path"
    return f"cannot open {path}: {first_line(reason)}; restore it from a copy, or choose another path"


def _owner(reason: str) -> str:
    found = re.search(r"PID (\d+)", reason)
    if not found:
        return "another process"
    with suppress(OSError):
        command = Path("/proc", found[1], "comm").read_text().strip()
        return f"{command} (pid {found[1]})"
    return f"pid {found[1]}"


def first_line(error: object) -> str:
    """Of a third party's message, without a full stop, to stand inside a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
