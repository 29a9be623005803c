"""Store: an agent's file. Events on branches, a head, transactions; the only truth on disk, the only user of DuckDB.

The ancestors of the head are what can be seen: `ancestors_sql` says which those are, and nothing else does. Nothing is
ever deleted; undo and checkpoints move the head. A row of another table names the event under which it was made, and
`tied_sql` makes it come and go with that event.

Two connections share the file. The main one belongs to whoever holds the lock: a transaction is never interleaved with
another thread's work. The side one sees only what is committed, so the indexes never learn what may be rolled back.

Knows nothing of blocks, passages, indexes or models: `core`, `recall` and `archival` bring their own SQL.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from localmem.errors import StoreError
from localmem.events import Event, FunctionCall, Kind
from localmem.memory.lineage import Lineage
from localmem.memory.ownership import claimed, first_line, release, why_not_opened
from localmem.memory.records import EVENT_COLUMNS, is_searchable, storable, to_event, to_json, to_row, to_utc
from localmem.memory.schema import MIGRATIONS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Tier = Literal["recall", "archival"]
Row = tuple[Any, ...]

#: No extension is ever fetched. One thread: the tables are small, and the cores belong to the model.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "threads": 1,
}

_ROWS_A_STATEMENT = 100


def utc_now() -> datetime:
    return datetime.now(UTC)


def _connect(path: Path) -> DuckDBPyConnection:
    import duckdb

    try:
        return duckdb.connect(str(path), config=_CONFIG)
    except duckdb.Error as error:
        raise StoreError(why_not_opened(path, str(error))) from error


class Store:
    """One agent's file, open. Safe to use from several threads; made by `Store.open`."""

    def __init__(self, path: Path, connection: DuckDBPyConnection, clock: Callable[[], datetime]) -> None:
        self.path_on_disk = path
        self.clock = clock
        #: Called after each commit, outside the lock.
        self.listeners: list[Callable[[], None]] = []
        self._main, self._side = connection, connection.cursor()
        self._lock, self._side_lock = threading.RLock(), threading.Lock()
        self._depth = 0
        self._moves = 0
        self._head: int | None = None
        self._lineage, self._at_tip = Lineage(), False
        self._closed = False

    @classmethod
    def open(cls, path: Path, *, clock: Callable[[], datetime] = utc_now, agent: str | None = None) -> Store:
        """Open an agent's file, or make it. StoreError if it is in use, newer than this program, damaged or foreign."""
        with claimed(path) as path:
            store = cls(path, _connect(path), clock)
            try:
                store._migrate(agent)
                store._reload()
            except BaseException:
                store._disconnect()
                raise
        return store

    def close(self) -> None:
        """Idempotent. What was not committed is gone."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._disconnect()
                release(self.path_on_disk)

    def _disconnect(self) -> None:
        with self._side_lock:
            self._side.close()
        self._main.close()

    # -- format

    def _migrate(self, agent: str | None) -> None:
        tables = {name for (name,) in self.query("SELECT table_name FROM duckdb_tables()")}
        if tables and not {"meta", "events"} <= tables:
            raise StoreError(f"{self.path_on_disk} is a DuckDB file, but not an agent's; choose another path")
        version = int(self._meta("version")) if tables else 0
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.path_on_disk} was written by a newer localmem (format {version}, this one reads up to "
                f"{len(MIGRATIONS)}); upgrade localmem"
            )
        for number, statements in enumerate(MIGRATIONS[version:], version + 1):
            with self.transaction():
                self.execute(statements)
                if number == 1:
                    self._stamp(agent)
                self.execute("UPDATE meta SET value = ? WHERE key = 'version'", [str(number)])

    def _stamp(self, agent: str | None) -> None:
        created = self.clock().astimezone(UTC).isoformat()
        stamps = {"version": "0", "head": None, "store_id": str(uuid.uuid4()), "created": created, "agent": agent}
        self.insert("meta", list(stamps.items()))

    def _meta(self, key: str) -> Any:
        rows = self.query("SELECT value FROM meta WHERE key = ?", [key])
        if not rows:
            raise StoreError(f"{self.path_on_disk} is damaged: it has no {key}; restore it from a copy")
        return rows[0][0]

    def _reload(self) -> None:
        """Take everything held in memory from the file."""
        self.store_id: str = self._meta("store_id")
        self.created = datetime.fromisoformat(self._meta("created"))
        self.agent: str | None = self._meta("agent")
        self._forks = {id: (parent, at) for id, parent, at in self.query("SELECT id, parent, forked_at FROM branches")}
        self._last_id: int = self.query("SELECT coalesce(max(id), 0) FROM events")[0][0]
        head = self._meta("head")
        self._place_head(None if head is None else int(head))

    # -- SQL

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement in the transaction of the moment, or alone."""
        with self._lock:
            self._run(self._main, sql, parameters)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Rows, as the transaction of the moment sees them."""
        with self._lock:
            return self._run(self._main, sql, parameters).fetchall()

    def ids(self, sql: str, parameters: Sequence[Any] = ()) -> NDArray[np.int64]:
        """The one integer column of a query, shape (rows,)."""
        with self._lock:
            (column,) = self._run(self._main, sql, parameters).fetchnumpy().values()
            return np.asarray(column, dtype=np.int64)

    def committed(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Rows, as they are on disk: nothing of an open transaction, whose ids may yet stand for something else."""
        with self._side_lock:
            return self._run(self._side, sql, parameters).fetchall()

    def insert(self, table: str, rows: Sequence[Row]) -> None:
        """Add whole rows, in the order of the table's columns."""
        with self._lock:
            self._insert(self._main, table, rows)

    def next_id(self, table: str) -> int:
        row: Row = self.query(f"SELECT coalesce(max(id), 0) + 1 FROM {table}")[0]
        return int(row[0])

    def add_vectors(self, embedder: str, vectors: Sequence[tuple[Tier, int, NDArray[np.float32]]]) -> None:
        """Store the vectors of texts, each (tier, item, vector): committed at once, beside any open transaction."""
        with self._side_lock:
            last = self._run(self._side, "SELECT coalesce(max(id), 0) FROM vectors").fetchall()[0][0]
            rows = [
                (number, tier, item, embedder, vector.astype("<f4").tobytes())
                for number, (tier, item, vector) in enumerate(vectors, last + 1)
            ]
            self._insert(self._side, "vectors", rows)

    def _insert(self, connection: DuckDBPyConnection, table: str, rows: Sequence[Row]) -> None:
        # Many rows to a statement: one at a time takes ten times as long.
        for some in (rows[i : i + _ROWS_A_STATEMENT] for i in range(0, len(rows), _ROWS_A_STATEMENT)):
            slots = f"({', '.join('?' * len(some[0]))})"
            self._run(
                connection,
                f"INSERT INTO {table} VALUES {', '.join([slots] * len(some))}",
                [value for row in some for value in row],
            )

    def _run(self, connection: DuckDBPyConnection, sql: str, parameters: Sequence[Any] = ()) -> DuckDBPyConnection:
        import duckdb

        if self._closed:
            raise StoreError(f"{self.path_on_disk} is closed; open the agent again")
        try:
            return connection.execute(sql, parameters) if parameters else connection.execute(sql)
        except duckdb.Error as error:
            raise StoreError(f"{self.path_on_disk}: {first_line(error)}; check the disk and the file") from error
        except RuntimeError as error:
            if str(error) != "Query interrupted":  # which is what DuckDB makes of a Ctrl-C inside its own code
                raise
            raise KeyboardInterrupt from None

    # -- transactions

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on disk and in memory. An inner transaction joins the outer one."""
        with self._lock:
            if self._depth:
                yield
                return
            self.execute("BEGIN TRANSACTION")
            self._depth = 1
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            finally:
                self._depth = 0
        for listener in self.listeners:
            listener()

    def _roll_back(self) -> None:
        # An interrupt can fall just behind the commit, so memory is taken from the file rather than from before. The
        # StoreErrors: nothing is left to roll back, and a file that was never stamped has nothing to take.
        with suppress(StoreError):
            self.execute("ROLLBACK")
        with suppress(StoreError):
            self._reload()

    # -- events

    @property
    def head(self) -> int | None:
        """The id of the newest event that can be seen; None before the first."""
        return self._head

    @property
    def moves(self) -> int:
        """Changes whenever the head went anywhere but to a new child: what was seen before may be gone."""
        return self._moves

    def append(
        self,
        kind: Kind,
        text: str = "",
        *,
        call: FunctionCall | None = None,
        stats: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Event:
        """Commit an event as the child of the head, and make it the head."""
        with self.transaction():
            event = Event(
                id=self._last_id + 1,
                time=self.clock().astimezone(UTC),
                kind=kind,
                parent=self._head,
                text=storable(text),
                call=call,
                stats=stats,
                details=dict(details or {}),
            )
            lineage = self._lineage.extended(event.id) if self._at_tip else self._fork(event.id)
            assert lineage.branch is not None
            self.insert("events", [to_row(event, lineage.branch)])
            self.execute("UPDATE meta SET value = ? WHERE key = 'head'", [str(event.id)])
            self._last_id, self._head = event.id, event.id
            self._lineage, self._at_tip = lineage, True
            return event

    def _fork(self, event: int) -> Lineage:
        branch = max(self._forks, default=0) + 1
        self._forks[branch] = (self._lineage.branch, self._head)
        self.insert("branches", [(branch, *self._forks[branch])])
        return self._lineage.forked(event, branch)

    def amend(self, event_id: int, *, details: Mapping[str, Any]) -> Event:
        """Merge `details` into those of an event: how a started call ended, or a note."""
        with self.transaction():
            event = self.event(event_id)
            event = replace(event, details={**event.details, **details})
            self.execute(
                "UPDATE events SET details = ?, searchable = ? WHERE id = ?",
                [to_json(event.details), is_searchable(event), event_id],
            )
            return event

    def event(self, id: int) -> Event:
        """Any event, on any branch. StoreError if there is none."""
        rows = self.query(f"SELECT {EVENT_COLUMNS} FROM events e WHERE e.id = ?", [id])
        if not rows:
            raise StoreError(f"there is no event {id}; the newest is {self._last_id}")
        return to_event(rows[0])

    def path(self, *, after: int | None = None, kinds: Sequence[Kind] = ()) -> list[Event]:
        """The ancestors of the head, itself included, oldest first; only those with an id above `after`, of `kinds`."""
        among = f"AND e.kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
        sql = f"SELECT {EVENT_COLUMNS} FROM events e WHERE {self.ancestors_sql('e')} AND e.id > ? {among} ORDER BY e.id"
        return [to_event(row) for row in self.query(sql, [after or 0, *map(str, kinds)])]

    def last(self, *kinds: Kind) -> Event | None:
        """The newest ancestor of the head of one of `kinds`, or of any kind."""
        sql = f"SELECT {EVENT_COLUMNS} FROM events e WHERE {self.ancestors_sql('e')} {_among(kinds)}"
        rows = self.query(f"{sql} ORDER BY e.id DESC LIMIT 1", [*map(str, kinds)])
        return to_event(rows[0]) if rows else None

    # -- the head and what it sees

    def move_head(self, id: int | None) -> None:
        """See the past as of event `id`, or nothing at all; the next event is appended there."""
        with self.transaction():
            self._place_head(id)
            self.execute("UPDATE meta SET value = ? WHERE key = 'head'", [None if id is None else str(id)])

    def _place_head(self, id: int | None) -> None:
        lineage, at_tip = Lineage(), False
        if id is not None:
            self.event(id)
            sql = "SELECT branch, (SELECT max(id) FROM events t WHERE t.branch = e.branch) FROM events e WHERE id = ?"
            branch, tip = self.query(sql, [id])[0]
            lineage, at_tip = Lineage.of(id, branch, self._forks), tip == id
        self._head, self._lineage, self._at_tip = id, lineage, at_tip
        self._moves += 1

    def ancestors_sql(self, alias: str) -> str:
        """The condition, on table `events` under `alias`, that the head can see a row. Binds no parameters."""
        return self._lineage.sql(alias)

    def tied_sql(self, column: str) -> str:
        """The condition that the head can see the event that `column` names, or that it names none."""
        return f"({column} IS NULL OR {column} IN (SELECT a.id FROM events a WHERE {self.ancestors_sql('a')}))"

    def bookmark(self, name: str) -> None:
        """Give the head a name, or give the name to the head."""
        if self._head is None:
            raise StoreError("there is nothing to bookmark yet; say something first")
        self.insert("bookmarks", [(storable(name), self._head, to_utc(self.clock()))])

    def bookmarks(self) -> dict[str, int]:
        """Event ids by name, in the order in which the names were given."""
        return dict(self.query("SELECT name, event FROM bookmarks ORDER BY rowid"))


def _among(kinds: Collection[Kind]) -> str:
    """The condition that event `e` is of one of `kinds`, to be bound in their order; none if there are none."""
    return f"AND e.kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
