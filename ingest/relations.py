"""The relations of a plan in SQL: the source's table, what is published of it, what is staged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from ingest import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.plan import TablePlan


def source_table(plan: TablePlan) -> sql.Composed:
    """Return the source's table, with the condition that tells its rows from later ones."""
    relation, leaves = plan.source.relation, plan.source.leaves
    return sql.SQL("{} WHERE {}").format(relation, leaves) if leaves else relation


def published_table(plan: TablePlan) -> sql.Identifier:
    """Return the published table's name."""
    return sql.Identifier(plan.target.schema, plan.target.name)


def staging_table(plan: TablePlan) -> sql.Identifier:
    """Return the staging table's name."""
    return sql.Identifier(plan.target.staging, plan.target.name)


def staging_keys(plan: TablePlan) -> sql.Identifier:
    """Return the name of the staging table for the source's keys."""
    return sql.Identifier(plan.target.staging, keys_name(plan))


def keys_name(plan: TablePlan) -> str:
    """Return the name, without its schema, of the staging table for the source's keys."""
    return names.helper(plan.target.name, "keys")


def listed(columns: Iterable[str], relation: str = "") -> sql.Composed:
    """Return ``columns`` with commas, of the ``relation`` of that alias."""
    return sql.SQL(", ").join(_column(relation, column) for column in columns)


def old_columns(plan: TablePlan, columns: Iterable[str]) -> sql.Composed:
    """Return the expressions for ``columns`` of the published table ``p``, before it is altered.

    Columns that are new are NULL.
    """
    drift = plan.changes.drift
    added = {column.name for column in drift.added}
    return sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(
            sql.NULL if column in added else _column("p", drift.before.get(column, column)),
            sql.Identifier(column),
        )
        for column in columns
    )


def same_key(plan: TablePlan, left: str, right: str) -> sql.Composed:
    """Return the condition that rows of two relations, by their aliases, have the same key."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(_column(left, column), _column(right, column))
        for column in plan.target.key
    )


def same_old_key(plan: TablePlan, relation: str) -> sql.Composed:
    """Return the condition that a row has the key of one of ``p``, published before this load."""
    before = plan.changes.drift.before
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(
            _column(relation, column), _column("p", before.get(column, column))
        )
        for column in plan.target.key
    )


def _column(relation: str, column: str) -> sql.Identifier:
    return sql.Identifier(relation, column) if relation else sql.Identifier(column)
