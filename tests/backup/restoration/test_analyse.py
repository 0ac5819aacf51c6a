from __future__ import annotations

import psycopg

from backup.postgres.connection import PostgresUri
from backup.restoration.analyse import analyse

ANALYSED = "SELECT relname, reltuples FROM pg_class WHERE relname IN ('a', 'p', 'p1') ORDER BY 1"


def test_every_relation_is_analysed_and_one_that_fails_is_told(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE a AS SELECT generate_series(1, 9) AS n")
        connection.execute("CREATE TABLE p (n int) PARTITION BY LIST (n)")
        connection.execute("CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)")
        connection.execute("CREATE MATERIALIZED VIEW m AS SELECT 1 AS x")
        connection.execute('CREATE TABLE "B ""d" AS SELECT 1 AS n')
        connection.execute(
            "CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql"
            " AS 'BEGIN RETURN $1; END'"
        )
        connection.execute('CREATE INDEX ON "B ""d" (public.f(n))')
        connection.execute(
            "CREATE OR REPLACE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql"
            " AS 'BEGIN RAISE EXCEPTION ''no more''; END'"
        )
        uri = PostgresUri(database, "the test")
        assert analyse(uri, 2, [("public", "p1")]) == ()
        assert connection.execute(ANALYSED).fetchall() == [("a", -1), ("p", -1), ("p1", 0)]
        assert analyse(uri, 3) == ('public.B "d: no more',)
        assert connection.execute(ANALYSED).fetchall() == [("a", 9), ("p", 0), ("p1", 0)]


def test_a_database_without_tables_is_analysed_at_once(database: str) -> None:
    assert analyse(PostgresUri(database, "the test"), 8) == ()
