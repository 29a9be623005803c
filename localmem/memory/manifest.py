"""Manifests: what a cache on disk was derived from, so that a stale, foreign or half-written one is not believed.

A cache is safe to delete: whoever owns it makes it again from the store. Knows no index.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

#: Part of every manifest: a cache that another layout or tokenizer wrote is made again.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """The store that a cache belongs to, what made it, up to which ids it goes, and how many texts it holds.

    `marks` has the highest id for each sequence of ids that the cache follows; `tail` is a checksum of the rows that
    they name, for a store that was restored from a copy counts on from lower ids. `check` is a checksum of the cache.
    """

    store_id: str
    made_by: str
    marks: Mapping[str, int]
    count: int
    tail: int
    check: int = 0
    format: int = FORMAT

    def write(self, path: Path) -> None:
        write_whole(path, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """None if there is none, or none that can be read."""
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads(path.read_bytes()))
        return None

    def fits(self, store_id: str, made_by: str) -> bool:
        return (self.store_id, self.made_by, self.format) == (store_id, made_by, FORMAT)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that, after a crash at any instant, is the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
