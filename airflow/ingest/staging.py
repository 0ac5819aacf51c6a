"""Lands one table in the staging schema, which no reader sees."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg import sql

from ingest.errors import IngestError, from_postgres

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime

    from ingest.extract import Block, Source
    from ingest.plan import TablePlan


@dataclass(frozen=True)
class Staged:
    """A whole copy of one table in staging: rows, bytes of COPY text, and when it began."""

    table: TablePlan
    rows: int
    bytes: int
    started_at: datetime  # by the warehouse's clock


def load(connection: psycopg.Connection[Any], source: Source, table: TablePlan) -> Staged:
    """Copy ``table`` from the snapshot into a new staging table, in one transaction.

    Keys are built after the rows. Raises IngestError, and leaves nothing of the copy behind.
    """
    name = sql.Identifier(table.staging_schema, table.name)
    try:
        with connection.transaction(), connection.cursor() as cursor:
            started_at = _now(connection)
            cursor.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(name))
            cursor.execute(_create(table, name))
            with (
                closing(_Counted(source.blocks(table))) as blocks,
                cursor.copy(sql.SQL("COPY {} FROM STDIN").format(name)) as sink,
            ):
                for block in blocks:
                    sink.write(block)
            if cursor.rowcount != blocks.rows:
                raise IngestError(
                    f"table {table}: expected {blocks.rows} rows, found {cursor.rowcount} landed",
                    hint="Run again, and report it if it happens twice.",
                )
            rows = cursor.rowcount
            if table.primary_key:
                key = sql.SQL(", ").join(map(sql.Identifier, table.primary_key))
                cursor.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(name, key))
            cursor.execute(sql.SQL("ANALYZE {}").format(name))
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table=str(table)) from error
    return Staged(table, rows, blocks.size, started_at)


def _now(connection: psycopg.Connection[Any]) -> datetime:
    ((now,),) = connection.execute("SELECT clock_timestamp()").fetchall()
    return cast("datetime", now)


class _Counted:
    """Passes blocks on, counts their bytes, and keeps the row count that the source ends with."""

    def __init__(self, blocks: Generator[Block, None, int]) -> None:
        self.size = 0
        self.rows = -1
        self._blocks = blocks

    def __iter__(self) -> Generator[Block, None, None]:
        while True:
            try:
                block = next(self._blocks)
            except StopIteration as end:
                self.rows = end.value
                return
            self.size += len(block)
            yield block

    def close(self) -> None:
        self._blocks.close()


def _create(table: TablePlan, name: sql.Identifier) -> sql.Composed:
    columns = [
        sql.SQL("{} {}{}").format(
            sql.Identifier(column.name),
            column.landing.declaration,
            sql.SQL(" NOT NULL" if column.not_null else ""),
        )
        for column in table.columns
    ]
    return sql.SQL("CREATE TABLE {} ({})").format(name, sql.SQL(", ").join(columns))
