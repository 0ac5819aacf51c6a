from __future__ import annotations

import psycopg

from backup.postgres.connection import PostgresUri
from backup.source.changes import changed_since

MADE = """
CREATE TYPE mood AS ENUM ('well'); CREATE DOMAIN word AS text CONSTRAINT filled CHECK (VALUE <> '');
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION twice(a int) RETURNS int LANGUAGE sql AS 'SELECT a * 2';
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE OPERATOR === (FUNCTION = int4eq, LEFTARG = int, RIGHTARG = int);
CREATE COLLATION own FROM "C"; CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = simple);
CREATE TABLE t (a int, b int); CREATE INDEX by_a ON t (a); CREATE STATISTICS both_of ON a, b FROM t;
CREATE TRIGGER stamped BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE VIEW seen AS SELECT a FROM t; CREATE MATERIALIZED VIEW kept AS SELECT a FROM t;
CREATE SCHEMA other; CREATE SEQUENCE other.s;
CREATE TEMP TABLE fleeting (a int); CREATE TEMP VIEW fleeing AS SELECT 1 AS a
"""
CHANGES = {
    "DROP FUNCTION twice": ["function public.twice"],
    "CREATE OR REPLACE FUNCTION twice(a int) RETURNS int LANGUAGE sql AS 'SELECT 2 * a'": [
        "function public.twice"
    ],
    "CREATE OR REPLACE VIEW seen AS SELECT b AS a FROM t": ["rule public.seen._RETURN"],
    "ALTER VIEW seen RENAME a TO c": ["column public.seen.a"],
    "ALTER TYPE mood RENAME VALUE 'well' TO 'fine'": ["enum value public.mood.well"],
    "ALTER TYPE pair RENAME ATTRIBUTE a TO c": ["column public.pair.a"],
    "ALTER DOMAIN word DROP CONSTRAINT filled": ["domain constraint public.filled"],
    "ALTER OPERATOR ===(int, int) SET (RESTRICT = eqsel)": ["operator public.==="],
    "ALTER COLLATION own RENAME TO mine": ["collation public.own"],
    "ALTER TEXT SEARCH DICTIONARY words RENAME TO terms": ["text search dictionary public.words"],
    "ALTER INDEX by_a RENAME TO by_b": ["relation public.by_a"],
    "DROP STATISTICS both_of": ["statistics public.both_of"],
    "CREATE OR REPLACE TRIGGER stamped AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION stamp()": [
        "trigger public.t.stamped"
    ],
    "ALTER SCHEMA other RENAME TO another": ["relation other.s", "schema other.other"],
    # What makes no dump wrong.
    "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE VIEW v AS SELECT 1": [],
    "REFRESH MATERIALIZED VIEW kept; REINDEX TABLE t; TRUNCATE t; SELECT nextval('other.s')": [],
    "DROP VIEW fleeing; DROP TABLE fleeting": [],
    "COMMENT ON VIEW seen IS 'x'; GRANT SELECT ON seen TO PUBLIC; ANALYZE": [],
}


CLEAN = """
DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP SCHEMA IF EXISTS other, another CASCADE;
DROP VIEW IF EXISTS pg_temp.fleeing; DROP TABLE IF EXISTS pg_temp.fleeting;
"""


def test_what_changed_since_a_snapshot_is_named(database: str) -> None:
    uri = PostgresUri(database, "the test")
    with psycopg.connect(database, autocommit=True) as other:
        for change, names in CHANGES.items():
            other.execute((CLEAN + MADE).encode())
            with psycopg.connect(database) as holder:
                holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                ((snapshot,),) = holder.execute("SELECT pg_export_snapshot()").fetchall()
                other.execute(change.encode())
                assert changed_since(lambda: uri.connect("test"), snapshot) == tuple(names), change
