"""The source's side of a run: one read-only snapshot, and sessions that read in it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from frame.failure import Failure
from ingest import catalog, connections, selection
from ingest.errors import from_postgres
from ingest.fence import Fence
from ingest.shapes import SourceTables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.connections import Address
    from ingest.contract import Pipeline
    from ingest.hashing import HashKey
    from ingest.plan import TablePlan
    from ingest.selection import Selection
    from ingest.shapes import Relation


class Source:
    """All tables of one run, as they stood at one moment; ``now`` is the source's clock then.

    ``leader`` is the session that holds the moment for all others, and reads as they do.
    """

    def __init__(
        self,
        leader: psycopg.Connection[Any],
        address: Address,
        side: str,
        selected: Selection,
        wait: float,
        key: HashKey | None,
    ) -> None:
        self.side = side
        self.fence = Fence(leader, side, wait)
        rules = selected.rules
        closed = {table: _unreadable(side, table) for table in rules if not table.readable}
        held = self.fence.lock([table for table in rules if table not in closed])
        closed |= {
            table: from_postgres(error, side=side, table=str(table))
            for table, error in held.items()
        }
        names = catalog.names(leader, rules)
        for table in rules:
            if table not in closed and names.get(table.oid) != (table.schema, table.name):
                closed[table] = _made_anew(side, table)
        shapes = catalog.shapes(leader, [table for table in rules if table not in closed])
        self.tables = SourceTables(
            rules,
            shapes,
            catalog.types(leader, shapes),
            closed,
            selected.missing,
            selected.left_out,
        )
        self.fence.unlock(shapes)
        ((self._snapshot, self.now),) = leader.execute(
            "SELECT pg_catalog.pg_export_snapshot(), now()::text"
        ).fetchall()
        self._key = key
        if key is not None:
            key.give(leader)
        self.leader = leader
        self._address = address

    @property
    def lost(self) -> bool:
        """Whether the session that holds the snapshot, and the snapshot with it, is gone."""
        return self.leader.broken or self.leader.closed

    def session(self, purpose: str) -> psycopg.Connection[Any]:
        """Open another session that sees the snapshot. Raises Failure."""
        connection = connections.source(self._address, side=self.side, purpose=purpose)
        try:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connections.settle(connection)
            connection.execute(
                sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self._snapshot))
            )
            if self._key is not None:
                self._key.give(connection)
        except psycopg.Error as error:
            connection.close()
            raise from_postgres(error, side=self.side, table="the snapshot") from error
        return connection


@contextmanager
def snapshot(
    address: Address,
    pipeline: Pipeline,
    *,
    purpose: str,
    only: tuple[str, ...] = (),
    key: HashKey | None = None,
) -> Iterator[Source]:
    """Show the pipeline's tables of the source, or ``only`` some, as they are at one moment.

    The tables are locked (ACCESS SHARE, which stops no reader or writer) while the snapshot is
    taken, and those that views read; then again for each read. A materialised view cannot be, and
    shows what it was refreshed with meanwhile. A table that cannot be read or locked is reported by
    itself. Raises Failure.
    """
    side = f"source {pipeline.source}"
    what = ", ".join(rule.name for rule in pipeline.tables)
    leader = connections.source(address, side=side, purpose=purpose)
    try:
        schemas = sorted({rule.table.schema for rule in pipeline.tables})
        with leader.transaction():
            connections.settle(leader)
            relations = catalog.relations(leader, schemas)
        selected = selection.select(pipeline, relations, only)
        with leader.transaction():
            connections.settle(leader)
            wait = pipeline.limits.lock_wait.total_seconds()
            yield Source(leader, address, side, selected, wait, key)
    except psycopg.Error as error:
        raise from_postgres(error, side=side, table=what) from error
    finally:
        leader.close()


def copy_out(plan: TablePlan, blocks: tuple[int, int | None] | None = None) -> sql.Composed:
    """Return the COPY of a table's rows, or of those in a range of blocks, the last one open."""
    conditions: list[sql.Composable] = []
    if plan.read.condition:
        conditions.append(sql.SQL("({})").format(plan.read.condition))
    if plan.source.leaves:
        conditions.append(plan.source.leaves)
    if blocks is not None:
        first, end = blocks
        conditions.append(sql.SQL("ctid >= {}::tid").format(sql.Literal(f"({first},0)")))
        if end is not None:
            conditions.append(sql.SQL("ctid < {}::tid").format(sql.Literal(f"({end},0)")))
    most = plan.read.most
    return sql.SQL("COPY (SELECT {} FROM {}{}{}{}) TO STDOUT (FORMAT {})").format(
        sql.SQL(", ").join(column.select for column in plan.target.columns),
        plan.source.relation,
        sql.SQL(" WHERE " if conditions else ""),
        sql.SQL(" AND ").join(conditions),
        sql.SQL("" if most is None else " LIMIT {}").format(sql.Literal(most)),
        sql.SQL(plan.read.format),
    )


def _made_anew(side: str, table: Relation) -> Failure:
    return Failure(
        f"{side}: table {table}: expected it as it was looked up, found it made anew since",
        hint="Run again.",
    )


def _unreadable(side: str, table: Relation) -> Failure:
    return Failure(
        f"{side}: table {table}: expected the right to read it, found none",
        hint="Grant the connection's role USAGE on the schema and SELECT on the table, or leave it"
        " out by except.",
    )
