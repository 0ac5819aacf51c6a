from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg

from backup.postgres.connection import PostgresUri
from backup.restoration.comparison import compare_tables
from backup.source.contents import list_tables
from backup.source.inventory import Inventory

if TYPE_CHECKING:
    from backup.manifest import TableContents


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
    "SET quote_all_identifiers = on",  # which the text of a regclass follows
)


def stock(uri: str, *settings: str, jobs: int = 1) -> tuple[TableContents, ...]:
    def connect() -> psycopg.Connection[tuple[Any, ...]]:
        connection = PostgresUri(uri, "the test").connect("test")
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
