"""A published table that stays while its columns change, with what hangs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest.errors import RunFailedError
from tests.ingest.staff import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ingest.world import World

LOGS = (
    "CREATE TABLE logs (id bigint PRIMARY KEY, n int)",
    "INSERT INTO logs SELECT i, i FROM generate_series(1, 3) i",
)
WIDER = ("ALTER TABLE logs ALTER n TYPE bigint", "INSERT INTO logs VALUES (4, 3000000000)")
APPEND = (
    "name: public.logs\n    load: append\n    cursor: id\n    on_schema_change: evolve"
)  # fmt: skip
MERGE = APPEND.replace("append", "incremental")
# What hangs on the table, of an analyst.
HANGING = (
    "CREATE VIEW marts.wide WITH (security_barrier) AS SELECT id, n FROM raw_hr.logs",
    "CREATE VIEW marts.over AS SELECT n + 1 AS m FROM marts.wide",
    "COMMENT ON COLUMN marts.wide.n IS 'how many'",
    "GRANT SELECT ON marts.wide TO PUBLIC",
    "RESET ROLE",
    "CREATE POLICY few ON raw_hr.logs TO PUBLIC USING (n < 4000000000)",
    "COMMENT ON POLICY few ON raw_hr.logs IS 'not all'",
    "GRANT SELECT (n) ON raw_hr.logs TO analyst",
)
LOOK = """
    SELECT c.oid::regclass::text, pg_get_userbyid(c.relowner), c.relacl::text, c.reloptions,
           (SELECT array_agg(polname || obj_description(oid, 'pg_policy')) FROM pg_policy
            WHERE polrelid = c.oid),
           (SELECT array_agg(col_description(attrelid, attnum) || attname || attacl::text)
            FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0),
           CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END
    FROM pg_class c WHERE c.relnamespace::regnamespace::text IN ('raw_hr', 'marts')
      AND c.relkind IN ('r', 'v') ORDER BY 1
"""


@pytest.fixture
def analyst(world: World) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Give a session of an analyst, as whom the loader may act."""
    world.at_source(*LOGS)
    load(world, APPEND)
    with psycopg.connect(world.warehouse_admin, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = 'analyst'").fetchall():
            connection.execute("CREATE ROLE analyst")
        connection.execute("GRANT analyst TO ingest_loader")
        connection.execute("GRANT warehouse_readers TO analyst")
        connection.execute("CREATE SCHEMA marts AUTHORIZATION analyst")
        connection.execute("SET ROLE analyst")
        yield connection
        connection.execute("RESET ROLE")
        connection.execute("REVOKE analyst FROM ingest_loader")


def test_a_column_gets_wider_under_views_and_policies_which_stay_as_they_are(
    world: World, analyst: psycopg.Connection[tuple[object, ...]]
) -> None:
    for statement in HANGING:
        analyst.execute(statement)
    before, oid = world.rows(LOOK), world.rows("SELECT 'raw_hr.logs'::regclass::oid")
    world.at_source(*WIDER)
    assert load(world, APPEND).load == "append"
    assert world.rows(LOOK) == before
    assert world.rows("SELECT 'raw_hr.logs'::regclass::oid") == oid
    assert world.rows("SELECT max(m), pg_typeof(max(m))::text FROM marts.over") == [
        (3000000001, "bigint")
    ]


def test_a_view_of_a_column_that_goes_is_named_and_nothing_is_lost(
    world: World, analyst: psycopg.Connection[tuple[object, ...]]
) -> None:
    load(world, MERGE)
    analyst.execute("CREATE VIEW marts.v AS SELECT n FROM raw_hr.logs")
    before = world.rows(LOOK)
    world.at_source("ALTER TABLE logs DROP n", "INSERT INTO logs VALUES (4)")
    with pytest.raises(RunFailedError, match=r"view marts\.v: expected .* logs\.n does not"):
        load(world, MERGE)
    assert world.rows(LOOK) == before
    analyst.execute("DROP VIEW marts.v")
    load(world, MERGE)
    world.assert_same("public.logs", "raw_hr.logs")


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("CREATE MATERIALIZED VIEW marts.m AS SELECT n FROM raw_hr.logs",
         r"found materialised view marts\.m; .* on materialized view marts\.m depends on column"),
        ("RESET ROLE; CREATE VIEW marts.v AS SELECT n FROM raw_hr.logs",
         r"found view marts\.v of postgres, as whom this role may not act; .* marts\.v depends"),
        ("RESET ROLE; CREATE FUNCTION marts.f() RETURNS trigger LANGUAGE plpgsql AS"
         " 'BEGIN RETURN NEW; END'; CREATE TRIGGER t AFTER UPDATE OF n ON raw_hr.logs"
         " FOR EACH ROW EXECUTE FUNCTION marts.f()", r"found trigger t on table raw_hr\.logs"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_again_is_named_with_the_way_out(
    world: World,
    analyst: psycopg.Connection[tuple[object, ...]],
    statement: str,
    found: str,
) -> None:
    analyst.execute(statement.encode())
    world.at_source(*WIDER)
    with pytest.raises(RunFailedError, match=found) as failure:
        load(world, APPEND)
    assert failure.value.hint.startswith("Drop it, run again, and create it again")
    assert world.rows("SELECT count(*) FROM raw_hr.logs") == [(3,)]
