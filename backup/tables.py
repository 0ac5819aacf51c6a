"""Which tables a dump holds data of, and how many rows each has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from backup.manifest import TableRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

# What pg_dump dumps the rows of: ordinary tables (partitions are some), not those of extensions.
USER_TABLES = """
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""

Table = tuple[str, str]


def list_tables(connection: psycopg.Connection[tuple[Any, ...]]) -> list[Table]:
    """Return schema and name of every user table, in order."""
    return [(schema, name) for schema, name in connection.execute(USER_TABLES)]


def count_rows(
    connection: psycopg.Connection[tuple[Any, ...]], tables: Iterable[Table]
) -> list[TableRows]:
    """Count each table by itself, without what inherits from it."""
    counted = []
    for schema, name in tables:
        query = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, name))
        row = connection.execute(query).fetchone()
        assert row is not None  # noqa: S101 - count(*) always gives a row
        counted.append(TableRows(schema_name=schema, table=name, rows=row[0]))
    return counted


def compare_rows(expected: Sequence[TableRows], found: Sequence[TableRows]) -> list[str]:
    """Return one sentence for each table that is missing, too many, or of other length."""
    then = {(table.schema_name, table.table): table.rows for table in expected}
    now = {(table.schema_name, table.table): table.rows for table in found}
    differences = []
    for key in sorted(then.keys() | now.keys()):
        label = ".".join(key)
        if key not in now:
            differences.append(f"{label} is missing, {then[key]} rows expected")
        elif key not in then:
            differences.append(f"{label} has {now[key]} rows and is not in the manifest")
        elif then[key] != now[key]:
            differences.append(f"{label} has {now[key]} rows, {then[key]} expected")
    return differences
