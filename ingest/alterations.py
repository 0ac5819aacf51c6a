"""The clauses of ALTER TABLE that bring a published table to a new shape; no row is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from ingest.drift import Drift
    from ingest.plan import TablePlan

_DROP_NOT_NULL = sql.SQL("ALTER COLUMN {} DROP NOT NULL")


def of(plan: TablePlan) -> tuple[sql.Composed, ...]:
    """Return what the published table needs before rows of ``plan`` may come into it."""
    if plan.read.load == "full":  # another table takes its place, or it has those columns already
        return ()
    appends = plan.read.load == "append"
    return clauses(plan.changes.drift, plan.target.key, appends=appends)


def clauses(found: Drift, key: tuple[str, ...], *, appends: bool) -> tuple[sql.Composed, ...]:
    """Return the clauses for what was ``found``, in order.

    Nothing of an append goes; a new row has no value in a column that left the source.
    """
    drop = _DROP_NOT_NULL if appends else sql.SQL("DROP COLUMN {}")
    dropped = [column for column in found.dropped if column.not_null or not appends]
    # By way of names that are nobody's: two columns may have swapped theirs.
    aside = [(old, f"renaming {place}", new) for place, (old, new) in enumerate(found.renamed)]
    return (
        *(drop.format(sql.Identifier(column.name)) for column in dropped),
        *(_rename(old, between) for old, between, _ in aside),
        *(_rename(between, new) for _, between, new in aside),
        *(
            sql.SQL("ADD COLUMN {} {}").format(sql.Identifier(column.name), sql.SQL(column.lands))
            for column in found.added
        ),
        *(
            sql.SQL("ALTER COLUMN {} TYPE {}").format(sql.Identifier(new.name), sql.SQL(new.lands))
            for old, new in (*found.retyped, *found.replaced)
            if old.lands != new.lands
        ),
        *(
            _DROP_NOT_NULL.format(sql.Identifier(column.name))
            for column in found.nullable
            if column.name not in key
        ),
    )


def _rename(old: str, new: str) -> sql.Composed:
    return sql.SQL("RENAME COLUMN {} TO {}").format(sql.Identifier(old), sql.Identifier(new))
