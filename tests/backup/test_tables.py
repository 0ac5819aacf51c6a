from __future__ import annotations

import psycopg
import pytest

from backup.manifest import TableRows
from backup.tables import compare_rows, count_rows, list_tables


def rows(**counts: int) -> list[TableRows]:
    return [TableRows(schema_name="public", table=name, rows=n) for name, n in counts.items()]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (rows(a=1, b=2), []),
        (rows(b=2, a=1), []),
        (rows(a=1), ["public.b is missing, 2 rows expected"]),
        (rows(a=1, b=2, c=0), ["public.c has 0 rows and is not in the manifest"]),
        (rows(a=1, b=1), ["public.b has 1 rows, 2 expected"]),
    ],
)
def test_every_difference_is_told(found: list[TableRows], told: list[str]) -> None:
    assert compare_rows(rows(a=1, b=2), found) == told


def test_only_tables_that_hold_dumped_rows_are_counted(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            b"""CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent);
            INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3);
            CREATE TABLE whole (a int) PARTITION BY LIST (a);
            CREATE TABLE part PARTITION OF whole FOR VALUES IN (1); INSERT INTO whole VALUES (1);
            CREATE TEMP TABLE passing (a int); CREATE MATERIALIZED VIEW seen AS SELECT 1;
            CREATE SCHEMA "a.b"; CREATE TABLE "a.b"."c""d" (a int);"""
        )
        counted = count_rows(connection, list_tables(connection))
    assert [(table.schema_name, table.table, table.rows) for table in counted] == [
        ("a.b", 'c"d', 0),
        ("public", "child", 2),
        ("public", "parent", 1),
        ("public", "part", 1),
    ]
