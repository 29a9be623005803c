"""Core memory: blocks of text that are always in main context, their limits and their history.

Every edit is a row that names the event under which it was made, so moving the head back takes edits back with it.
A block's value is its newest row that the head can see. Knows nothing of who edits a block or how it is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from localmem.errors import ConfigError, FunctionError
from localmem.memory.records import from_utc, storable, to_utc
from localmem.memory.store import Store

_LABEL = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class Block:
    """A named part of core memory; `value` has at most `limit` characters."""

    label: str
    value: str
    limit: int
    description: str = ""

    @property
    def room(self) -> int:
        """How many more characters fit."""
        return self.limit - len(self.value)


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a block, made under `event` (None before any event)."""

    label: str
    event: int | None
    time: datetime
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    event: int | None
    time: datetime
    value: str
    limit: int
    description: str
    undo: bool

    @property
    def block(self) -> Block:
        return Block(self.label, self.value, self.limit, self.description)


class Core:
    """The blocks of one agent, as the head of its store sees them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read_at: int | None = None
        self._blocks: dict[str, Block] = {}

    # -- reading

    def blocks(self) -> list[Block]:
        """All blocks, in the order in which they were added."""
        return list(self._current().values())

    @property
    def labels(self) -> list[str]:
        return list(self._current())

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks())

    def __len__(self) -> int:
        return len(self._current())

    def __contains__(self, label: object) -> bool:
        return label in self._current()

    def __getitem__(self, label: str) -> Block:
        """ConfigError, naming the labels there are, if `label` is none of them."""
        try:
            return self._current()[label]
        except KeyError:
            there_are = ", ".join(self.labels) or "none yet"
            raise ConfigError(f"core memory has no block {label!r}; its blocks: {there_are}") from None

    def history(self, label: str | None = None) -> list[Edit]:
        """The edits of one block, or of all, oldest first; the first edit of a block is its being added."""
        if label is not None:
            self[label]
        edits, values = [], dict[str, str]()
        for row in self._rows():
            if label in (None, row.label):
                before = values.get(row.label, "")
                edits.append(Edit(row.label, row.event, row.time, before, row.value))
                values[row.label] = row.value
        return edits

    def _current(self) -> dict[str, Block]:
        # A new event can hide no row and reveal none, so what was read holds until the head moves otherwise or an
        # edit is made here.
        if self._read_at != self._store.moves:
            self._blocks = {row.label: row.block for row in self._rows()}
            self._read_at = self._store.moves
        return self._blocks

    def _rows(self) -> list[_Row]:
        rows = self._store.query(
            "SELECT label, event, time, value, size_limit, description, undo FROM blocks "
            f"WHERE {self._store.tied_sql('event')} ORDER BY id"
        )
        return [_Row(label, event, from_utc(time), *rest) for label, event, time, *rest in rows]

    # -- editing

    def add(self, label: str, value: str = "", *, limit: int, description: str = "") -> Block:
        """A new block. ConfigError if the label is malformed or taken, or the value is over the limit."""
        if not _LABEL.fullmatch(label):
            raise ConfigError(
                f"{label!r} cannot name a block; use a lower-case letter, then up to 31 lower-case letters, digits or _"
            )
        if label in self:
            raise ConfigError(f"core memory already has a block {label!r}; edit it, or choose another label")
        if len(value) > limit:
            raise ConfigError(
                f"block {label!r}: the value has {len(value)} characters and the limit is {limit}; shorten it"
            )
        return self._write(Block(label, value, limit, description))

    def set(self, label: str, value: str) -> Block:
        """Replace the whole value. FunctionError if it is over the limit."""
        return self._edit(self[label], value)

    def append(self, label: str, content: str) -> Block:
        """Put `content` on a line of its own at the end. FunctionError if it does not fit."""
        block = self[label]
        if not content:
            return block
        return self._edit(block, f"{block.value}\n{content}" if block.value else content)

    def replace(self, label: str, old: str, new: str) -> Block:
        """Put `new` in the place of `old`: the first line that is `old`, or else the first place where it stands.

        An empty `new` takes the line away. FunctionError if `old` is not in the value or the result does not fit.
        """
        block = self[label]
        lines = block.value.split("\n")
        if not old or old not in block.value:
            raise FunctionError(f"block {label!r} does not contain {old!r}")
        if old in lines:
            place = lines.index(old)
            lines[place : place + 1] = [new] if new else []
            return self._edit(block, "\n".join(lines))
        return self._edit(block, block.value.replace(old, new, 1))

    def undo(self, label: str) -> Block:
        """Restore the value before the last edit that still stands, as an edit of its own; undo again goes further."""
        self[label]
        standing: list[_Row] = []
        for row in self._rows():
            if row.label == label:
                if row.undo:
                    standing.pop()
                else:
                    standing.append(row)
        if len(standing) < 2:
            raise ConfigError(f"block {label!r} has no edit to undo; it is as it was added")
        return self._write(standing[-2].block, undo=True)

    def _edit(self, block: Block, value: str) -> Block:
        value = storable(value)
        if value == block.value:
            return block
        if len(value) > block.limit:
            raise FunctionError(
                f"block {block.label!r} would have {len(value)} characters and its limit is {block.limit}: it has "
                f"{len(block.value)} now and room for {max(0, block.room)} more; shorten or replace something first"
            )
        return self._write(Block(block.label, value, block.limit, block.description))

    def _write(self, block: Block, *, undo: bool = False) -> Block:
        block = Block(block.label, storable(block.value), block.limit, storable(block.description))
        store = self._store
        with store.transaction():
            made = (store.next_id("blocks"), block.label, store.head, to_utc(store.clock()))
            store.insert("blocks", [(*made, block.value, block.limit, block.description, undo)])
        self._current()[block.label] = block
        return block
