"""How a pipeline stands, as ``ops`` has it: its last run, and what is published of each table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg.rows import class_row

from ingest.errors import from_postgres

if TYPE_CHECKING:
    from datetime import datetime

    from ingest.contract import Pipeline

_RUN: LiteralString = """
    SELECT run_id, status, started_at, finished_at, step, error, hint FROM ops.runs
    WHERE pipeline = %s ORDER BY started_at DESC LIMIT 1
"""
_TABLES: LiteralString = """
    WITH tried AS (
      SELECT DISTINCT ON ("table") "table", status, error FROM ops.tables
      WHERE pipeline = %(pipeline)s ORDER BY "table", started_at DESC
    ), published AS (
      SELECT "table", published_at, rows, cursor_value FROM ops.state
      WHERE pipeline = %(pipeline)s
    )
    SELECT "table", p.published_at, p.rows, p.cursor_value, t.status AS last, t.error,
           EXISTS (SELECT FROM ops.staging k
                   WHERE k.schema = %(schema)s AND k.checked AND k.staged IS NOT NULL
                     AND "table" IN (format('%%s.%%s', k.schema, k.name),
                                     format('%%I.%%I', k.schema, k.name))) AS waiting
    FROM published p FULL JOIN tried t USING ("table") ORDER BY "table"
"""
_RESET: LiteralString = """
    UPDATE ops.state s SET pipeline = %(pipeline)s, cursor = NULL, cursor_value = NULL,
      origin = NULL, version = CASE WHEN a.appends THEN s.version ELSE 0 END
    FROM (SELECT s."table", coalesce((h.shape ->> 'appends')::boolean, false) AS appends
          FROM ops.state s LEFT JOIN ops.shapes h USING ("table", version)
          JOIN pg_catalog.pg_class c ON c.oid = s.oid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = %(schema)s
            AND (%(all)s OR s."table" = ANY(%(tables)s) OR c.relname = ANY(%(tables)s))) a
    WHERE s."table" = a."table" RETURNING s."table", a.appends
"""


@dataclass(frozen=True)
class Run:
    """The run that began last; ``error`` is that of its first fault, in ``step``, with a hint."""

    run_id: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    step: str | None
    error: str | None
    hint: str | None


@dataclass(frozen=True)
class Table:
    """What is published of a table, None of it if nothing is, and how it went in its last run.

    ``waiting`` tells whether rows wait in staging for `ingest publish`.
    """

    table: str
    published_at: datetime | None
    rows: int | None
    cursor_value: str | None
    last: str | None
    error: str | None
    waiting: bool


def last_run(connection: psycopg.Connection[Any], pipeline: str) -> Run | None:
    """Return the run of ``pipeline`` that began last. Raises Failure."""
    try:
        with connection.cursor(row_factory=class_row(Run)) as cursor:
            return cursor.execute(_RUN, [pipeline]).fetchone()
    except psycopg.errors.UndefinedTable:  # nothing has run yet
        return None
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table="ops.runs") from error


def tables(connection: psycopg.Connection[Any], pipeline: Pipeline, name: str) -> tuple[Table, ...]:
    """Return the tables that the pipeline ``name`` has published or tried to. Raises Failure."""
    values = {"pipeline": name, "schema": pipeline.published_schema}
    try:
        with connection.cursor(row_factory=class_row(Table)) as cursor:
            return tuple(cursor.execute(_TABLES, values).fetchall())
    except psycopg.errors.UndefinedTable:
        return ()
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table="ops.tables") from error


def reset(
    connection: psycopg.Connection[Any], pipeline: Pipeline, name: str, only: tuple[str, ...]
) -> list[tuple[str, bool]]:
    """Forget what the next run of the pipeline ``name`` would start from; the data stays.

    Return the tables that were published, or ``only`` some of them, each with whether it is an
    append, which keeps its rows and gets those that it has not. Raises Failure.
    """
    values = {
        "pipeline": name, "schema": pipeline.published_schema, "tables": list(only),
        "all": not only,
    }  # fmt: skip
    try:
        return sorted(connection.execute(_RESET, values).fetchall())
    except psycopg.errors.UndefinedTable:
        return []
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table="ops.state") from error
