"""Where a model's file lies, whether it is the right one, and fetching it.

A fetched file lies under the models folder by its source, so that two entries with one source share it:
`pypi/NAME-VERSION/FILE` and `hf/OWNER/REPO/FILE`. Beside it lies `FILE.sha256` with its digest, in sha256sum's format.
Where an adapter is merged into a model, the file that is run is another one (see `merged`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Literal

from localmem.config import EmbedderConfig, HubSource, ModelConfig, Paths, PathSource, PypiSource, Source
from localmem.errors import ModelError
from localmem.models import fetch
from localmem.models.disk import digest, noted, plain_errors, put, staging
from localmem.models.fetch import Progress
from localmem.models.gguf import read_gguf
from localmem.models.hashes import HASHES, remember
from localmem.models.merged import check_adapter, check_merged, locate_merged, make_merged, merges, place_merged

#: What a pull is about to do.
Step = Callable[[Literal["fetching", "merging"]], None]


def place(source: Source, paths: Paths) -> Path:
    """Where the file or folder of `source` lies, or would lie once fetched."""
    if isinstance(source, PathSource):
        return source.path
    if isinstance(source, PypiSource):
        return paths.models / "pypi" / source.pypi.replace("==", "-") / PurePosixPath(source.file).name
    return paths.models / "hf" / source.hf / source.file


def locate(model: ModelConfig, paths: Paths) -> Path:
    """The GGUF file that is run: the model's own, or the one with its adapter merged into it.

    Raises ModelError if it is not there, or no file.
    """
    path = _locate_own(model, paths)
    return locate_merged(model, path, paths) if merges(model) else path


def _locate_own(model: ModelConfig, paths: Paths) -> Path:
    path = place(model.source, paths)
    if path.is_dir():
        raise ModelError(f"{model.name}: {path} is a folder: give the path of a .gguf file")
    if not path.is_file():
        raise _missing(model, path)
    return path


def waits_for_merging(model: ModelConfig, paths: Paths) -> bool:
    """Whether its own file is here, and the one with its adapter is not."""
    own = place(model.source, paths)
    return merges(model) and own.is_file() and not place_merged(model, own, paths).is_file()


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


def pull(
    entry: ModelConfig | EmbedderConfig, paths: Paths, progress: Progress | None = None, step: Step | None = None
) -> Path:
    """Make sure that the file (or folder) of `entry` is here and right, and return the path of what is run.

    It is fetched if need be, and the model's adapter merged into it. `progress` is called with (bytes done, bytes in
    all or None), `step` before either begins. Nothing appears under its final name before it is whole, checked and on
    disk. Raises ModelError.
    """
    with contextlib.suppress(ModelError):
        check(entry, paths)
        return _located(entry, paths)
    begin = step or (lambda what: None)
    try:
        _check_own(entry, paths)
    except ModelError:
        if isinstance(entry.source, PathSource):
            raise
        begin("fetching")
        _fetch(entry, entry.source, paths, progress or (lambda done, total: None))
    if not isinstance(entry, ModelConfig):
        return _located(entry, paths)
    check_adapter(entry)
    if not merges(entry):
        return _located(entry, paths)
    begin("merging")
    return make_merged(entry, _locate_own(entry, paths), paths)


def _fetch(
    entry: ModelConfig | EmbedderConfig, source: PypiSource | HubSource, paths: Paths, progress: Progress
) -> None:
    target = place(source, paths)
    with plain_errors(paths.models), staging(paths.models) as folder:
        fetched = fetch.fetch(source, folder, progress)
        found = digest(fetched.path)
        expected = entry.sha256 or fetched.sha256
        if expected is not None and found != expected:
            raise ModelError(
                f"{entry.name}: what was fetched has sha256 {found}, not {expected}: nothing was kept; try again, or "
                "correct the sha256 in models.yaml if the source has a new version"
            )
        if isinstance(entry, ModelConfig):
            read_gguf(fetched.path)
        put(fetched.path, target, found)
        if target.is_file():
            remember(target, found, paths.cache / HASHES)


def check(entry: ModelConfig | EmbedderConfig, paths: Paths) -> str:
    """The sha256 of what is run. Raises ModelError if that is missing, damaged, or not what it should be.

    It should be what models.yaml says, else what it was when it was fetched. A model's adapter is checked with it, and
    where the adapter is merged, the original as well.
    """
    found = _check_own(entry, paths)
    if not isinstance(entry, ModelConfig):
        return found
    check_adapter(entry)
    return check_merged(entry, _locate_own(entry, paths), paths) if merges(entry) else found


def _located(entry: ModelConfig | EmbedderConfig, paths: Paths) -> Path:
    return locate(entry, paths) if isinstance(entry, ModelConfig) else locate_embedder(entry, paths)


def _check_own(entry: ModelConfig | EmbedderConfig, paths: Paths) -> str:
    """The sha256 of what the source gave."""
    path = _locate_own(entry, paths) if isinstance(entry, ModelConfig) else locate_embedder(entry, paths)
    if isinstance(entry, ModelConfig):
        read_gguf(path)
    with plain_errors(path):
        found = digest(path)
        expected = entry.sha256 or (None if isinstance(entry.source, PathSource) else noted(path))
    if expected is not None and found != expected:
        again = f"run: localmem models pull {entry.name}"
        if isinstance(entry.source, PathSource):
            again = "put the right file there, or correct the sha256 in models.yaml"
        raise ModelError(f"{entry.name}: {path} has sha256 {found}, not {expected}: {again}")
    return found
