"""What ops says of a table that is to be published, and whether it may be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, LiteralString

from frame.failure import Failure
from ingest import dependents, loads, ownership, staging, state
from ingest.errors import ConflictError
from ingest.rules import DELETED_AT

if TYPE_CHECKING:
    import psycopg

    from ingest.journal import Journal
    from ingest.plan import TablePlan
    from ingest.staging import Staged
    from ingest.state import Base

_THERE: LiteralString = """
    SELECT c.oid::bigint FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE (n.nspname, c.relname) = (%s, %s)
"""
_COLUMNS: LiteralString = """
    SELECT attname::text, pg_catalog.format_type(atttypid, atttypmod),
      (SELECT array_position(conkey, attnum) FROM pg_catalog.pg_constraint
       WHERE conrelid = attrelid AND contype = 'p'), attnotnull
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE (n.nspname, c.relname) = (%s, %s) AND attnum > 0 AND NOT attisdropped
"""


@dataclass(frozen=True)
class Table:
    """A table that is to be published: what ops says of it; the oid that it replaces, if any.

    ``blockers`` are what hangs on that one and cannot be made again, ``foreign_keys`` what points
    at it.
    """

    staged: Staged
    base: Base
    replaces: int | None
    blockers: tuple[str, ...] = ()
    foreign_keys: tuple[str, ...] = ()

    @property
    def plan(self) -> TablePlan:
        """How it was staged."""
        return self.staged.plan

    @property
    def stays(self) -> bool:
        """Whether rows come into the published table, and not another table into its place."""
        return not loads.of(self.plan).replaces or bool(self.blockers)

    @property
    def names(self) -> list[str]:
        """Its columns, in order."""
        return [*self.plan.target.names]


def claim(journal: Journal, staged: Staged) -> Table | None:
    """Lock a table's state; return what is to be done, None if this load is published already.

    Raises Failure: ConflictError if another load was published since this one was planned.
    """
    plan, target, connection = staged.plan, staged.plan.target, journal.connection
    base = state.base(journal, str(plan))
    if base.load_id == staged.load_id:
        return None
    staging.expect(connection, staged)
    planned = plan.changes.base
    if base.load_id != planned and planned is not None:
        raise ConflictError(
            f"table {staged}: expected the load {planned} to be the newest one published,"
            f" found {base.load_id}",
            hint="Another run of the pipeline got in between: run again.",
        )
    ours = () if base.oid is None else (base.oid,)
    for stranger in ownership.strangers(connection, target.schema, [target.name], ours).values():
        raise stranger
    row = connection.execute(_THERE, [target.schema, target.name]).fetchone()
    table = Table(staged, base, None if row is None else row[0])
    if table.replaces is None or not loads.of(plan).replaces:
        return table
    _expect_columns(connection, table)
    kept = dependents.read(connection, {table.replaces: table.names})
    return replace(table, blockers=kept.blockers, foreign_keys=kept.foreign_keys)


def columns(connection: psycopg.Connection[Any], schema: str, name: str) -> list[tuple[Any, ...]]:
    """Return of each column its name, its type, its place in the key, whether it is NOT NULL."""
    return connection.execute(_COLUMNS, [schema, name]).fetchall()


def _expect_columns(connection: psycopg.Connection[Any], table: Table) -> None:
    """Raise Failure if the published table has columns that ingest did not give it."""
    target, shape = table.plan.target, table.base.shape
    if shape is None:
        return
    given = {column.name for column in (*shape.columns, *shape.kept)} | {DELETED_AT}
    added = sorted({name for name, *_ in columns(connection, target.schema, target.name)} - given)
    if added:
        raise Failure(
            f"warehouse: table {target}: expected the columns of its last load, found"
            f" {', '.join(added)}, which somebody added",
            hint="A full load would drop them with their values: move them into a table or a view"
            " of yours, drop them here, and run again.",
        )
