"""The ways of loading: what is staged by each, what it would make of a table, how it goes in.

A full copy takes the published table's place; an increment is merged into it by key; an append is
added to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg import sql

from ingest import deletes, keys
from ingest.errors import SchemaChangedError, told
from ingest.keys import Found
from ingest.relations import (
    listed,
    old_columns,
    published_table,
    same_key,
    same_old_key,
    source_table,
    staging_keys,
    staging_table,
)

if TYPE_CHECKING:
    import psycopg

    from ingest.plan import TablePlan
    from ingest.staging import Staged
    from ingest.workers import Sessions


class Changed(NamedTuple):
    """Rows that came into a published table, changed there, and went."""

    inserted: int
    updated: int
    deleted: int


class Load(ABC):
    """A way of loading; ``replaces``: what is staged is the whole table."""

    replaces = False

    def is_keyed(self, plan: TablePlan) -> bool:
        """Return whether what is staged gets a key: the plan's, if it has one."""
        return bool(plan.target.key)

    def settle(self, _connection: psycopg.Connection[Any], _plan: TablePlan) -> int:
        """Remove staged rows that are published already, and return how many."""
        return 0

    @abstractmethod
    def candidate(self, plan: TablePlan, columns: tuple[str, ...]) -> sql.Composed:
        """Return the query of what the table would hold after this load, deletes apart."""

    def compare(self, _sessions: Sessions, _plan: TablePlan, _side: str) -> Found:
        """Hold the source against what the table would hold, for rows that are not read.

        ``side`` is how errors name the source. Raises Failure for what cannot be mended, and
        psycopg.Error of the warehouse.
        """
        return Found.NONE

    @abstractmethod
    def bring(self, connection: psycopg.Connection[Any], staged: Staged, rows: int) -> Changed:
        """Bring staged rows into a published table of ``rows`` that stays.

        Readers see the old ones until the transaction's end; no lock that they wait for is taken.
        """


class Full(Load):
    """A whole copy."""

    replaces = True

    def candidate(self, plan: TablePlan, columns: tuple[str, ...]) -> sql.Composed:
        """Return the query of staged rows."""
        return sql.SQL("SELECT {} FROM {} s WHERE {}").format(
            listed(columns), staging_table(plan), deletes.of(plan).is_live("s")
        )

    def bring(self, connection: psycopg.Connection[Any], staged: Staged, rows: int) -> Changed:
        """Make the table's rows those of the copy, which has the same columns.

        With a key only what differs is written. What goes does so before anything comes, for the
        sake of constraints that somebody added.
        """
        fill(connection, staged.plan)
        return Changed(staged.rows, 0, rows)


class Incremental(Load):
    """Rows that are new or changed, merged by key."""

    def is_keyed(self, plan: TablePlan) -> bool:
        """Return whether keys are compared; what is merged meets the key of the published table."""
        return plan.compares_keys

    def candidate(self, plan: TablePlan, columns: tuple[str, ...]) -> sql.Composed:
        """Return the query of published rows whose keys are not staged, and of staged ones."""
        return sql.SQL(
            "SELECT {} FROM {} p WHERE {} AND NOT EXISTS (SELECT FROM {staged} s WHERE {})"
            " UNION ALL SELECT {} FROM {staged}"
        ).format(
            old_columns(plan, columns),
            published_table(plan),
            deletes.of(plan).is_live("p"),
            same_old_key(plan, "s"),
            listed(columns),
            staged=staging_table(plan),
        )

    def compare(self, sessions: Sessions, plan: TablePlan, side: str) -> Found:
        """Compare all keys, or where only a cursor tells of rows, their number and the cursor."""
        keys.expect_unique(sessions.source, plan, side)
        if plan.compares_keys:
            return keys.stage(sessions, plan, self.candidate(plan, plan.target.key), side)
        missed, newest = _unseen(self, sessions, plan, side)
        return Found.MISSED_ROWS if missed or newest is not None else Found.NONE

    def bring(self, connection: psycopg.Connection[Any], staged: Staged, rows: int) -> Changed:
        """Merge by key, and remove or mark what left the source."""
        inserted, updated = merge(connection, staged.plan)
        gone = deletes.of(staged.plan).remove(connection, staged.plan) if staged.keys else 0
        return Changed(inserted, updated, gone)


class Append(Load):
    """Rows that are new, added to those that are there."""

    def compare(self, sessions: Sessions, plan: TablePlan, side: str) -> Found:
        """Expect no row that the cursor does not show, as what is there cannot be loaded again.

        A cursor that went back shows rows that are new as old ones. Of a table that was not emptied
        it may have: its newest row was deleted.
        """
        keys.expect_unique(sessions.source, plan, side)
        missed, newest = _unseen(self, sessions, plan, side)
        if plan.read.restarted and newest is not None:
            found = f"that the table was emptied and begins before it, at {newest}"
        elif missed:
            found = f"rows behind it that are not there, {missed} at least"
        else:
            return Found.NONE
        cursor = plan.read.cursor
        raise SchemaChangedError(
            f"table {plan}: expected {cursor.column if cursor else 'the cursor'} to go on from"
            f" {plan.read.since}, found {found}",
            hint="An append table keeps rows that the source may no longer have: have rows of late"
            " read again by --since and --until, run once with --full-refresh to replace it, or"
            " begin another table.",
            brief=f"table {plan}: expected its cursor to go on from the last load, found that it"
            " does not show all new rows",
        )

    def settle(self, connection: psycopg.Connection[Any], plan: TablePlan) -> int:
        """Remove staged rows that are published: by key, or else row by row."""
        if plan.target.key:
            return connection.execute(
                sql.SQL("DELETE FROM {} s USING {} p WHERE {}").format(
                    staging_table(plan), published_table(plan), same_old_key(plan, "s")
                )
            ).rowcount
        drift = plan.changes.drift
        added = {column.name for column in drift.added}
        columns = [name for name in plan.target.names if name not in added]
        # As many copies of a row as are published go, and not one more.
        return connection.execute(
            sql.SQL(
                "WITH known AS (SELECT ROW({old})::text AS row, count(*) AS copies"
                " FROM {published} p WHERE {window} GROUP BY 1),"
                " found AS (SELECT ctid AS place, ROW({new})::text AS row,"
                " row_number() OVER (PARTITION BY ROW({new})::text) AS copy FROM {staged})"
                " DELETE FROM {staged} s USING found JOIN known USING (row)"
                " WHERE s.ctid = found.place AND found.copy <= known.copies"
            ).format(
                old=listed((drift.before.get(name, name) for name in columns), "p"),
                published=published_table(plan),
                window=plan.read.window or sql.SQL("true"),
                new=listed(columns),
                staged=staging_table(plan),
            )
        ).rowcount

    def candidate(self, plan: TablePlan, columns: tuple[str, ...]) -> sql.Composed:
        """Return the query of all published rows and of the staged ones that are new."""
        return sql.SQL("SELECT {} FROM {} p UNION ALL SELECT {} FROM {}").format(
            old_columns(plan, columns), published_table(plan), listed(columns), staging_table(plan)
        )

    def bring(self, connection: psycopg.Connection[Any], staged: Staged, _rows: int) -> Changed:
        """Add."""
        return Changed(connection.execute(_insert(staged.plan)).rowcount, 0, 0)


_LOADS: dict[str, Load] = {"full": Full(), "incremental": Incremental(), "append": Append()}


def of(plan: TablePlan) -> Load:
    """Return the way in which ``plan`` loads."""
    return _LOADS[plan.read.load]


def outcome(staged: Staged) -> sql.Composed:
    """Return the query of all rows of the source that the table would have after this load."""
    plan = staged.plan
    query = of(plan).candidate(plan, plan.target.names)
    if not staged.keys:
        return query
    return sql.SQL("SELECT * FROM ({}) c WHERE EXISTS (SELECT FROM {} k WHERE {})").format(
        query, staging_keys(plan), same_key(plan, "k", "c")
    )


def _unseen(load: Load, sessions: Sessions, plan: TablePlan, side: str) -> tuple[int, str | None]:
    """Return how many rows more the source has than the table would, and its newest cursor value.

    That is None unless it is before the one at which the last load ended.
    """
    cursor, since = plan.read.cursor, plan.read.since
    told_by_rows = plan.read.oldest is not None and not plan.read.restarted
    if cursor is None or since is None or plan.read.interval is not None or told_by_rows:
        return 0, None
    with told(side, plan.source):
        ((there, newest),) = sessions.source.execute(
            sql.SQL("SELECT count(*), ({})::text FROM {}").format(
                cursor.newest_before(since), source_table(plan)
            )
        ).fetchall()
    candidate = load.candidate(plan, plan.target.names[:1])
    ((here,),) = sessions.target.execute(
        sql.SQL("SELECT count(*) FROM ({}) AS candidate").format(candidate)
    ).fetchall()
    return max(0, there - here), newest


def merge(connection: psycopg.Connection[Any], plan: TablePlan) -> tuple[int, int]:
    """Merge staged rows by key; return how many were inserted and updated."""
    columns = plan.target.names
    # The key, too: 'Ama' for 'ama' and 1.00 for 1 are equal to an index, and not the same value.
    sets = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in columns]
    # Equal by every byte: rows that only the lookback brought again are not written again.
    differs = sql.SQL("ROW({})::record *<> ROW({})::record").format(
        listed(columns, "p"), listed(columns, "excluded")
    )
    back = deletes.of(plan)
    # In the order of the key, whose index and mostly whose rows are then met page after page.
    ((inserted, updated),) = connection.execute(
        sql.SQL(
            "WITH merged AS ({insert} ORDER BY {key} ON CONFLICT ({key})"
            " DO UPDATE SET {sets} WHERE {differs} OR NOT {live} RETURNING xmax = 0 AS new)"
            " SELECT count(*) FILTER (WHERE new), count(*) FILTER (WHERE NOT new) FROM merged"
        ).format(
            insert=_insert(plan),
            key=listed(plan.target.key),
            sets=sql.SQL(", ").join([*sets, *back.revives()]),
            differs=differs,
            live=back.is_live("p"),
        )
    ).fetchall()
    return inserted, updated


def fill(connection: psycopg.Connection[Any], plan: TablePlan) -> None:
    """Make the published table's rows those of a staged full copy: see :meth:`Full.bring`."""
    columns = (*plan.target.names, *deletes.of(plan).columns)
    stale = new = sql.Composed([sql.SQL("true")])
    if plan.target.key:
        stale = sql.SQL(
            "NOT EXISTS (SELECT FROM {} s WHERE {} AND ROW({})::record *= ROW({})::record)"
        ).format(
            staging_table(plan),
            same_key(plan, "s", "p"),
            listed(columns, "s"),
            listed(columns, "p"),
        )
        new = sql.SQL("NOT EXISTS (SELECT FROM ONLY {} p WHERE {})").format(
            published_table(plan), same_key(plan, "s", "p")
        )
    connection.execute(
        sql.SQL("DELETE FROM ONLY {} p WHERE {}").format(published_table(plan), stale)
    )
    connection.execute(
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} s WHERE {}").format(
            published_table(plan), listed(columns), listed(columns, "s"), staging_table(plan), new
        )
    )


def _insert(plan: TablePlan) -> sql.Composed:
    columns = listed(plan.target.names)
    return sql.SQL("INSERT INTO {} AS p ({columns}) SELECT {columns} FROM {}").format(
        published_table(plan), staging_table(plan), columns=columns
    )
