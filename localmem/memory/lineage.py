"""Branches of events, and which events are the ancestors of one: pure arithmetic over ids, no SQL is run here.

Ids grow along every branch, so the ancestors of an event are those of its own branch up to its id, those of the branch
that this one was forked from up to the fork, and so on to the root: one pair (branch, limit) for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: For each branch: the branch it was forked from and the event that it forked at; (None, None) at a root.
Forks = Mapping[int, tuple[int | None, int | None]]


@dataclass(frozen=True, slots=True)
class Lineage:
    """The ancestors of one event, itself included, as (branch, highest id) pairs from its own branch to the root's."""

    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, event: int, branch: int, forks: Forks) -> Lineage:
        spans = [(branch, event)]
        parent, limit = forks[branch]
        while parent is not None and limit is not None:
            spans.append((parent, limit))
            parent, limit = forks[parent]
        return cls(tuple(spans))

    @property
    def branch(self) -> int | None:
        return self.spans[0][0] if self.spans else None

    def extended(self, event: int) -> Lineage:
        """With `event` appended on the same branch."""
        return Lineage(((self.spans[0][0], event), *self.spans[1:]))

    def forked(self, event: int, branch: int) -> Lineage:
        """With `event` as the first of a new branch."""
        return Lineage(((branch, event), *self.spans))

    def sql(self, alias: str) -> str:
        """A condition on table `events` under `alias`. Plain integers: nothing to bind, nothing to escape."""
        spans = (f"({alias}.branch = {branch} AND {alias}.id <= {limit})" for branch, limit in self.spans)
        return f"({' OR '.join(spans)})" if self.spans else "FALSE"
