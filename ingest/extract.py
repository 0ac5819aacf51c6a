"""The source's side of a run: one read-only snapshot, and sessions that read in it."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from frame.failure import Failure
from ingest import catalog, connections, selection
from ingest.errors import from_postgres
from ingest.shapes import SourceTables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ingest.connections import Address
    from ingest.contract import Pipeline
    from ingest.plan import TablePlan
    from ingest.rules import TableRule
    from ingest.shapes import Relation

# Seconds until a table that others hold is given up, and between two tries; and how long a try
# waits, behind which others wait.
LOCKED = 600.0
PAUSE = 1.0
TURN = "500ms"


class Source:
    """All tables of one run, as they stood at one moment; ``now`` is the source's clock then.

    ``leader`` is the session that holds the moment for all others, or reads all by itself.
    """

    def __init__(
        self,
        leader: psycopg.Connection[Any],
        address: Address,
        side: str,
        rules: dict[Relation, TableRule],
        closed: dict[Relation, Failure],
    ) -> None:
        self.side = side
        shapes = catalog.shapes(leader, [table for table in rules if table not in closed])
        self.tables = SourceTables(rules, shapes, catalog.types(leader, shapes), closed)
        ((self._snapshot, self.now),) = leader.execute(
            "SELECT pg_catalog.pg_export_snapshot(), now()::text"
        ).fetchall()
        self.leader = leader
        self._address = address

    @property
    def lost(self) -> bool:
        """Whether the session that holds the snapshot, and the snapshot with it, is gone."""
        return self.leader.broken or self.leader.closed

    def session(self, purpose: str) -> psycopg.Connection[Any]:
        """Open another session that sees the snapshot. Raises Failure."""
        connection = connections.connect(self._address, side=self.side, purpose=purpose)
        try:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.execute(
                sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self._snapshot))
            )
        except psycopg.Error as error:
            connection.close()
            raise from_postgres(error, side=self.side, table="the snapshot") from error
        return connection


@contextmanager
def snapshot(
    address: Address, pipeline: Pipeline, *, purpose: str, only: str | None = None
) -> Iterator[Source]:
    """Hold the pipeline's tables of the source, or the ``only`` one, still while they are copied.

    The tables are locked (ACCESS SHARE, which stops no reader or writer) before the snapshot is
    taken: one that is truncated or rewritten in between would read as empty under it. So are those
    that views read; a materialised view cannot be, and shows what it was refreshed with meanwhile.
    A table that cannot be read or locked is told by itself. Raises Failure.
    """
    side = f"source {pipeline.source}"
    what = ", ".join(rule.name for rule in pipeline.tables)
    leader = connections.connect(address, side=side, purpose=purpose)
    try:
        leader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        leader.read_only = True
        schemas = sorted({rule.table.schema for rule in pipeline.tables})
        rules = selection.select(pipeline, catalog.relations(leader, schemas), only)
        with leader.transaction():
            closed = _lock_all(leader, side, rules)
            names = catalog.names(leader, rules)
            for table in rules:
                if table not in closed and names.get(table.oid) != (table.schema, table.name):
                    closed[table] = _made_anew(side, table)
            yield Source(leader, address, side, rules, closed)
    except psycopg.Error as error:
        raise from_postgres(error, side=side, table=what) from error
    finally:
        leader.close()


def copy_out(plan: TablePlan, blocks: tuple[int, int | None] | None = None) -> sql.Composed:
    """Return the COPY of a table's rows, or of those in a range of blocks, the last one open."""
    conditions = [f"({plan.where})"] if plan.where else []
    if plan.leaves:
        conditions.append(plan.leaves)
    if blocks is not None:
        first, end = blocks
        conditions.append(f"ctid >= '({first},0)'::tid")
        if end is not None:
            conditions.append(f"ctid < '({end},0)'::tid")
    where = " WHERE " + " AND ".join(conditions) if conditions else ""
    return sql.SQL("COPY (SELECT {} FROM {}{}) TO STDOUT (FORMAT {})").format(
        sql.SQL(", ".join(column.select for column in plan.columns)),
        sql.Identifier(plan.source_schema, plan.source_name),
        sql.SQL(where),
        sql.SQL("binary" if plan.binary else "text"),
    )


def _made_anew(side: str, table: Relation) -> Failure:
    return Failure(
        f"{side}: table {table}: expected it as it was looked up, found it made anew since",
        hint="Run again.",
    )


def _lock_all(
    leader: psycopg.Connection[Any], side: str, tables: Iterable[Relation]
) -> dict[Relation, Failure]:
    """Lock every table against being changed; return those that are not locked, and why.

    A lock is tried in short turns, so that nobody waits long behind it, until ``LOCKED`` seconds
    are over. No snapshot is taken yet.
    """
    closed = {table: _unreadable(side, table) for table in tables if not table.readable}
    # A view takes what it reads along.
    left = [table for table in tables if table.kind in "rpv" and table not in closed]
    until = monotonic() + LOCKED
    while left:
        held_by_others: dict[Relation, psycopg.Error] = {}
        for table in left:
            try:
                _lock(leader, table)
            except psycopg.errors.LockNotAvailable as error:
                held_by_others[table] = error
            except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege) as error:
                closed[table] = from_postgres(error, side=side, table=str(table))
        left = list(held_by_others)
        if monotonic() > until:
            return closed | {
                table: from_postgres(error, side=side, table=str(table))
                for table, error in held_by_others.items()
            }
        if left:
            sleep(PAUSE)
    return closed


def _unreadable(side: str, table: Relation) -> Failure:
    return Failure(
        f"{side}: table {table}: expected the right to read it, found none",
        hint="Grant the connection's role USAGE on the schema and SELECT on the table, or leave it"
        " out by except.",
    )


def _lock(leader: psycopg.Connection[Any], table: Relation) -> None:
    name = sql.Identifier(table.schema, table.name)
    try:
        with leader.transaction():
            leader.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(TURN)))
            leader.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(name))
    except psycopg.errors.InsufficientPrivilege:
        if table.kind != "v":  # its owner may read columns, and so not lock the table
            raise
