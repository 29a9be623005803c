"""Puts a file or folder in its place whole or not at all, with its digest beside it in sha256sum's format.

Knows nothing of models: `files` and `merged` say what goes where.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from localmem.errors import ModelError
from localmem.models.hashes import digest_file

_STAGING = ".incoming-"
_ABANDONED_S = 24 * 3600


def digest(path: Path) -> str:
    """The sha256 of a file; of a folder, that of the listing which the bundled models.yaml describes."""
    if path.is_file():
        return digest_file(path)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    listing = "".join(f"{digest_file(path / name)}  {name}\n" for name in names)
    return hashlib.sha256(listing.encode()).hexdigest()


def note(path: Path) -> Path:
    """The file beside it that holds its digest."""
    return path.with_name(path.name + ".sha256")


def noted(path: Path) -> str | None:
    """The digest that it had when it was put there."""
    try:
        return note(path).read_text().split()[0]
    except (FileNotFoundError, IndexError):
        return None


def put(fetched: Path, target: Path, sha256: str) -> None:
    """Move a whole file or folder from staging to its place, replacing a wrong one, so that a crash leaves either."""
    beside = fetched.with_name(fetched.name + ".sha256")
    beside.write_text(f"{sha256}  {target.name}\n")
    for file in (beside, *(fetched.rglob("*") if fetched.is_dir() else [fetched])):
        if file.is_file():
            _sync(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():  # os.replace puts no folder over a full one
        target.replace(fetched.with_name(fetched.name + ".old"))
    fetched.replace(target)
    beside.replace(note(target))
    if os.name == "posix":
        _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def staging(models: Path) -> Iterator[Path]:
    """A folder on the target's file system that is gone afterwards, whatever happens; those of killed pulls go too."""
    models.mkdir(parents=True, exist_ok=True)
    for abandoned in models.glob(f"{_STAGING}*"):
        if abandoned.stat().st_mtime < time.time() - _ABANDONED_S:
            shutil.rmtree(abandoned, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_STAGING, dir=models))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def plain_errors(folder: Path) -> Iterator[None]:
    """The system's complaints about files, in one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ModelError(f"the disk is full ({folder}): free some space and try again") from error
        name = error.filename or folder
        raise ModelError(f"{name}: {error.strerror or error}: check that the folder can be written") from error
