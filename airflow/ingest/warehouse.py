"""The warehouse made ready for a run: the pipeline's lock, schemas, ops.loads, enum types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from ingest import publish
from ingest.errors import IngestError, from_postgres

if TYPE_CHECKING:
    from ingest.contract import Pipeline
    from ingest.types import EnumPlan

# One transaction at a time creates what pipelines share: CREATE … IF NOT EXISTS alone races.
_SETUP_LOCK = "harmattan ingest: set-up"


def lock(connection: psycopg.Connection[Any], pipeline: Pipeline) -> None:
    """Take the lock of the pipeline's schema: a second run of it waits, up to 10 minutes.

    The lock belongs to the session, so it ends with it, also when a run is killed.
    Raises IngestError.
    """
    schema = pipeline.published_schema
    try:
        connection.execute(
            "SELECT pg_advisory_lock(hashtextextended(%s, 0))",
            [f"harmattan ingest: schema {schema}"],
        )
    except psycopg.errors.LockNotAvailable as error:
        raise IngestError(
            f"schema {schema}: expected to be the only run that loads it,"
            " found another one still going after 10 minutes",
            hint="Let it finish, or end its session: pg_stat_activity shows it as ingest.",
        ) from error
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table=f"{schema}.*") from error


def prepare(connection: psycopg.Connection[Any], pipeline: Pipeline) -> None:
    """Create the pipeline's two schemas and ops.loads where missing. Raises IngestError."""
    try:
        with connection.transaction():
            connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [_SETUP_LOCK]
            )
            _create_ops(connection)
            for schema in (pipeline.published_schema, pipeline.staging_schema):
                created = _create_schema(connection, schema)
                readers = schema == pipeline.published_schema and publish.has_readers(connection)
                if readers and (created or _owns(connection, schema)):
                    _grant_usage(connection, schema)
    except psycopg.Error as error:
        table = f"{pipeline.published_schema}.*"
        raise from_postgres(error, side="warehouse", table=table) from error


def grow_enums(connection: psycopg.Connection[Any], schema: str, enums: EnumPlan) -> None:
    """Create the enum types that a plan lands in and add labels that are new at the source.

    Each statement commits by itself: a new label may not be used in the transaction that adds it.
    """
    name = ""
    try:
        for name in enums.create:
            labels = sql.SQL(", ").join(map(sql.Literal, enums.usable[name]))
            connection.execute(
                sql.SQL("CREATE TYPE {} AS ENUM ({})").format(sql.Identifier(schema, name), labels)
            )
        for name, label, after in enums.additions:
            place = (
                _before_first(connection, schema, name)
                if after is None
                else sql.SQL(" AFTER {}").format(after)
            )
            connection.execute(
                sql.SQL("ALTER TYPE {} ADD VALUE IF NOT EXISTS {}{}").format(
                    sql.Identifier(schema, name), label, place
                )
            )
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table=f"{schema}.{name} (enum)") from error


def _before_first(connection: psycopg.Connection[Any], schema: str, name: str) -> sql.Composable:
    first = connection.execute(
        "SELECT enumlabel::text FROM pg_catalog.pg_enum WHERE enumtypid = %s::regtype"
        " ORDER BY enumsortorder LIMIT 1",
        [sql.Identifier(schema, name).as_string(connection)],
    ).fetchone()
    return sql.SQL("") if first is None else sql.SQL(" BEFORE {}").format(first[0])


def _create_ops(connection: psycopg.Connection[Any]) -> None:
    created = _create_schema(connection, "ops")
    found = connection.execute("SELECT to_regclass('ops.loads')").fetchone()
    if found is not None and found[0] is not None:
        return
    connection.execute(
        """
        CREATE TABLE ops.loads (
          pipeline text NOT NULL,
          "table" text NOT NULL,
          rows bigint NOT NULL,
          bytes bigint NOT NULL,
          started_at timestamptz NOT NULL,
          finished_at timestamptz NOT NULL,
          run_id text NOT NULL
        )
        """
    )
    connection.execute(
        "COMMENT ON TABLE ops.loads IS"
        " 'One row a published load, written in the transaction that published it'"
    )
    if publish.has_readers(connection):
        readers = sql.Identifier(publish.READERS)
        connection.execute(sql.SQL("GRANT SELECT ON ops.loads TO {}").format(readers))
        if created or _owns(connection, "ops"):
            _grant_usage(connection, "ops")


def _create_schema(connection: psycopg.Connection[Any], schema: str) -> bool:
    found = connection.execute(
        "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", [schema]
    ).fetchone()
    if found is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    return found is None


def _owns(connection: psycopg.Connection[Any], schema: str) -> bool:
    found = connection.execute(
        "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s AND pg_has_role(nspowner, 'USAGE')",
        [schema],
    ).fetchone()
    return found is not None


def _grant_usage(connection: psycopg.Connection[Any], schema: str) -> None:
    connection.execute(
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(
            sql.Identifier(schema), sql.Identifier(publish.READERS)
        )
    )
