"""ANALYZE after a load: without it a database that is whole answers slowly for hours."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backup.deadline import threads
from backup.postgres.connection import one_line
from backup.postgres.names import Quoted, printable
from backup.waits import waiting_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backup.manifest import Manifest
    from backup.postgres.connection import PostgresUri
    from backup.postgres.names import Name
    from backup.restoration.target import Wanted


# Partitioned tables too, which no autovacuum analyses; the largest first.
RELATIONS = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
ORDER BY pg_table_size(c.oid) DESC, 1, 2
"""


def analyse_restored(target: PostgresUri, wanted: Wanted, manifest: Manifest) -> tuple[str, ...]:
    """Run ANALYZE on what of ``manifest`` was ``wanted``, and return what PostgreSQL refused."""
    if wanted.everything:
        return analyse(target, wanted.jobs)
    chosen = [
        (wanted.schema or table.schema_name, table.table)
        for table in manifest.tables
        if not wanted.tables or f"{table.schema_name}.{table.table}" in wanted.tables
    ]
    return analyse(target, wanted.jobs, chosen)


def analyse(target: PostgresUri, jobs: int, only: Iterable[Name] | None = None) -> tuple[str, ...]:
    """Run ANALYZE on all relations of the database, or ``only`` on some, in ``jobs`` sessions.

    Returns a sentence for each that PostgreSQL refused: code of an index can fail.
    """
    with target.connect("analyse") as connection:
        there = [(schema, name) for schema, name in connection.execute(RELATIONS)]
    left = deque(there if only is None else [name for name in there if name in {*only}])

    def work(_: int) -> list[str]:
        refused = []
        with target.connect("analyse") as connection, suppress(IndexError):
            while True:
                name = left.popleft()
                try:
                    connection.execute(sql.SQL("ANALYZE {}").format(Quoted(*name)))
                except psycopg.Error as error:
                    refused.append(f"{printable('.'.join(name))}: {one_line(error)}")
        return refused

    sessions = min(jobs, len(left))
    if not sessions:
        return ()
    with threads(sessions, "analyse") as pool, waiting_for("PostgreSQL", "ANALYZE"):
        return tuple(said for refused in pool.map(work, range(sessions)) for said in refused)
