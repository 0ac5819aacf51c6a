"""The tables of the warehouse's schema ``ops``: good enough to chart, and what runs start from."""

from __future__ import annotations

from typing import LiteralString

SCHEMA = "ops"
TABLES: dict[str, LiteralString] = {
    "locks": """
        CREATE TABLE ops.locks (
          schema text PRIMARY KEY,
          key bigint NOT NULL,
          holder oid NOT NULL
        );
        COMMENT ON TABLE ops.locks IS 'Which session a schema is loaded by, if its lock is held'
    """,
    "runs": """
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
          hint text,
          PRIMARY KEY (pipeline, run_id)
        );
        COMMENT ON TABLE ops.runs IS 'A row a run of a pipeline; error is that of its first fault';
        COMMENT ON COLUMN ops.runs.hint IS 'The way out of the error'
    """,
    "pipelines": """
        CREATE TABLE ops.pipelines (
          pipeline text PRIMARY KEY,
          status text NOT NULL CHECK (status IN ('success', 'failed')),
          run_id text NOT NULL,
          finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          recovered boolean NOT NULL DEFAULT false
        );
        COMMENT ON TABLE ops.pipelines IS 'How the run of each pipeline that ended last went';
        INSERT INTO ops.pipelines (pipeline, status, run_id, finished_at)
          SELECT DISTINCT ON (pipeline) pipeline, status, run_id, finished_at FROM ops.runs
          WHERE finished_at IS NOT NULL ORDER BY pipeline, finished_at DESC
    """,
    "tables": """
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
          hint text,
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
        COMMENT ON COLUMN ops.tables.rows IS 'Rows after the run that are not marked as deleted'
    """,
    "checks": """
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
        COMMENT ON COLUMN ops.checks.samples IS 'Keys of some rows that break the check'
    """,
    "shapes": """
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
        COMMENT ON TABLE ops.shapes IS 'The history of each published table''s shape'
    """,
    "state": """
        CREATE TABLE ops.state (
          "table" text PRIMARY KEY,
          pipeline text NOT NULL,
          run_id text NOT NULL,
          load_id text NOT NULL,
          cursor text,
          cursor_value text,
          version int NOT NULL,
          rows bigint NOT NULL,
          published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          origin jsonb,
          oid oid
        );
        COMMENT ON TABLE ops.state IS 'What the next run of each table starts from';
        COMMENT ON COLUMN ops.state.oid IS 'Of the table that ingest made, and no other''s'
    """,
    # What an older release left in staging is ours, too.
    "staging": """
        CREATE TABLE ops.staging (
          schema text NOT NULL,
          name text NOT NULL,
          oids oid[] NOT NULL,
          since timestamptz NOT NULL DEFAULT clock_timestamp(),
          run_id text,
          load_id text,
          checked boolean NOT NULL DEFAULT false,
          staged jsonb,
          older text[] NOT NULL DEFAULT '{}',
          PRIMARY KEY (schema, name)
        );
        COMMENT ON TABLE ops.staging IS 'What lies in staging of each table, and may be published';
        INSERT INTO ops.staging (schema, name, oids)
          SELECT p.nspname, c.relname, ARRAY[c.oid]
          FROM pg_catalog.pg_namespace p
          JOIN pg_catalog.pg_namespace n ON n.nspname = p.nspname || '_staging'
          JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind = 'r'
          WHERE p.oid IN (SELECT relnamespace FROM pg_catalog.pg_class
                          JOIN ops.state s ON pg_class.oid = to_regclass(s."table"))
    """,
}
# What tables of older releases lack, by table and column.
ADDED: dict[tuple[str, str], LiteralString] = {
    ("runs", "hint"): "ALTER TABLE ops.runs ADD COLUMN IF NOT EXISTS hint text",
    ("pipelines", "recovered"): """
        ALTER TABLE ops.pipelines
          ADD COLUMN IF NOT EXISTS recovered boolean NOT NULL DEFAULT false
    """,
    ("tables", "hint"): "ALTER TABLE ops.tables ADD COLUMN IF NOT EXISTS hint text",
    ("state", "origin"): "ALTER TABLE ops.state ADD COLUMN IF NOT EXISTS origin jsonb",
    ("state", "oid"): """
        ALTER TABLE ops.state ADD COLUMN IF NOT EXISTS oid oid;
        UPDATE ops.state s SET oid = c.oid FROM pg_catalog.pg_class c
        WHERE s.oid IS NULL AND c.oid = to_regclass(s."table") AND c.relkind = 'r'
    """,
}
# How long it is kept what happened in a run, and how it goes.
KEPT = "400 days"
FORGET: tuple[LiteralString, ...] = (
    "DELETE FROM ops.checks WHERE pipeline = %(pipeline)s"
    " AND checked_at < now() - %(kept)s::interval",
    "DELETE FROM ops.tables WHERE pipeline = %(pipeline)s"
    " AND started_at < now() - %(kept)s::interval",
    "DELETE FROM ops.runs WHERE pipeline = %(pipeline)s"
    " AND started_at < now() - %(kept)s::interval",
)
