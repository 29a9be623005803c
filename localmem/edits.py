"""Edits of core memory by hand: what the user changes, the model is told.

Each edit is an event at the end of main context; what stands at its beginning is left as it is. Knows no model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from localmem.errors import FunctionError
from localmem.events import Event, Kind
from localmem.memory.core import Block, Core
from localmem.memory.store import Store
from localmem.paging import Paging


class BlockEdits:
    """Edits the blocks of one agent; `check_window` raises ConfigError where they would outgrow the window."""

    def __init__(self, store: Store, core: Core, paging: Paging, check_window: Callable[[], None]) -> None:
        self._store, self._core, self._paging, self._check_window = store, core, paging, check_window

    def set(self, label: str, value: str) -> Event:
        """Change a block by hand; the model is told. ConfigError for an unknown block, FunctionError over its limit."""
        limit = self._core[label].limit
        if len(value) > limit:
            raise FunctionError(f"Block {label} takes {limit} characters and this has {len(value)}; shorten it.")
        text = f"The user changed core memory. {label} is now:\n{value or '(empty)'}"
        return self._edit(text, lambda: self._core.set(label, value))

    def add(self, label: str, value: str, *, limit: int, description: str) -> Event:
        """Add a block to core memory; the model is told. ConfigError if the label is taken, or the window too small."""
        text = f"The user added a block to core memory. {label} is:\n{value or '(empty)'}"
        limit = max(limit, len(value) + limit // 2)
        return self._edit(text, lambda: self._core.add(label, value, limit=limit, description=description))

    def undo(self, label: str) -> Event:
        """Take the last edit of a block back; the model is told. ConfigError if there is none."""
        longest_one = max((edit.after for edit in self._core.history(label)), key=len)
        head = f"The user took back the last change of core memory. {label} is now:"
        return self._edit(f"{head}\n{longest_one}", lambda: self._core.undo(label), head=head)

    def _edit(self, text: str, edit: Callable[[], Block], *, head: str | None = None) -> Event:
        """The edit and what tells of it, together. With `head`, the new value is told in an event of its own."""
        deque(self._paging.make_room_for(text), maxlen=0)
        with self._store.transaction():
            events = [self._store.append(Kind.ALERT, head or text)]
            block = edit()
            self._check_window()
            if head is not None:
                events.append(self._store.append(Kind.ALERT, block.value or "(empty)"))
        for event in events:
            self._paging.add(event, event.id)
        self._paging.idle()
        return events[-1]
