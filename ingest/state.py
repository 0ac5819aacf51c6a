"""``ops.state`` and ``ops.shapes``: what is published of each table, and the next run starts from.

It changes only in the transaction that publishes. Raises Failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple

from psycopg.types.json import Json

from ingest import names
from ingest.drift import SHAPE
from ingest.due import LeftOver
from ingest.origin import ORIGIN
from ingest.plan import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from ingest.drift import Shape
    from ingest.journal import Journal
    from ingest.plan import TablePlan
    from ingest.staging import Staged

_STATES: LiteralString = """
    SELECT s."table", s.load_id, h.shape, s.cursor, s.cursor_value, s.rows,
      to_jsonb(s) -> 'origin'  -- which a table of an older release does not have, nor an oid
    FROM ops.state s JOIN ops.shapes h USING ("table", version)
    WHERE (s."table" = ANY(%(tables)s) OR s.pipeline = %(pipeline)s)
      AND to_regclass(s."table")::oid
        = coalesce((to_jsonb(s) ->> 'oid')::oid, to_regclass(s."table")::oid)
"""
_LEFT_OVER: LiteralString = """
    SELECT s."table", c.relname::text, h.shape ->> 'source'
    FROM ops.state s JOIN ops.shapes h USING ("table", version)
    JOIN pg_catalog.pg_class c ON c.oid = to_regclass(s."table")
    WHERE s.pipeline = %(pipeline)s AND s."table" <> ALL(%(tables)s)
      AND c.relkind = 'r' AND c.relnamespace = to_regnamespace(%(schema)s) ORDER BY 1
"""
_OURS: LiteralString = """
    SELECT coalesce((to_jsonb(s) ->> 'oid')::bigint, to_regclass(s."table")::oid::bigint)
    FROM ops.state s WHERE s.pipeline = %(pipeline)s AND to_regclass(s."table") IS NOT NULL
"""
_BASE: LiteralString = """
    SELECT s.load_id, s.rows, s.oid::bigint, h.shape
    FROM ops.state s LEFT JOIN ops.shapes h USING ("table", version)
    WHERE s."table" = %s FOR UPDATE OF s
"""
_STATE: LiteralString = """
    INSERT INTO ops.state AS s ("table", pipeline, run_id, load_id, cursor, cursor_value, version,
      rows, origin, oid)
    VALUES (%(table)s, %(pipeline)s, %(run_id)s, %(load_id)s, %(cursor)s, %(cursor_value)s,
      %(version)s, %(rows)s, %(origin)s, to_regclass(%(table)s)::oid)
    ON CONFLICT ("table") DO UPDATE SET pipeline = excluded.pipeline, run_id = excluded.run_id,
      load_id = excluded.load_id, version = excluded.version, rows = excluded.rows,
      published_at = clock_timestamp(), oid = excluded.oid,
      -- What was reset meanwhile stays so, until a load has begun from there.
      (cursor, cursor_value, origin) = (
        SELECT excluded.cursor, excluded.cursor_value, coalesce(excluded.origin, s.origin)
        WHERE NOT (%(goes_on)s AND s.cursor IS NULL AND s.origin IS NULL))
"""
# No other text in a shape is a type's name with its schema, quoted.
_RENAMED: LiteralString = """
    UPDATE ops.shapes SET shape = replace(shape::text, to_jsonb(%(old)s::text)::text,
      to_jsonb(%(new)s::text)::text)::jsonb
    WHERE strpos(shape::text, to_jsonb(%(old)s::text)::text) > 0
"""


class Base(NamedTuple):
    """The state of a published table: its load, its rows, its oid, its shape; or that it has none.

    ``oid`` is None, too, in what an older release wrote.
    """

    load_id: str | None = None
    rows: int = 0
    oid: int | None = None
    shape: Shape | None = None


def read(journal: Journal, tables: Iterable[str]) -> dict[str, State]:
    """Return the states of what is published of ``tables``, and of the pipeline's, by name."""
    if not _is_there(journal):
        return {}
    return {
        table: State(
            load_id,
            SHAPE.validate_python(shape),
            cursor,
            value,
            rows,
            None if origin is None else ORIGIN.validate_python(origin),
        )
        for table, load_id, shape, cursor, value, rows, origin in journal.execute(
            _STATES, tables=list(tables)
        )
    }


def left_over(journal: Journal, schema: str, tables: Iterable[str]) -> tuple[LeftOver, ...]:
    """Return what this pipeline published into ``schema`` besides ``tables``, by name."""
    if not _is_there(journal):
        return ()
    rows = journal.execute(_LEFT_OVER, schema=names.quote(schema), tables=list(tables))
    return tuple(LeftOver(table, name, source) for table, name, source in rows)


def ours(journal: Journal) -> frozenset[int]:
    """Return the oids of what this pipeline has published."""
    if not _is_there(journal):
        return frozenset()
    return frozenset(oid for (oid,) in journal.execute(_OURS))


def base(journal: Journal, table: str) -> Base:
    """Lock the state of ``table`` for this transaction, and return it."""
    row = journal.connection.execute(_BASE, [table]).fetchone()
    if row is None:
        return Base()
    load_id, rows, oid, shape = row
    return Base(load_id, rows, oid, None if shape is None else SHAPE.validate_python(shape))


def altered(journal: Journal, plan: TablePlan) -> None:
    """Write that the published table has the plan's shape; call it where it is altered."""
    journal.execute(
        'UPDATE ops.state SET version = %(version)s WHERE "table" = %(table)s',
        version=_version(journal, plan),
        table=str(plan),
    )


def renamed(connection: psycopg.Connection[Any], old: str, new: str) -> None:
    """Write that a type of the warehouse has another name, where shapes declare columns by it.

    Raises psycopg.Error.
    """
    for array in ("", "[]"):
        connection.execute(_RENAMED, {"old": f"{old}{array}", "new": f"{new}{array}"})


def move(journal: Journal, staged: Staged, rows: int) -> None:
    """Make a load of ``rows`` what the next run starts from, in the transaction that publishes."""
    plan = staged.plan
    journal.execute(
        _STATE,
        table=str(plan),
        load_id=staged.load_id,
        cursor=plan.read.cursor and plan.read.cursor.column,
        cursor_value=staged.cursor_value,
        version=_version(journal, plan),
        rows=rows,
        goes_on=plan.read.since is not None or plan.read.oldest is not None,
        # What was written since the last load outside of an interval is still to be read.
        origin=None
        if plan.read.interval
        else Json(ORIGIN.dump_python(plan.source.origin, mode="json")),
    )


def _is_there(journal: Journal) -> bool:
    ((there,),) = journal.execute("SELECT to_regclass('ops.state')").fetchall()
    return there is not None


def _version(journal: Journal, plan: TablePlan) -> int:
    table, shape = str(plan), Json(SHAPE.dump_python(plan.target.shape, mode="json"))
    found = journal.connection.execute(
        'SELECT version, shape = %s::jsonb FROM ops.shapes WHERE "table" = %s'
        " ORDER BY version DESC LIMIT 1",
        [shape, table],
    ).fetchone()
    if found and found[1]:
        return int(found[0])
    version = 1 if found is None else int(found[0]) + 1
    journal.connection.execute(
        'INSERT INTO ops.shapes ("table", version, pipeline, run_id, shape, changes)'
        " VALUES (%s, %s, %s, %s, %s, %s)",
        [table, version, journal.pipeline, journal.run_id, shape, list(plan.changes.describe())],
    )
    return version
