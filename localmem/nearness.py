"""Nearness: what comes near to a query in meaning, place by place. Finds nothing by words and shows nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection

from localmem.memory.archival import Archival
from localmem.memory.comparing import Comparer
from localmem.memory.recall import Recall

#: The cosine at which something is near to a query. Of 139 searches that composed messages led to, 8 were of earlier
#: messages in place of stored texts: each had a passage at 0.36 or more and no message at 0.3. No other one had.
NEAR = 0.35


class Nearness:
    """Compares queries with what one agent has on disk. `in_context` gives the ids of the events in main context.

    What is in main context is not compared: the question itself is there. None if it cannot be told: without an
    embedder, before it is loaded, and where nothing is near but something is not embedded yet.
    """

    def __init__(
        self, recall: Recall, archival: Archival, comparer: Comparer, in_context: Callable[[], Collection[int]]
    ) -> None:
        self._recall, self._archival = recall, archival
        self._comparer, self._in_context = comparer, in_context

    def said(self, query: str) -> bool | None:
        """Whether a message that is not in main context is near to `query`."""
        vector = self._comparer.vector(query)
        return None if vector is None else self._recall.is_near(vector, self._in_context(), least=NEAR)

    def stored(self, query: str) -> bool | None:
        """Whether a stored text is near to `query`."""
        vector = self._comparer.vector(query)
        return None if vector is None else self._archival.is_near(vector, least=NEAR)
