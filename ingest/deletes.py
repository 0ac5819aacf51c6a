"""What becomes of rows that left the source: they stay, they are removed, or they are marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import sql

from ingest.relations import (
    listed,
    published_table,
    same_key,
    same_old_key,
    staging_keys,
    staging_table,
)
from ingest.rules import DELETED_AT

if TYPE_CHECKING:
    import psycopg

    from ingest.plan import TablePlan

_DELETED_AT = sql.Identifier(DELETED_AT)
# Columns of a published table.
_COLUMNS: LiteralString = """
    SELECT attname::text FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""


class Kept:
    """Rows stay where an increment does not show that they went (``deletes: ignore``)."""

    columns: tuple[str, ...] = ()  # that the published table has besides the source's

    def is_live(self, _relation: str) -> sql.Composable:
        """Return the condition that a row of the relation of that alias is in the source."""
        return sql.SQL("true")

    def revives(self) -> tuple[sql.Composed, ...]:
        """Return what an update sets in a row that is in the source again."""
        return ()

    def remove(self, _connection: psycopg.Connection[Any], _plan: TablePlan) -> int:
        """Remove published rows whose keys are not among the staged keys; return how many went."""
        return 0

    def carry_over(self, _connection: psycopg.Connection[Any], _plan: TablePlan) -> None:
        """Add to a staged full copy what is published and it no longer has, if that is to stay."""

    def count(self, _connection: psycopg.Connection[Any], _table: sql.Identifier, rows: int) -> int:
        """Return how many of the ``rows`` of a table are in the source."""
        return rows


class Removed(Kept):
    """Rows go (``deletes: detect``)."""

    def remove(self, connection: psycopg.Connection[Any], plan: TablePlan) -> int:
        """Remove what went."""
        return connection.execute(
            sql.SQL("DELETE FROM {} p WHERE {}").format(published_table(plan), _is_gone(plan))
        ).rowcount


class Marked(Kept):
    """Rows stay, with the time at which they were found gone (``deletes: mark``)."""

    columns = (DELETED_AT,)

    def is_live(self, relation: str) -> sql.Composable:
        """Return the condition that a row has no mark."""
        return sql.SQL("({}.{} IS NULL)").format(sql.Identifier(relation), _DELETED_AT)

    def revives(self) -> tuple[sql.Composed, ...]:
        """Take the mark away."""
        return (sql.SQL("{} = NULL").format(_DELETED_AT),)

    def remove(self, connection: psycopg.Connection[Any], plan: TablePlan) -> int:
        """Mark what went; all rows are still there."""
        connection.execute(
            sql.SQL("UPDATE {} p SET {} = now() WHERE {} AND {}").format(
                published_table(plan), _DELETED_AT, self.is_live("p"), _is_gone(plan)
            )
        )
        return 0

    def carry_over(self, connection: psycopg.Connection[Any], plan: TablePlan) -> None:
        """Add published rows as marked.

        They have no value in columns that are new or whose old values do not fit their type.
        """
        drift, name = plan.changes.drift, published_table(plan)
        there = {column for (column,) in connection.execute(_COLUMNS, [name.as_string()])}
        before = {column: drift.before.get(column, column) for column in plan.target.names}
        lost = {column.name for column in drift.added} | drift.unfit
        kept = [new for new, old in before.items() if old in there and new not in lost]
        if not {*plan.target.key} <= {*kept}:
            return  # nothing is published yet, or a full refresh was asked for with another key
        since = sql.Identifier("p", DELETED_AT) if DELETED_AT in there else sql.NULL
        connection.execute(
            sql.SQL(
                "INSERT INTO {staged} ({columns}, {deleted}) SELECT {old}, coalesce({since}, now())"
                " FROM {published} p WHERE NOT EXISTS (SELECT FROM {staged} s WHERE {same})"
            ).format(
                staged=staging_table(plan),
                columns=listed(kept),
                old=listed((before[name] for name in kept), "p"),
                deleted=_DELETED_AT,
                since=since,
                published=name,
                same=same_old_key(plan, "s"),
            )
        )

    def count(self, connection: psycopg.Connection[Any], table: sql.Identifier, _rows: int) -> int:
        """Return the rows that have no mark."""
        ((rows,),) = connection.execute(
            sql.SQL("SELECT count(*) FROM {} p WHERE {}").format(table, self.is_live("p"))
        ).fetchall()
        return int(rows)


_DELETES: dict[str, Kept] = {"ignore": Kept(), "detect": Removed(), "mark": Marked()}


def of(plan: TablePlan) -> Kept:
    """Return what ``plan`` does with rows that left the source."""
    return _DELETES[plan.target.deletes]


def _is_gone(plan: TablePlan) -> sql.Composed:
    return sql.SQL("NOT EXISTS (SELECT FROM {} k WHERE {})").format(
        staging_keys(plan), same_key(plan, "k", "p")
    )
