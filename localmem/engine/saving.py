"""Snapshots of sequences: what the KV cache holds, saved to a file and put back from one.

A snapshot is only ever an advantage: one that is damaged, foreign or outdated is ignored, with a note in the log. Knows
the engine's sequences; of a conversation only that it has a layout, which is kept as it was given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from localmem.engine.fingerprint import fingerprint
from localmem.engine.kv import SequenceCache, State, common_prefix
from localmem.engine.sequences import Sequences
from localmem.engine.snapshot_file import Header, Kind, SnapshotError, read_head, read_state, write_snapshot

#: A snapshot that has less in common with a prompt is not worth loading.
_LEAST = 32

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Wanted:
    """A prefix to be saved once it is held; `state` is what was copied of it where it cannot be had later."""

    prefix: list[int]
    file: Path
    most: int
    state: State | None = None


class Saving:
    """Saves and restores sequences. To be used while nothing is decoded."""

    def __init__(self, sequences: Sequences, name: str, settings: Callable[[], dict[str, Any]]) -> None:
        self._sequences, self._name, self._read_settings = sequences, name, settings
        self._wanted: _Wanted | None = None

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return self._read_settings()

    @cached_property
    def fingerprint(self) -> str:
        """Empty where the model's file is gone: then there are no snapshots."""
        try:
            return fingerprint(self._settings)
        except OSError as error:
            _log.debug("no snapshots: %s", error)
            return ""

    # -- a prefix, once it is read

    def keep(self, prefix: Sequence[int], file: Path, *, most: int) -> None:
        """Save `prefix` to `file` once it is held, unless it takes more than `most` bytes."""
        self._wanted = _Wanted(list(prefix), file, most)

    def before_boundary(self, cache: SequenceCache, tokens: Sequence[int]) -> int:
        """How many of `tokens` lead `cache` to just the prefix that is wanted; 0 if they do not, or need not."""
        wanted = self._wanted
        if wanted is None or cache.shares or wanted.state is not None:
            return 0  # of a cache that shares its cells, any length can be had later
        count = len(wanted.prefix) - len(cache.log)
        if not 0 < count <= len(tokens) or [*cache.log, *tokens[:count]] != wanted.prefix:
            return 0
        return count

    def at_boundary(self, cache: SequenceCache) -> None:
        """`cache` holds just the prefix that is wanted: copy its state."""
        if self._wanted is not None:
            self._wanted.state = cache.state() if cache.state_bytes() <= self._wanted.most else None
            cache.mark()

    def write_kept(self) -> None:
        """Write the prefix that is wanted, if it is held by now."""
        wanted = self._wanted
        if wanted is None:
            return
        state = wanted.state
        if state is None and common_prefix(self._sequences.current.log, wanted.prefix) == len(wanted.prefix):
            state = self._sequences.state_of(wanted.prefix, most=wanted.most)
        if state is not None:
            self._wanted = None
            self._write(wanted.file, self._header("static", len(wanted.prefix), state), wanted.prefix, state)

    # -- a conversation

    def save(self, file: Path, prompt: Sequence[int], *, agent: str, layout: Mapping[str, Any], most: int) -> bool:
        """What is held of `prompt` as a snapshot of at most `most` bytes; whether it was written."""
        longer = [*prompt, -1]
        cache = self._sequences.choose(longer, len(longer))
        cache.fit(longer)  # what was written behind it is gone with that
        tokens = list(cache.log)
        if not tokens or cache.state_bytes() > most:
            return False
        state = cache.state()
        header = self._header("conversation", len(tokens), state, agent=agent, layout=layout)
        return self._write(file, header, tokens, state)

    def restore(self, file: Path, prompt: Sequence[int]) -> int:
        """Put a snapshot into the current sequence if more of `prompt` is held by that. Tokens that are so held."""
        try:
            header, tokens = read_head(file)
            if header.fingerprint != self.fingerprint:
                raise SnapshotError("it was made with another model, setting or build of llama.cpp")
            shared = common_prefix(tokens, prompt)
            if shared < _LEAST:
                raise SnapshotError("it begins otherwise")
            if not self._sequences.current.rewinds and shared < len(tokens):
                raise SnapshotError("the conversation has left it, and this model cannot rewind")
            if shared <= self._sequences.current.usable([*prompt, -1]):
                return 0
            state = read_state(file, header)
        except (SnapshotError, OSError, MemoryError) as reason:
            _log.debug("snapshot %s ignored: %s", file, reason)
            return 0
        self._sequences.forget_ahead()
        if not self._sequences.current.load(tokens, state):
            _log.debug("snapshot %s ignored: llama.cpp cannot read its state", file)
            return 0
        usable = self._sequences.current.usable([*prompt, -1])
        if not usable:  # a sliding window is restored at its newest place only
            self._sequences.current.clear()
        _log.debug("snapshot %s: %d tokens restored", file, usable)
        return usable

    # -- files

    def _header(
        self,
        kind: Kind,
        n_tokens: int,
        state: State,
        *,
        agent: str | None = None,
        layout: Mapping[str, Any] | None = None,
    ) -> Header:
        return Header(
            kind=kind,
            fingerprint=self.fingerprint,
            model=self._name,
            agent=agent,
            n_tokens=n_tokens,
            state_bytes=state.nbytes,
            settings=self._settings,
            layout=layout or {},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _write(self, file: Path, header: Header, tokens: Sequence[int], state: State) -> bool:
        try:
            write_snapshot(file, header, tokens, state)
        except (SnapshotError, OSError) as error:
            _log.debug("snapshot %s not written: %s", file, error)
            return False
        _log.debug("snapshot %s: %d tokens saved", file, len(tokens))
        return True
