from __future__ import annotations

import psycopg

from backup.postgres.connection import PostgresUri
from backup.source.contents import list_tables, sequence_values
from backup.source.inventory import Inventory


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
    uri = PostgresUri(database, "the test")
    with Inventory(lambda: uri.connect("test"), 1, tables, digests=False) as inventory:
        counted = inventory.tables()
    assert [(table.schema_name, table.table, table.rows) for table in counted] == [
        ("a.b", 'c"d', 0),
        ("public", "child", 2),
        ("public", "parent", 1),
        ("public", "part", 1),
    ]


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
