"""Where a model's file lies, whether it is the right one, and putting it there whole or not at all.

A fetched file lies under the models folder by its source, so that two entries with one source share it:
`pypi/NAME-VERSION/FILE` and `hf/OWNER/REPO/FILE`. Beside it lies `FILE.sha256` with its digest, in sha256sum's format.
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
from pathlib import Path, PurePosixPath

from localmem.config import EmbedderConfig, ModelConfig, Paths, PathSource, PypiSource, Source
from localmem.errors import ModelError
from localmem.models import fetch
from localmem.models.fetch import Progress
from localmem.models.gguf import read_gguf
from localmem.models.hashes import HASHES, digest_file, remember

_STAGING = ".incoming-"
_ABANDONED_S = 24 * 3600


def place(source: Source, paths: Paths) -> Path:
    """Where the file or folder of `source` lies, or would lie once fetched."""
    if isinstance(source, PathSource):
        return source.path
    if isinstance(source, PypiSource):
        return paths.models / "pypi" / source.pypi.replace("==", "-") / PurePosixPath(source.file).name
    return paths.models / "hf" / source.hf / source.file


def locate(model: ModelConfig, paths: Paths) -> Path:
    """The model's GGUF file. Raises ModelError if it is not there, or no file."""
    path = place(model.source, paths)
    if path.is_dir():
        raise ModelError(f"{model.name}: {path} is a folder: give the path of a .gguf file")
    if not path.is_file():
        raise _missing(model, path)
    return path


def locate_embedder(embedder: EmbedderConfig, paths: Paths) -> Path:
    """The embedder's folder. Raises ModelError if it is not there, or no folder."""
    path = place(embedder.source, paths)
    if path.is_file():
        raise ModelError(f"{embedder.name}: {path} is a file: an embedder is a folder with a modules.json")
    if not path.is_dir():
        raise _missing(embedder, path)
    if not (path / "modules.json").is_file():
        raise ModelError(f"{embedder.name}: {path} has no modules.json: choose a folder made by sentence-transformers")
    return path


def _missing(entry: ModelConfig | EmbedderConfig, path: Path) -> ModelError:
    if isinstance(entry.source, PathSource):
        return ModelError(
            f"{entry.name}: {path} does not exist: correct its path in models.yaml or on the command line"
        )
    return ModelError(f"{entry.name} is not on this machine: run: localmem models pull {entry.name}")


def pull(entry: ModelConfig | EmbedderConfig, paths: Paths, progress: Progress | None = None) -> Path:
    """Make sure that the file (or folder) of `entry` is here and right, fetching it if need be, and return its path.

    `progress` is called with (bytes done, bytes in all or None). Nothing appears under its final name before it is
    whole, checked and on disk. Raises ModelError.
    """
    target = place(entry.source, paths)
    if isinstance(entry.source, PathSource):
        check(entry, paths)
        return target
    with contextlib.suppress(ModelError):
        check(entry, paths)
        return target
    with _plain_errors(paths.models), _staging(paths.models) as staging:
        fetched = fetch.fetch(entry.source, staging, progress or (lambda done, total: None))
        found = digest(fetched.path)
        expected = entry.sha256 or fetched.sha256
        if expected is not None and found != expected:
            raise ModelError(
                f"{entry.name}: what was fetched has sha256 {found}, not {expected}: nothing was kept; try again, or "
                "correct the sha256 in models.yaml if the source has a new version"
            )
        if isinstance(entry, ModelConfig):
            read_gguf(fetched.path)
        _put(fetched.path, target, found)
        if target.is_file():
            remember(target, found, paths.cache / HASHES)
    return target


def check(entry: ModelConfig | EmbedderConfig, paths: Paths) -> str:
    """The sha256 of what is on disk. Raises ModelError if it is missing, damaged, or not what it should be.

    It should be what models.yaml says, else what it was when it was fetched.
    """
    path = locate(entry, paths) if isinstance(entry, ModelConfig) else locate_embedder(entry, paths)
    if isinstance(entry, ModelConfig):
        read_gguf(path)
    with _plain_errors(path):
        found = digest(path)
        expected = entry.sha256 or (None if isinstance(entry.source, PathSource) else _noted(path))
    if expected is not None and found != expected:
        again = f"run: localmem models pull {entry.name}"
        if isinstance(entry.source, PathSource):
            again = "put the right file there, or correct the sha256 in models.yaml"
        raise ModelError(f"{entry.name}: {path} has sha256 {found}, not {expected}: {again}")
    return found


def digest(path: Path) -> str:
    """The sha256 of a file; of a folder, that of the listing which the bundled models.yaml describes."""
    if path.is_file():
        return digest_file(path)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    listing = "".join(f"{digest_file(path / name)}  {name}\n" for name in names)
    return hashlib.sha256(listing.encode()).hexdigest()


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _noted(path: Path) -> str | None:
    try:
        return _note(path).read_text().split()[0]
    except (FileNotFoundError, IndexError):
        return None


def _put(fetched: Path, target: Path, sha256: str) -> None:
    """Move a whole file or folder from staging to its place, replacing a wrong one, so that a crash leaves either."""
    note = fetched.with_name(fetched.name + ".sha256")
    note.write_text(f"{sha256}  {target.name}\n")
    for file in (note, *(fetched.rglob("*") if fetched.is_dir() else [fetched])):
        if file.is_file():
            _sync(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():  # os.replace puts no folder over a full one
        target.replace(fetched.with_name(fetched.name + ".old"))
    fetched.replace(target)
    note.replace(_note(target))
    if os.name == "posix":
        _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _staging(models: Path) -> Iterator[Path]:
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
def _plain_errors(folder: Path) -> Iterator[None]:
    """The system's complaints about files, in one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ModelError(f"the disk is full ({folder}): free some space and try again") from error
        name = error.filename or folder
        raise ModelError(f"{name}: {error.strerror or error}: check that the folder can be written") from error
