from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
import pytest

from backup.manifest import Sequence, TableContents
from backup.postgres.contents import (
    Inventory,
    compare_sequences,
    compare_tables,
    list_tables,
    sequence_values,
)


def rows(**counts: int) -> list[TableContents]:
    return [TableContents(schema_name="public", table=name, rows=n) for name, n in counts.items()]


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
def test_every_difference_is_told(found: list[TableContents], told: list[str]) -> None:
    assert compare_tables(rows(a=1, b=2), found) == told


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
        tables = list_tables(connection)
    with Inventory(lambda: psycopg.connect(database), 1, tables, digests=False) as inventory:
        counted = inventory.tables()
    assert [(table.schema_name, table.table, table.rows) for table in counted] == [
        ("a.b", 'c"d', 0),
        ("public", "child", 2),
        ("public", "parent", 1),
        ("public", "part", 1),
    ]


TYPES = """
SET TimeZone = 'Africa/Accra';
CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('well', 'unwell');
CREATE TABLE kinds (
  t text, c char(4), n numeric, f float8, r real, b bytea, i interval, z timestamptz, d date,
  a text[], j json, m money, x xml, h hstore, e mood, g int4range, k regclass, "(t.*)" int);
INSERT INTO kinds VALUES
  (E'a\\tb\\n"', 'ab', 'NaN', 0.1 + 0.2, 'infinity', '\\x00ff', '1 mon -2 days',
   '2026-03-29 01:30+01', '0044-03-15 BC', ARRAY['', NULL], '{"a" : 1}', 12.5, '<a/>',
   'a=>NULL', 'well', '[1,4)', 'kinds', 1),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
   NULL, NULL);
CREATE TABLE t (t int); INSERT INTO t SELECT generate_series(1, 9);
CREATE TABLE none (); INSERT INTO none DEFAULT VALUES;
"""
STRANGE = (
    "SET DateStyle = 'German'",
    "SET IntervalStyle = 'iso_8601'",
    "SET TimeZone = 'Asia/Tokyo'",
    "SET extra_float_digits = -2",
    "SET bytea_output = 'escape'",
    "SET search_path = public",
)


def stock(uri: str, *settings: str, jobs: int = 1) -> tuple[TableContents, ...]:
    def connect() -> psycopg.Connection[tuple[Any, ...]]:
        connection = psycopg.connect(uri, autocommit=True)
        for setting in settings:
            connection.execute(setting.encode())
        return connection

    with closing(connect()) as connection:
        tables = list_tables(connection)
    with Inventory(connect, jobs, tables, digests=True) as inventory:
        return inventory.tables()


def test_a_digest_is_the_same_whatever_a_session_is_set_to(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(TYPES.encode())
    plain = stock(database)
    assert [table.rows for table in plain] == [2, 1, 9]
    assert stock(database, *STRANGE, jobs=3) == plain


def test_a_digest_tells_every_change_but_not_the_order_of_rows(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(b"CREATE TABLE t AS SELECT n, n::text s FROM generate_series(1, 50) n")
        before = stock(database)
        connection.execute(b"UPDATE t SET s = s WHERE n % 2 = 0")
        assert stock(database) == before
        connection.execute(b"UPDATE t SET s = 'x' WHERE n = 7")
        changed = stock(database)
        connection.execute(b"UPDATE t SET s = '7', n = 8 WHERE s = 'x'")
        twice = stock(database)
    told = "public.t has 50 rows as expected, but not the same"
    assert compare_tables(before, changed) == [told]
    assert compare_tables(before, twice) == [told]
    counted = [table.model_copy(update={"digest": None}) for table in before]
    assert compare_tables(counted, changed) == []


@pytest.mark.parametrize(
    ("before", "after", "found", "well"),
    [
        (5, 9, 5, True),
        (5, 9, 9, True),
        (-5, -9, -7, True),
        (5, 9, 4, False),
        (5, 9, 10, False),
        (5, 9, None, False),
        (None, None, None, True),
        (None, None, 1, False),
        (None, 3, None, True),
        (None, 3, 2, True),
    ],
)
def test_a_sequence_stands_where_it_stood_during_the_dump(
    before: int | None, after: int | None, found: int | None, well: bool
) -> None:
    sequence = Sequence(schema_name="public", name="s", before=before, after=after)
    assert (compare_sequences([sequence], {("public", "s"): found}) == []) is well
    assert compare_sequences([sequence], {}) == ["sequence public.s is missing"]


def test_sequences_are_those_that_a_dump_holds(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            b"""CREATE TABLE t (id serial, n int GENERATED ALWAYS AS IDENTITY);
            INSERT INTO t DEFAULT VALUES; CREATE SEQUENCE "a""b" INCREMENT -1;
            CREATE TEMP SEQUENCE passing;"""
        )
        assert sequence_values(connection) == {
            ("public", 'a"b'): None, ("public", "t_id_seq"): 1, ("public", "t_n_seq"): 1
        }  # fmt: skip
