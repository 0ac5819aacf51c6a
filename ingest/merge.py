"""Brings rows from staging into a published table that stays: readers see the old until the end.

No lock that a reader waits for is taken here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from ingest import deletions, staging
from ingest.rules import DELETED_AT

if TYPE_CHECKING:
    import psycopg

    from ingest.plan import TablePlan


def add(connection: psycopg.Connection[Any], plan: TablePlan) -> tuple[int, int]:
    """Merge staged rows by key, or add them; return how many were inserted and updated."""
    columns = [sql.Identifier(column.name) for column in plan.columns]
    listed = sql.SQL(", ").join(columns)
    insert = sql.SQL("INSERT INTO {} AS p ({listed}) SELECT {listed} FROM {}").format(
        published(plan), staging.name(plan), listed=listed
    )
    if plan.action == "append":
        return connection.execute(insert).rowcount, 0
    key = sql.SQL(", ").join(map(sql.Identifier, plan.key))
    # The key, too: 'Ama' for 'ama' and 1.00 for 1 are equal to an index, and not the same value.
    sets = [sql.SQL("{0} = excluded.{0}").format(column) for column in columns]
    # Equal by every byte: rows that only the lookback brought again are not written again.
    differs = [
        sql.SQL("ROW({})::record *<> ROW({})::record").format(
            _of("p", columns), _of("excluded", columns)
        )
    ]
    if plan.deletes == "mark":
        deleted = sql.Identifier(DELETED_AT)
        sets.append(sql.SQL("{} = NULL").format(deleted))
        differs.append(sql.SQL("p.{} IS NOT NULL").format(deleted))
    action = sql.SQL("UPDATE SET {} WHERE {}").format(
        sql.SQL(", ").join(sets), sql.SQL(" OR ").join(differs)
    )
    # In the order of the key, whose index and mostly whose rows are then met page after page.
    ((inserted, updated),) = connection.execute(
        sql.SQL(
            "WITH merged AS ({insert} ORDER BY {key} ON CONFLICT ({key}) DO {action}"
            " RETURNING xmax = 0 AS new)"
            " SELECT count(*) FILTER (WHERE new), count(*) FILTER (WHERE NOT new) FROM merged"
        ).format(insert=insert, key=key, action=action)
    ).fetchall()
    return inserted, updated


def delete(connection: psycopg.Connection[Any], plan: TablePlan) -> int:
    """Remove, or mark, rows whose keys are not among the staged keys; return how many went."""
    gone = sql.SQL("NOT EXISTS (SELECT FROM {} k WHERE {})").format(
        deletions.name(plan),
        sql.SQL(deletions.same_key(plan, "k", "p")),
    )
    if plan.deletes == "mark":
        connection.execute(
            sql.SQL("UPDATE {} p SET {deleted} = now() WHERE p.{deleted} IS NULL AND {}").format(
                published(plan), gone, deleted=sql.Identifier(DELETED_AT)
            )
        )
        return 0  # the rows are still there
    return connection.execute(
        sql.SQL("DELETE FROM {} p WHERE {}").format(published(plan), gone)
    ).rowcount


def fill(connection: psycopg.Connection[Any], plan: TablePlan) -> None:
    """Make the published table's rows those of a staged full copy, which has the same columns.

    With a key only what differs is written. What goes does so before anything comes, for the sake
    of constraints that somebody added.
    """
    names = [column.name for column in plan.columns]
    names += [DELETED_AT] if plan.deletes == "mark" else []
    columns = [sql.Identifier(name) for name in names]
    stale = new = sql.Composed([])
    if plan.key:
        same_key = sql.SQL(deletions.same_key(plan, "s", "p"))
        stale = sql.SQL(
            " WHERE NOT EXISTS (SELECT FROM {} s WHERE {} AND ROW({})::record *= ROW({})::record)"
        ).format(staging.name(plan), same_key, _of("s", columns), _of("p", columns))
        new = sql.SQL(" WHERE NOT EXISTS (SELECT FROM ONLY {} p WHERE {})").format(
            published(plan), same_key
        )
    connection.execute(sql.SQL("DELETE FROM ONLY {} p").format(published(plan)) + stale)
    connection.execute(
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} s").format(
            published(plan),
            sql.SQL(", ").join(columns),
            _of("s", columns),
            staging.name(plan),
        )
        + new
    )


def count_live(connection: psycopg.Connection[Any], table: sql.Identifier) -> int:
    """Return the rows of a table that are not marked as deleted."""
    ((rows,),) = connection.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE {} IS NULL").format(
            table, sql.Identifier(DELETED_AT)
        )
    ).fetchall()
    return int(rows)


def published(plan: TablePlan) -> sql.Identifier:
    """Return the published table's name."""
    return sql.Identifier(plan.schema, plan.name)


def _of(relation: str, columns: list[sql.Identifier]) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{}.{}").format(sql.Identifier(relation), column) for column in columns
    )
