"""The warehouse before a run: what it holds; locks, schemas, tables of ops, types to land in."""

from __future__ import annotations

import secrets
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from ingest import catalog, due, names, ops, ownership, state
from ingest.errors import ConflictError, from_postgres
from ingest.types import EXTENSIONS_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from frame.failure import Failure
    from ingest.contract import Pipeline
    from ingest.journal import Journal
    from ingest.shapes import SourceTables
    from ingest.types import TypeStep

READERS = "warehouse_readers"
# Anybody who may log in can take an advisory lock whose key is known. So a run takes one of a key
# that it has just drawn, and writes that into ops.locks, where only the loader writes: the schema
# is taken as long as a session of that role holds that lock. It ends with the session, also in a
# pool, and when a run is killed.
_TAKE: LiteralString = """
    INSERT INTO ops.locks AS held (schema, key, holder)
      SELECT %(schema)s, %(key)s, oid FROM pg_catalog.pg_roles WHERE rolname = session_user
    ON CONFLICT (schema) DO UPDATE SET key = excluded.key, holder = excluded.holder
    WHERE NOT EXISTS (
      SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
      WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.database = (SELECT oid FROM pg_catalog.pg_database
                          WHERE datname = current_database())
        AND (l.classid::bigint << 32) + l.objid::bigint = held.key AND a.usesysid = held.holder)
    RETURNING true
"""
_WAIT, _LOOK = 600.0, 0.25  # seconds for a schema, and between two looks
# One transaction at a time creates what pipelines share: CREATE … IF NOT EXISTS alone races.
_SETUP_LOCK: LiteralString = "LOCK TABLE ops.locks IN SHARE ROW EXCLUSIVE MODE"
_RACED = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateTable,
    psycopg.errors.InternalError,  # two grants at a time: tuple concurrently updated
)
_RACES = 10  # tries, each after one that somebody else won
_SET_UP: LiteralString = """
    SELECT array_agg(n.nspname::text) FILTER (WHERE n.nspname IS NOT NULL),
           (SELECT array_agg(c.relname::text) FROM pg_catalog.pg_class c
            WHERE c.relnamespace = to_regnamespace('ops') AND c.relkind = 'r'),
           (SELECT count(*) FROM pg_catalog.pg_attribute a
            JOIN unnest(%s::text[], %s::text[]) AS added (of, name) ON a.attname = added.name
            WHERE a.attrelid = to_regclass('ops.' || added.of))
    FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY(%s)
"""


def lock(connection: psycopg.Connection[Any], pipeline: Pipeline) -> None:
    """Take the lock of the pipeline's schema: a second run of it waits, up to 10 minutes.

    The lock belongs to the session, so it ends with it, also when a run is killed.
    Raises Failure.
    """
    schema, until = pipeline.published_schema, monotonic() + _WAIT
    taken = {"schema": schema, "key": secrets.randbits(63)}
    try:
        _make_locks(connection)
        connection.execute("SELECT pg_advisory_lock(%(key)s)", taken)
        while connection.execute(_TAKE, taken).fetchone() is None:
            if monotonic() > until:
                raise ConflictError(
                    f"schema {schema}: expected to be the only run that loads it,"
                    " found another one still going after 10 minutes",
                    hint="Let it finish, or end its session: pg_stat_activity shows it as ingest.",
                )
            sleep(_LOOK)
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table=f"{schema}.*") from error


def let_others(connection: psycopg.Connection[Any], pipeline: Pipeline, seconds: float) -> None:
    """Give up the lock of the pipeline's schema for ``seconds``. Raises Failure."""
    try:
        connection.execute("SELECT pg_advisory_unlock_all()")
    except psycopg.Error as error:
        table = f"{pipeline.published_schema}.*"
        raise from_postgres(error, side="warehouse", table=table) from error
    sleep(seconds)
    lock(connection, pipeline)


def prepare(connection: psycopg.Connection[Any], pipeline: Pipeline) -> None:
    """Create the pipeline's two schemas and the tables of ops where missing. Raises Failure."""
    schemas = [ops.SCHEMA, pipeline.published_schema, pipeline.staging_schema]
    try:
        added = [list(names) for names in zip(*ops.ADDED, strict=True)]
        ((there, tables, columns),) = connection.execute(_SET_UP, [*added, schemas]).fetchall()
        if (
            set(there or ()) == set(schemas)
            and set(ops.TABLES) <= set(tables or ())
            and columns == len(ops.ADDED)
        ):
            return
        _make_locks(connection)
        with connection.transaction():
            connection.execute(_SETUP_LOCK)
            for schema in schemas:
                _create_schema(connection, schema, readable=schema != pipeline.staging_schema)
            _create_ops(connection)
    except psycopg.Error as error:
        table = f"{pipeline.published_schema}.*"
        raise from_postgres(error, side="warehouse", table=table) from error


def published(journal: Journal, pipeline: Pipeline, tables: SourceTables) -> due.Published:
    """Return what the warehouse holds of ``tables``, and what it offers them to land in.

    Raises Failure.
    """
    schema = pipeline.published_schema
    try:
        types = catalog.warehouse_types(journal.connection, schema, tables.types.values())
        ownership.expect_alone(journal.connection, schema, journal.pipeline)
        wanted = [relation.name for relation in tables.rules]
        strangers = ownership.strangers(journal.connection, schema, wanted, state.ours(journal))
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table=f"{schema}.*") from error
    known = [due.published_name(pipeline, relation) for relation in tables.rules]
    return due.Published(
        types=types,
        states=state.read(journal, known),
        left_over=state.left_over(journal, schema, known) if due.patterns(pipeline) else (),
        strangers=strangers,
    )


def make_types(
    connection: psycopg.Connection[Any], steps: Iterable[TypeStep]
) -> dict[str, Failure]:
    """Make the types that plans land in; return the errors of those that are not, by declaration.

    Each step commits by itself: a new label may not be used in the transaction that adds it.
    """
    failed: dict[str, Failure] = {}
    for step in steps:
        try:
            if step.installs:
                with connection.transaction():
                    connection.execute(_SETUP_LOCK)
                    _create_schema(connection, EXTENSIONS_SCHEMA, readable=True)
                    connection.execute(step.statement)
            else:
                with connection.transaction():
                    connection.execute(step.statement)
                    if step.becomes:
                        state.renamed(connection, step.declaration, step.becomes)
        except psycopg.Error as error:
            table = f"{names.display(step.schema, step.name)} (type)"
            told = from_postgres(error, side="warehouse", table=table)
            failed.setdefault(step.declaration, told)
    return failed


def has_readers(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the warehouse has the role that may read what is published."""
    found = connection.execute(
        "SELECT FROM pg_catalog.pg_roles WHERE rolname = %s", [READERS]
    ).fetchone()
    return found is not None


def _make_locks(connection: psycopg.Connection[Any]) -> None:
    """Create the table of locks where it is missing; another run may do so at the same moment."""
    for left in reversed(range(_RACES)):
        there = connection.execute("SELECT to_regclass('ops.locks') IS NOT NULL").fetchone()
        if there == (True,):
            return
        try:
            with connection.transaction():
                _create_schema(connection, ops.SCHEMA, readable=True)
                _create_tables(connection, ["locks"])
        except _RACED:  # which has waited for the other to commit
            if not left:
                raise


def _create_ops(connection: psycopg.Connection[Any]) -> None:
    _create_tables(connection, ops.TABLES)
    for statement in ops.ADDED.values():
        connection.execute(statement)


def _create_tables(connection: psycopg.Connection[Any], wanted: Iterable[str]) -> None:
    readers = has_readers(connection)
    for name in wanted:
        table = sql.Identifier(ops.SCHEMA, name)
        found = connection.execute("SELECT to_regclass(%s)", [f"ops.{name}"]).fetchone()
        if found is not None and found[0] is not None:
            continue
        connection.execute(ops.TABLES[name])
        if readers:
            connection.execute(
                sql.SQL("GRANT SELECT ON {} TO {}").format(table, sql.Identifier(READERS))
            )


def _create_schema(connection: psycopg.Connection[Any], schema: str, *, readable: bool) -> None:
    found = connection.execute(
        "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_catalog.pg_namespace WHERE nspname = %s",
        [schema],
    ).fetchone()
    name = sql.Identifier(schema)
    if found is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    if readable and (found is None or found[0]) and has_readers(connection):
        connection.execute(
            sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(name, sql.Identifier(READERS))
        )
