"""One pipeline file at work: its name, its run, its two databases, and what of it is wanted."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from frame.failure import Failure
from ingest import connections, due, hashing, selection, warehouse
from ingest.errors import ConflictError, DatabaseError
from ingest.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from ingest.connections import Address, Entry
    from ingest.contract import Pipeline
    from ingest.cursor import Interval
    from ingest.due import Due
    from ingest.hashing import HashKey
    from ingest.plan import TablePlan
    from ingest.rules import TableRule
    from ingest.shapes import SourceTables

T = TypeVar("T")

# Seconds in which a warehouse that was restarted is back; beyond them what failed goes unwritten.
_RESTART = 10.0


@dataclass(frozen=True)
class Scope:
    """What of a pipeline a run loads: all that is due, unless it says otherwise.

    ``only`` names tables, all if there are none; ``interval`` asks for rows with such cursor values
    again; ``jobs`` is the number of sessions to the source, None for the file's; ``progress`` hears
    of each table's bytes as they come. Tables published as one of ``done`` are not loaded. ``rows``
    bounds what is read of each table: a sample, for a database where no other run follows.
    """

    only: tuple[str, ...] = ()
    full_refresh: bool = False
    interval: Interval | None = None
    jobs: int | None = None
    progress: Callable[[str, int], None] = lambda _table, _bytes: None
    done: frozenset[str] = frozenset()
    rows: int | None = None


@dataclass(frozen=True)
class Job:
    """One pipeline file at work: its name (the file's stem), its run, where its databases are."""

    pipeline: Pipeline
    name: str
    run_id: str
    resolve: Callable[[str], Entry] = connections.from_environment

    @contextmanager
    def warehouse(self) -> Iterator[psycopg.Connection[Any]]:
        """Open a session to the warehouse that holds the lock of the pipeline's schema."""
        with closing(self.connect()) as connection:
            warehouse.lock(connection, self.pipeline)
            yield connection

    def connect(self) -> psycopg.Connection[Any]:
        """Open a session to the warehouse. Raises Failure."""
        address = connections.postgres(self.resolve(self.pipeline.warehouse))
        return connections.warehouse(address, purpose=f"ingest {self.name}")

    def checks_login(self) -> Address | None:
        """Return where the file's own queries run, None if it has none.

        Raises UnknownConnectionError.
        """
        if not any(rule.checks.sql for rule in self.pipeline.tables):
            return None
        return connections.postgres(self.resolve(self.pipeline.checks_login))

    def journal(self, connection: psycopg.Connection[Any]) -> Journal:
        """Return what this run writes into ops by ``connection``."""
        return Journal(connection, self.name, self.run_id)

    def decide(
        self,
        tables: SourceTables,
        target: psycopg.Connection[Any],
        scope: Scope,
        key: HashKey | None,
    ) -> Due:
        """Return what is due of the source's ``tables``, as ``target`` stands. Raises Failure.

        Nothing is changed on either side; ``key`` is the one for hashed columns.
        """
        published = warehouse.published(self.journal(target), self.pipeline, tables)
        return due.decide(self.pipeline, tables, published, scope, key.mark if key else "")

    def rule(self, planned: TablePlan) -> TableRule:
        """Return the rule of the pipeline file for a table. Raises ConflictError."""
        rule = selection.rule(self.pipeline, planned.source.schema, planned.source.name)
        if rule is None:
            raise ConflictError(
                f"table {planned}: expected its source in the pipeline file, found it left out",
                hint="The file has changed since: run again.",
            )
        return rule

    def write(self, target: psycopg.Connection[Any], write: Callable[[Journal], T]) -> T:
        """Return what ``write`` does with the journal; by a new session if ``target`` is gone.

        Raises Failure.
        """
        try:
            return write(self.journal(target))
        except Failure:
            if not target.closed:
                raise
        with closing(self._reconnect()) as fresh:
            return write(self.journal(fresh))

    def _reconnect(self) -> psycopg.Connection[Any]:
        until = monotonic() + _RESTART
        while True:
            try:
                return self.connect()
            except DatabaseError:
                if monotonic() > until:
                    raise
                sleep(1)

    def source(self) -> tuple[Address, HashKey | None]:
        """Return the source's address, and its key if columns are hashed. Raises Failure."""
        address = connections.postgres(self.resolve(self.pipeline.source))
        if not any(rule.columns.hash for rule in self.pipeline.tables):
            return address, None
        key = hashing.key(self.resolve(self.pipeline.hash_key), self.pipeline.source)
        return address, key
