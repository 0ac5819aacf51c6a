"""The source's side of a run: one read-only snapshot, and each table of it as a COPY stream."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from ingest import catalog, plan
from ingest.errors import from_postgres

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from ingest.contract import Pipeline
    from ingest.plan import TablePlan
    from ingest.shapes import Relation, TableShape

# What psycopg hands over: some rows, or a part of one, in COPY's text format.
Block = bytes | bytearray | memoryview


class Source:
    """All tables of one run, as they stood at one moment."""

    def __init__(
        self, connection: psycopg.Connection[Any], side: str, shapes: Sequence[TableShape]
    ) -> None:
        self.shapes = shapes
        self._connection = connection
        self._side = side

    @property
    def lost(self) -> bool:
        """Whether the session, and the snapshot with it, is gone."""
        return self._connection.broken or self._connection.closed

    def blocks(self, table: TablePlan) -> Generator[Block, None, int]:
        """Yield ``table`` in COPY's text format; return its number of rows.

        A failure leaves the snapshot usable for the next table. Raises DatabaseError.
        """
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                with cursor.copy(_copy_out(table)) as stream:
                    yield from stream
                return cursor.rowcount
        except psycopg.Error as error:
            raise from_postgres(error, side=self._side, table=str(table.source)) from error


@contextmanager
def snapshot(
    connection: psycopg.Connection[Any], pipeline: Pipeline, only: str | None = None
) -> Iterator[Source]:
    """Hold the pipeline's tables of the source, or the ``only`` one, still while it is copied.

    The tables are locked (ACCESS SHARE, which stops no reader or writer) before the snapshot is
    taken: one that is truncated or rewritten in between would read as empty under it.
    Raises IngestError.
    """
    side = f"source {pipeline.source}"
    what = ", ".join(rule.name for rule in pipeline.tables)
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        schemas = sorted({rule.table.schema for rule in pipeline.tables})
        tables = plan.select(pipeline, catalog.relations(connection, schemas), only)
        with connection.transaction():
            for table in tables:
                what = str(table)
                if table.kind in "rp":
                    connection.execute(_lock(table))
            shapes = catalog.shapes(connection, tables)
            yield Source(connection, side, shapes)
    except psycopg.Error as error:
        raise from_postgres(error, side=side, table=what) from error


def _lock(table: Relation) -> sql.Composed:
    name = sql.Identifier(table.schema, table.name)
    return sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(name)


def _copy_out(table: TablePlan) -> sql.Composed:
    columns = [
        sql.Identifier(column.name)
        if column.landing.cast is None
        else sql.SQL("{}::{}").format(sql.Identifier(column.name), sql.SQL(column.landing.cast))
        for column in table.columns
    ]
    return sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
        sql.SQL(", ").join(columns), sql.Identifier(table.source.schema, table.source.name)
    )
