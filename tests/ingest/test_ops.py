"""A warehouse that releases before this one filled, whose tables in ops today's engine takes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.types.json import Json

from ingest import ops

if TYPE_CHECKING:
    from tests.ingest.world import World

# As the first release made them.
FIRST = """
        CREATE TABLE ops.runs (
          pipeline text NOT NULL,
          run_id text NOT NULL,
          started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          finished_at timestamptz,
          status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'success', 'failed')),
          attempts int NOT NULL DEFAULT 1,
          step text,
          "table" text,
          error text,
          PRIMARY KEY (pipeline, run_id)
        );
        COMMENT ON TABLE ops.runs IS 'One row a run of a pipeline';
        CREATE TABLE ops.tables (
          pipeline text NOT NULL,
          run_id text NOT NULL,
          "table" text NOT NULL,
          source text NOT NULL,
          load text NOT NULL,
          reason text NOT NULL,
          status text NOT NULL CHECK (status IN ('staged', 'checked', 'published', 'failed')),
          step text,
          error text,
          rows_read bigint,
          bytes bigint,
          inserted bigint,
          updated bigint,
          deleted bigint,
          rows bigint,
          cursor_value text,
          seconds numeric(12, 3),
          started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          finished_at timestamptz,
          PRIMARY KEY (pipeline, run_id, "table")
        );
        CREATE INDEX ON ops.tables ("table", finished_at);
        COMMENT ON TABLE ops.tables IS 'One row a table and run: what was read, and published';
        COMMENT ON COLUMN ops.tables.rows IS 'Rows of the published table after the run';
        CREATE TABLE ops.checks (
          pipeline text NOT NULL,
          run_id text NOT NULL,
          "table" text NOT NULL,
          "check" text NOT NULL,
          passed boolean NOT NULL,
          expected text NOT NULL,
          found text NOT NULL,
          samples text[] NOT NULL,
          checked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          PRIMARY KEY (pipeline, run_id, "table", "check")
        );
        COMMENT ON COLUMN ops.checks.samples IS 'Keys of some rows that break the check';
        CREATE TABLE ops.shapes (
          "table" text NOT NULL,
          version int NOT NULL,
          published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          pipeline text NOT NULL,
          run_id text NOT NULL,
          shape jsonb NOT NULL,
          changes text[] NOT NULL,
          PRIMARY KEY ("table", version)
        );
        COMMENT ON TABLE ops.shapes IS 'The history of each published table''s shape';
        CREATE TABLE ops.state (
          "table" text PRIMARY KEY,
          pipeline text NOT NULL,
          run_id text NOT NULL,
          load_id text NOT NULL,
          cursor text,
          cursor_value text,
          version int NOT NULL,
          rows bigint NOT NULL,
          published_at timestamptz NOT NULL DEFAULT clock_timestamp()
        );
        COMMENT ON TABLE ops.state IS 'What the next run of each table starts from';
"""
# As the second added.
SECOND = """
        CREATE TABLE ops.pipelines (
          pipeline text PRIMARY KEY,
          status text NOT NULL CHECK (status IN ('success', 'failed')),
          run_id text NOT NULL,
          finished_at timestamptz NOT NULL DEFAULT clock_timestamp()
        );
        INSERT INTO ops.pipelines VALUES ('hr', 'success', 'old', '2026-01-01')
"""
# As the third made it, before `hint`, `origin`, `oid` and ops.staging.
THIRD = (
    SECOND
    + """;
        ALTER TABLE ops.pipelines ADD COLUMN recovered boolean NOT NULL DEFAULT false
"""
)
COLUMNS = """
    SELECT table_name::text, column_name::text, data_type::text, is_nullable::text,
           column_default::text
    FROM information_schema.columns WHERE table_schema = 'ops' ORDER BY 1, 2
"""
LOGS = "name: public.logs\n    load: append\n    cursor: id"
STAFF = "name: public.staff\n    load: incremental\n    cursor: updated_at\n    lookback: 0s"


def column(name: str, kind: str, number: int, *, not_null: bool = False) -> dict[str, object]:
    return {"name": name, "type": kind, "lands": kind, "not_null": not_null, "number": number,
            "hashed": ""}  # fmt: skip


def publish_as_before(world: World, ddl: str) -> None:
    """Leave in the warehouse what a run of an older release did."""
    world.at_source(
        "CREATE TABLE logs (id bigint PRIMARY KEY, what text)",
        "INSERT INTO logs VALUES (1, 'a'), (2, 'b')",
        "CREATE TABLE staff (id bigint PRIMARY KEY, updated_at timestamptz)",
        "INSERT INTO staff VALUES (1, '2026-01-01'), (2, '2026-01-02')",
    )
    oids = dict(world.source_rows(
        "SELECT relname::text, oid::bigint FROM pg_class WHERE relname IN ('logs', 'staff')"
    ))  # fmt: skip
    second = {
        "logs": ("id", "2", column("what", "text", 2)),
        "staff": (
            "updated_at", "2026-01-02 00:00:00+00",
            column("updated_at", "timestamp with time zone", 2),
        ),
    }  # fmt: skip
    with psycopg.connect(world.warehouse) as connection:
        for schema in ("ops", "raw_hr", "raw_hr_staging"):
            connection.execute(f"CREATE SCHEMA {schema}".encode())
        connection.execute(ddl.encode())
        connection.execute("CREATE TABLE raw_hr.logs (id bigint PRIMARY KEY, what text)")
        connection.execute("INSERT INTO raw_hr.logs VALUES (0, 'gone'), (1, 'a'), (2, 'b')")
        connection.execute(
            "CREATE TABLE raw_hr.staff (id bigint PRIMARY KEY, updated_at timestamptz)"
        )
        connection.execute("INSERT INTO raw_hr.staff VALUES (1, '2026-01-01'), (2, '2026-01-02')")
        connection.execute(
            "INSERT INTO ops.runs VALUES"
            " ('hr', 'old', '2026-01-01', '2026-01-01', 'success', 1),"
            " ('hr', 'killed', '2026-01-01', NULL, 'running', 1)"
        )
        connection.execute(
            'INSERT INTO ops.tables (pipeline, run_id, "table", source, load, reason, status)'
            " VALUES ('hr', 'old', 'raw_hr.logs', 'public.logs', 'full', 'first load', 'published')"
        )
        for name, (cursor, value, other) in second.items():
            table = f"raw_hr.{name}"
            shape = {
                "source": f"public.{name}",
                "oid": oids[name],
                "columns": [column("id", "bigint", 1, not_null=True), other],
                "key": ["id"],
            }
            connection.execute(
                "INSERT INTO ops.shapes VALUES (%s, 1, '2026-01-01', 'hr', 'old', %s, '{}')",
                [table, Json(shape)],
            )
            connection.execute(
                "INSERT INTO ops.state VALUES (%s, 'hr', 'old', %s, %s, %s, 1, 3, '2026-01-01')",
                [table, f"load of {name}", cursor, value],
            )


@pytest.mark.parametrize("added", ["", SECOND, THIRD], ids=["first", "second", "third"])
def test_a_warehouse_of_an_older_release_goes_on(world: World, added: str) -> None:
    publish_as_before(world, FIRST + added)
    world.at_source(
        "INSERT INTO logs VALUES (3, 'c')", "INSERT INTO staff VALUES (3, '2026-01-03')"
    )
    logs, staff = world.run(LOGS, STAFF).loaded
    assert (logs.load, logs.inserted) == ("append", 1), logs.reason
    assert staff.load == "incremental", staff.reason
    assert world.rows("SELECT id, what FROM raw_hr.logs ORDER BY 1") == [
        (0, "gone"), (1, "a"), (2, "b"), (3, "c")
    ]  # fmt: skip
    world.assert_same("public.staff", "raw_hr.staff")
    assert ("hr", "old", "success") in world.rows("SELECT pipeline, run_id, status FROM ops.runs")
    assert world.rows("SELECT count(*) FROM ops.tables WHERE run_id = 'old'") == [(1,)]
    assert world.rows("SELECT pipeline, status, recovered FROM ops.pipelines") == [
        ("hr", "success", False)
    ]
    migrated = world.rows(COLUMNS)
    world.at_source("INSERT INTO logs VALUES (4, 'd')")
    world.run(LOGS, STAFF)
    assert world.rows(COLUMNS) == migrated
    assert world.rows("SELECT count(*) FROM raw_hr.logs") == [(5,)]
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute("DROP SCHEMA ops CASCADE")
        connection.execute("CREATE SCHEMA ops")
        for statement in ops.TABLES.values():
            connection.execute(statement)
    assert world.rows(COLUMNS) == migrated
