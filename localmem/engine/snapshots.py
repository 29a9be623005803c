"""Which snapshots there are, where each belongs, and which go first: the least recently used, by the file's time.

All of them are a cache: any may be deleted at any time, by this process or another one, and is only missed as time.
Knows the files' names and sizes, not what is in them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from localmem.config import Paths
from localmem.engine.snapshot_file import PARTIAL

_SUFFIX = ".kv"
_FOLDER = "kv"
_STALE_S = 3600.0

_log = logging.getLogger(__name__)


class Snapshots:
    """The snapshots of all agents under `paths`, of `budget` bytes together; a budget of 0 is none at all."""

    def __init__(self, paths: Paths, budget: int) -> None:
        self._paths = paths
        self.budget = budget

    @property
    def enabled(self) -> bool:
        return self.budget > 0

    def room_for(self, size: int) -> bool:
        """Whether a snapshot of `size` bytes may be written: it would fit if all others went."""
        return self.enabled and size <= self.budget

    def static(self, fingerprint: str, tokens: Sequence[int]) -> Path:
        """The file of a static prefix, which all agents share that begin with these token ids."""
        ids = hashlib.sha256(np.asarray(tokens, "<i4").tobytes()).hexdigest()
        return self._static_folder / f"{fingerprint[:16]}-{ids[:16]}{_SUFFIX}"

    def conversation(self, agent: str, fingerprint: str) -> Path:
        """The file of an agent's conversation, in the agent's folder: it is removed with the agent."""
        return self._paths.agent_folder(agent) / _FOLDER / f"{fingerprint[:16]}{_SUFFIX}"

    def files(self) -> list[Path]:
        """All there are, of static prefixes and of conversations, sorted by path."""
        return sorted(path for path in self._inside() if path.suffix == _SUFFIX and not path.name.startswith("."))

    def owner(self, path: Path) -> str | None:
        """The agent whose conversation the file is, by where it lies; None for a static prefix."""
        return None if path.parent == self._static_folder else path.parent.parent.name

    def touch(self, path: Path) -> None:
        """It was used now."""
        with suppress(OSError):  # gone, or not ours: then it goes earlier
            os.utime(path)

    def prune(self) -> list[Path]:
        """Remove the least recently used until the rest is within the budget, and what unfinished writing left.

        What was removed, in that order. Never raises: what another process removes in between is gone as well.
        """
        removed = [path for path in self._stale() if _remove(path, "left unfinished")]
        found = []
        for path in self.files():
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, path, status.st_size))
        total = sum(size for _, _, size in found)
        for _, path, size in sorted(found):
            if total <= self.budget:
                break
            if _remove(path, f"{total:,} bytes of snapshots, of {self.budget:,}"):
                removed.append(path)
                total -= size
        return removed

    @property
    def _static_folder(self) -> Path:
        return self._paths.cache / _FOLDER

    def _inside(self) -> Iterator[Path]:
        """Whatever is in the folders of snapshots."""
        agents = []
        with suppress(OSError):
            agents = list(self._paths.agents.iterdir())
        for folder in (self._static_folder, *(agent / _FOLDER for agent in agents)):
            with suppress(OSError):
                yield from list(folder.iterdir())

    def _stale(self) -> Iterator[Path]:
        """What a process that died was writing; a younger one may still be written."""
        oldest = time.time() - _STALE_S
        for path in self._inside():
            with suppress(OSError):
                if path.name.startswith(".") and path.suffix == PARTIAL and path.stat().st_mtime < oldest:
                    yield path


def _remove(path: Path, why: str) -> bool:
    """Whether it is gone; one that cannot be removed stays and is logged."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.debug("snapshot %s stays: %s", path, error.strerror)
        return False
    _log.debug("snapshot %s removed: %s", path, why)
    return True
