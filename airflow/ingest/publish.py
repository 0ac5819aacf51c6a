"""Puts a staged table in the place of the published one, with its record, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from ingest.errors import IngestError, from_postgres

if TYPE_CHECKING:
    from ingest.staging import Staged

READERS = "warehouse_readers"
# New readers queue behind a publish that waits for an old one, so it soon lets them pass.
_LOCK_TIMEOUT = "60s"

_SHAPE: LiteralString = """
    SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
"""


def publish(
    connection: psycopg.Connection[Any], staged: Staged, *, pipeline: str, run_id: str
) -> None:
    """Make ``staged`` what readers see and write its row in ops.loads; all of it or nothing.

    The staging table takes the published one's place. Where views hang on that one and the
    columns are the same, it stays and is filled anew instead. Raises IngestError.
    """
    table = staged.table
    published = sql.Identifier(table.published_schema, table.name)
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
            if not _drop(connection, published):
                _refill(connection, staged, published)
            else:
                connection.execute(
                    sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
                        sql.Identifier(table.staging_schema, table.name),
                        sql.Identifier(table.published_schema),
                    )
                )
            if has_readers(connection):
                connection.execute(
                    sql.SQL("GRANT SELECT ON {} TO {}").format(published, sql.Identifier(READERS))
                )
            connection.execute(
                'INSERT INTO ops.loads (pipeline, "table", rows, bytes, started_at, finished_at,'
                " run_id) VALUES (%s, %s, %s, %s, %s, clock_timestamp(), %s)",
                [pipeline, str(table), staged.rows, staged.bytes, staged.started_at, run_id],
            )
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table=str(table)) from error


def has_readers(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the warehouse has the role that may read what is published."""
    found = connection.execute(
        "SELECT FROM pg_catalog.pg_roles WHERE rolname = %s", [READERS]
    ).fetchone()
    return found is not None


def _drop(connection: psycopg.Connection[Any], published: sql.Identifier) -> bool:
    """Drop the published table if it is there; return False if something depends on it."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(published))
    except psycopg.errors.DependentObjectsStillExist:
        return False
    return True


def _refill(connection: psycopg.Connection[Any], staged: Staged, published: sql.Identifier) -> None:
    table = staged.table
    staging = sql.Identifier(table.staging_schema, table.name)
    old = connection.execute(_SHAPE, [table.published_schema, table.name]).fetchall()
    new = connection.execute(_SHAPE, [table.staging_schema, table.name]).fetchall()
    if sorted(old) != sorted(new):
        changed = sorted({name for name, _ in set(old) ^ set(new)})
        raise IngestError(
            f"warehouse: table {table}, column {', '.join(changed)}: expected the columns that"
            f" the views on it were made for, found them changed",
            hint="Drop the views, run again, and create them anew.",
        )
    columns = sql.SQL(", ").join(sql.Identifier(name) for name, _ in new)
    connection.execute(sql.SQL("TRUNCATE {}").format(published))
    connection.execute(
        sql.SQL("INSERT INTO {} ({columns}) SELECT {columns} FROM {}").format(
            published, staging, columns=columns
        )
    )
    connection.execute(sql.SQL("DROP TABLE {}").format(staging))
