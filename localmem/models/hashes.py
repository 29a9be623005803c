"""The sha256 of a model's file, remembered: hashing gigabytes at every start would cost seconds.

A remembered hash holds while the file's size, time of change and inode are what they were.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

#: The file in the cache folder that keeps them.
HASHES = "hashes.json"

_here: dict[str, dict[str, Any]] = {}


def file_hash(path: Path, remembered: Path | None = None) -> str:
    """The sha256 of `path` in hex; `remembered` is the JSON file that keeps hashes from one process to the next."""
    path = path.resolve()
    stat = path.stat()
    state = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
    known = _here if str(path) in _here else _read(remembered)
    entry = known.get(str(path))
    if isinstance(entry, dict) and entry.get("state") == state and isinstance(entry.get("sha256"), str):
        _here[str(path)] = entry
        return str(entry["sha256"])
    digest = digest_file(path)
    remember(path, digest, remembered)
    return digest


def digest_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hex, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remember(path: Path, digest: str, remembered: Path | None) -> None:
    """Note the hash of `path`, which was just computed."""
    path = path.resolve()
    stat = path.stat()
    _here[str(path)] = {"state": [stat.st_size, stat.st_mtime_ns, stat.st_ino], "sha256": digest}
    _write(remembered, {**_read(remembered), str(path): _here[str(path)]})


def _read(remembered: Path | None) -> dict[str, dict[str, Any]]:
    if remembered is None:
        return {}
    try:
        found = json.loads(remembered.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(remembered: Path | None, entries: dict[str, dict[str, Any]]) -> None:
    """What cannot be remembered is only hashed again."""
    if remembered is None:
        return
    with contextlib.suppress(OSError):
        remembered.parent.mkdir(parents=True, exist_ok=True)
        partial = remembered.with_name(f"{remembered.name}.{os.getpid()}")
        partial.write_text(json.dumps(entries), encoding="utf-8")
        partial.replace(remembered)
