"""What a database holds, told so that two of them can be held against each other.

The digest of a table is the sum over its rows of PostgreSQL's own 64-bit hash of the row as text,
under settings that make the text the same everywhere. It does not depend on the rows' order, and
is made where the rows are.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from backup.manifest import Sequence, TableContents
from backup.postgres.connection import one_line
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    Connection = psycopg.Connection[tuple[Any, ...]]

# A value's text, and nothing else, is to decide: not what a role or a database sets for itself.
# Rows that a policy hides are an error, never a smaller table.
_SETTINGS: LiteralString = """
SET search_path = '';
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
SET extra_float_digits = 3;
SET bytea_output = 'hex';
SET lc_monetary = 'C';
SET row_security = off;
"""
# What pg_dump dumps the rows of: ordinary tables (partitions are some). Those of extensions are
# left out, even the few whose rows it dumps because the extension marks them as configuration.
# The largest come first, so that work which is shared out ends together.
_TABLES: LiteralString = """
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY pg_table_size(c.oid) DESC, 1, 2
"""
_SEQUENCES: LiteralString = """
SELECT s.schemaname, s.sequencename, s.last_value
FROM pg_sequences s
JOIN pg_namespace n ON n.nspname = s.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.sequencename
WHERE s.schemaname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""
_UNVALIDATED: LiteralString = """
SELECT format('%I on %I.%I', o.conname, n.nspname, c.relname)
FROM pg_constraint o
JOIN pg_class c ON c.oid = o.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT o.convalidated
ORDER BY 1
"""
_INVALID_INDEXES: LiteralString = """
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT (i.indisvalid AND i.indisready)
ORDER BY 1
"""
_EXTENSIONS: LiteralString = "SELECT extname, extversion FROM pg_extension ORDER BY 1"
# (t.*) is the row whatever its columns are called; the hash of a text is its collation's.
_DIGEST: LiteralString = """
SELECT count(*), sum(hashtextextended((t.*)::text COLLATE "C", 0))::text FROM ONLY {} AS t
"""

Name = tuple[str, str]
# All large objects together, told of as if they were one more table.
LARGE_OBJECTS: Name = ("pg_catalog", "pg_largeobject")
# Of each its number and the SHA-256 of pieces of 16 MiB: one call returns 1 GB at most. Digests of
# before this way say nothing in front.
_LARGE_OBJECTS: LiteralString = """
SELECT (SELECT count(*) FROM pg_largeobject_metadata),
       'pieces:' || sum(hashtextextended(t COLLATE "C", 0))
FROM (
  SELECT o.oid || ':' || start || ':' || encode(sha256(lo_get(o.oid, start, 16777216)), 'hex') AS t
  FROM pg_largeobject_metadata o
  CROSS JOIN LATERAL (SELECT lo_open(o.oid, 262144) AS handle OFFSET 0) AS opened  -- to read
  CROSS JOIN LATERAL (
    SELECT lo_lseek64(handle, 0, 2) AS size, lo_close(handle) OFFSET 0) AS closed  -- from its end
  CROSS JOIN LATERAL generate_series(0, size, 16777216) AS start) AS pieces
"""


def list_tables(connection: Connection) -> list[Name]:
    """Return schema and name of every table whose rows a dump holds, the largest first."""
    return [(schema, name) for schema, name in connection.execute(_TABLES)]


def large_objects(connection: Connection) -> list[Name]:
    """Return the one name of all large objects, or nothing where there are none."""
    found = connection.execute("SELECT EXISTS (SELECT FROM pg_largeobject_metadata)").fetchone()
    return [LARGE_OBJECTS] if found == (True,) else []


def sequence_values(connection: Connection) -> dict[Name, int | None]:
    """Return the last value of every sequence, None of one that was not asked yet.

    Sequences know no snapshot: these are the values of now.
    """
    return {(schema, name): value for schema, name, value in connection.execute(_SEQUENCES)}


def extensions(connection: Connection) -> dict[str, str]:
    """Return the version of every extension, by name."""
    return dict(connection.execute(_EXTENSIONS).fetchall())


def unvalidated(connection: Connection) -> tuple[str, ...]:
    """Return the constraints that old rows may break, as their owner wanted it (NOT VALID)."""
    return tuple(name for (name,) in connection.execute(_UNVALIDATED))


def invalid_indexes(connection: Connection) -> tuple[str, ...]:
    """Return the indexes that PostgreSQL would not use."""
    return tuple(name for (name,) in connection.execute(_INVALID_INDEXES))


class Inventory:
    """The rows of tables, counted and digested beside other work, on connections of its own."""

    def __init__(
        self, connect: Callable[[], Connection], jobs: int, tables: Iterable[Name], *, digests: bool
    ) -> None:
        """Open ``jobs`` sessions by ``connect`` and start at once; they are closed at the end."""
        with ExitStack() as opened:
            self._connections = [opened.enter_context(closing(connect())) for _ in range(jobs)]
            opened.pop_all()
        self._left = deque(tables)
        self._digests = digests
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="inventory")
        self._working = [self._pool.submit(self._work, each) for each in self._connections]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self, connection: Connection) -> list[TableContents]:
        connection.execute(_SETTINGS)
        found = []
        with suppress(IndexError):
            while True:
                found.append(_take_stock(connection, self._left.popleft(), self._digests))
        return found

    def check(self) -> None:
        """Raise at once if the work has failed already."""
        for working in self._working:
            if working.done():
                working.result()

    def tables(self) -> tuple[TableContents, ...]:
        """Wait for the work to end and return each table, by name. Raises Failure."""
        found = [table for working in self._working for table in working.result()]
        return tuple(sorted(found, key=lambda table: (table.schema_name, table.table)))

    def close(self) -> None:
        """End the work, finished or not."""
        self._left.clear()
        for connection, working in zip(self._connections, self._working, strict=True):
            if not working.done():
                with suppress(psycopg.Error):
                    connection.cancel_safe(timeout=5)
        self._pool.shutdown(cancel_futures=True)
        for connection in self._connections:
            connection.close()


def _take_stock(connection: Connection, table: Name, digests: bool) -> TableContents:
    query: LiteralString
    if table == LARGE_OBJECTS:
        query = _LARGE_OBJECTS if digests else "SELECT count(*), NULL FROM pg_largeobject_metadata"
    else:
        query = _DIGEST if digests else "SELECT count(*), NULL FROM ONLY {}"
    asked = sql.SQL(query).format(sql.Identifier(*table))
    try:
        ((rows, found),) = connection.execute(asked).fetchall()
    except psycopg.Error as error:
        raise Failure(
            f"rows of {'.'.join(table)} could not be counted: {one_line(error)}",
            hint="Grant the backup role pg_read_all_data; with row security also BYPASSRLS.",
        ) from error
    return TableContents(
        schema_name=table[0], table=table[1], rows=rows, digest=(found or "0") if digests else None
    )


def compare_tables(expected: Iterable[TableContents], found: Iterable[TableContents]) -> list[str]:
    """Return one sentence for each table that is missing, too many, or of other content."""
    then = {(table.schema_name, table.table): table for table in expected}
    now = {(table.schema_name, table.table): table for table in found}
    differences = []
    for key in sorted(then.keys() | now.keys()):
        label = ".".join(key)
        if key not in now:
            differences.append(f"{label} is missing, {then[key].rows} rows expected")
        elif key not in then:
            differences.append(f"{label} has {now[key].rows} rows and is not in the manifest")
        elif then[key].rows != now[key].rows:
            differences.append(f"{label} has {now[key].rows} rows, {then[key].rows} expected")
        elif then[key].digest != now[key].digest and _made_alike(then[key], now[key]):
            differences.append(f"{label} has {now[key].rows} rows as expected, but not the same")
    return differences


def _made_alike(*tables: TableContents) -> bool:
    return len({table.digest and table.digest.rpartition(":")[0] for table in tables}) == 1


def compare_sequences(expected: Iterable[Sequence], found: dict[Name, int | None]) -> list[str]:
    """Return one sentence for each sequence that is missing or stands where it never stood."""
    differences = []
    for sequence in expected:
        key = (sequence.schema_name, sequence.name)
        label, value = ".".join(key), found.get(key)
        if key not in found:
            differences.append(f"sequence {label} is missing")
        elif sequence.before is None or sequence.after is None:
            if value is not None and sequence.after is None:
                differences.append(f"sequence {label} is at {value}, expected not to be asked yet")
        else:
            least, most = sorted((sequence.before, sequence.after))
            if value is None or not least <= value <= most:
                differences.append(f"sequence {label} is at {value}, {least} to {most} expected")
    return differences
