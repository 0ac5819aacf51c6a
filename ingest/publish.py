"""Puts what is staged in front of readers, with its state, in one transaction.

A try takes all of its locks in one short turn, or gives up with nothing held: see `ingest.turns`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg import sql

from frame.failure import Failure
from ingest import (
    alterations,
    altering,
    deletes,
    dependents,
    loads,
    staging,
    state,
    tally,
    warehouse,
)
from ingest.claim import Table, claim, columns
from ingest.errors import BusyError, from_postgres
from ingest.journal import Counts
from ingest.relations import published_table, staging_table
from ingest.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.journal import Journal
    from ingest.plan import TablePlan
    from ingest.staging import Staged

log = logging.getLogger(__name__)
_KEPT = (
    "It is kept in staging: `ingest publish FILE` publishes it later, without reading the source"
    " again."
)
# While rows come, nobody waits for us but who writes, too.
_PATIENT: LiteralString = "SET LOCAL lock_timeout = '60s'"
_BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
# Transactions that do not see rows of staging that are not frozen.
_OLDER: LiteralString = """
    SELECT count(*) FROM ops.staging k JOIN pg_catalog.pg_locks l
      ON l.locktype = 'virtualxid' AND l.virtualtransaction = ANY(k.older)
    WHERE (k.schema, k.name) = (%s, %s)
"""
_HOLDERS: LiteralString = """
    SELECT DISTINCT a.pid, a.usename || coalesce(' by ' || nullif(a.application_name, ''), '')
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    JOIN pg_catalog.pg_class c ON c.oid = l.relation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE l.granted AND l.pid <> pg_catalog.pg_backend_pid()
      AND a.datname = pg_catalog.current_database() AND n.nspname = %s AND c.relname = ANY(%s)
    ORDER BY 1 LIMIT 5
"""


class Publishing:
    """Makes ``tables`` what readers see and moves their state; all of it or nothing.

    A full copy takes the published table's place, and what hangs on that one is made again on it;
    where that is not possible, and the columns are the same, the table stays and gets the rows that
    differ. What is new is merged or added. ``plan`` is that of the table at hand, which an error is
    about.
    """

    def __init__(self, journal: Journal, tables: Sequence[Staged]) -> None:
        self.plan = tables[0].plan
        self._journal = journal
        self._connection = journal.connection
        self._tables = tables

    def run(self) -> list[Counts]:
        """Publish within a turn. Done once, it does nothing more.

        Raises BusyError if others hold what it needs, so that it may be tried again; Failure.
        """
        try:
            return self._run()
        except _BUSY as error:
            raise self._busy() from error
        except psycopg.Error as error:
            null_key = (
                isinstance(error, psycopg.errors.NotNullViolation)
                and error.diag.column_name in self.plan.target.key
            )
            # A key that came twice.
            if null_key or isinstance(error, psycopg.errors.CardinalityViolation):
                raise staging.key_error(self._connection, self.plan, error) from error
            raise from_postgres(error, side="warehouse", table=str(self.plan)) from error

    def _run(self) -> list[Counts]:
        for staged in self._tables:
            self._at(staged)
            self._make_ready(staged)
        with self._connection.transaction():
            self._connection.execute("SET LOCAL synchronous_commit TO DEFAULT")  # the server's own
            # Whose rows of state somebody holds, he publishes.
            self._connection.execute("SET LOCAL lock_timeout = '500ms'")
            due = self._claim_all()
            counts = self._merge_all([table for table in due if table.stays], due)
            counts |= self._replace_all([table for table in due if not table.stays])
            for table in due:
                self._at(table.staged)
                found = counts[str(table.staged)]
                state.move(self._journal, table.staged, found.rows)
                self._journal.published(table.staged, found)
        return [
            counts.get(str(staged)) or self._journal.counts(str(staged)) for staged in self._tables
        ]

    def _at(self, staged: Staged) -> TablePlan:
        self.plan = staged.plan
        return staged.plan

    def _claim_all(self) -> list[Table]:
        due: list[Table] = []
        for staged in self._tables:
            self._at(staged)
            if table := claim(self._journal, staged):
                due.append(table)
        return due

    def _make_ready(self, staged: Staged) -> None:
        """Do what need not be done with all locks held: indexes, and changes of the table itself.

        What it commits does no harm if the rest fails.
        """
        if not loads.of(staged.plan).replaces and not alterations.of(staged.plan):
            return
        with self._connection.transaction():
            self._connection.execute("SET LOCAL lock_timeout = '500ms'")
            table = claim(self._journal, staged)
            if table is None:
                return
            plan = table.plan
            clauses = () if table.base.shape == plan.target.shape else alterations.of(plan)
            if table.foreign_keys:
                raise Failure(
                    f"warehouse: table {plan}: expected no foreign key to point at it,"
                    f" found {', '.join(table.foreign_keys)}",
                    hint="Drop it: rows of a published table come and go as a whole.",
                )
            if table.blockers:
                log.warning("%s keeps its place, because of: %s", plan, "; ".join(table.blockers))
                clauses = self._loosen(table)
            if clauses:
                where = plan.target
                altering.alter(self._connection, where.schema, where.name, clauses)
                if not loads.of(plan).replaces:
                    state.altered(self._journal, plan)
        if table.replaces is not None and not table.stays:
            with self._connection.transaction():
                # What was staged is on the disk before anybody waits for the end of this.
                self._connection.execute("SET LOCAL synchronous_commit TO DEFAULT")
                self._connection.execute("SELECT pg_catalog.pg_current_xact_id()")
                dependents.copy_indexes(
                    self._connection,
                    table.replaces,
                    plan.target.staging,
                    staging_table(plan),
                    table.names,
                )

    def _loosen(self, table: Table) -> tuple[sql.Composed, ...]:
        """Return the clauses that let rows of staging into a table that stays. Raises Failure."""
        schemas = self.plan.target.schema, self.plan.target.staging
        shapes = [columns(self._connection, schema, self.plan.target.name) for schema in schemas]
        old, new = ({shape[:3] for shape in side} for side in shapes)
        if old != new:
            changed = sorted({name for name, *_ in old ^ new})
            raise Failure(
                f"warehouse: table {self.plan}, column {', '.join(changed)}: expected the columns"
                f" and the key that {'; '.join(table.blockers)} was made for, found them changed",
                hint="Drop it, run again, and create it again; or grant this role membership in the"
                " owner of the views, so that it can make them again.",
            )
        fixed = {name for name, *_, not_null in shapes[0] if not_null}
        return tuple(
            sql.SQL("ALTER {} DROP NOT NULL").format(sql.Identifier(name))
            for name, *_, not_null in shapes[1]
            if name in fixed and not not_null  # as the source's may be now
        )

    def _merge_all(self, tables: list[Table], due: list[Table]) -> dict[str, Counts]:
        """Bring rows into the tables that stay; nobody who reads waits for that."""
        replaced = [table for table in due if not table.stays]
        if tables and replaced:  # Their locks come last; without them all of this is in vain.
            with self._connection.transaction(force_rollback=True):
                self._lock(replaced)
        turn = Turn(self._connection)
        for table in tables:
            plan = self._at(table.staged)
            turn.lock(
                _exclusive(plan, staging_table(plan)),
                sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(published_table(plan)),
            )
        self._connection.execute(_PATIENT)
        return {str(table.staged): self._merge(table) for table in tables}

    def _merge(self, table: Table) -> Counts:
        plan, connection = self._at(table.staged), self._connection
        before, due = table.base.rows, tally.expected(connection, table.staged)
        changed = loads.of(plan).bring(connection, table.staged, before)
        tally.hold(connection, table.staged, due)
        rows = before + changed.inserted - changed.deleted
        rows = deletes.of(plan).count(connection, published_table(plan), rows)
        staging.drop(connection, plan)
        return Counts(*changed, rows)

    def _replace_all(self, tables: list[Table]) -> dict[str, Counts]:
        """Put staging tables in the place of published ones, with what hangs on those."""
        counts = {str(table.staged): self._count(table) for table in tables}
        kept = self._lock(tables)
        for statement in kept.drop:
            self._connection.execute(statement)
        for table in tables:
            self._at(table.staged)
            self._replace(table)
        dependents.restore(self._connection, kept)
        return counts

    def _count(self, table: Table) -> Counts:
        plan, rows = self._at(table.staged), table.staged.rows
        live = deletes.of(plan).count(self._connection, staging_table(plan), rows)
        return Counts(rows, 0, table.base.rows, live)

    def _lock(self, tables: list[Table]) -> dependents.Dependents:
        """Lock published tables and the views on them; return what hangs on them from then on.

        Who reads a view locks it first and its table then; so views are locked first.
        """
        replaced = {table.replaces: table for table in tables if table.replaces is not None}
        names = {oid: table.names for oid, table in replaced.items()}
        for table in replaced.values():
            plan = self._at(table.staged)
            if self._connection.execute(
                _OLDER, [plan.target.schema, plan.target.name]
            ).fetchall() != [(0,)]:
                raise BusyError(
                    f"table {plan}: expected every open transaction to see its new rows, found"
                    " some that began before those came",
                    hint=_KEPT,
                )
        turn = Turn(self._connection)
        turn.lock(*dependents.read(self._connection, names).lock)
        for table in replaced.values():
            turn.lock(_exclusive(self._at(table.staged)))
        kept = dependents.read(self._connection, names)
        if kept.blockers or kept.foreign_keys:
            raise BusyError(
                f"table {self.plan}: expected what hangs on it to be as it was a moment ago, found"
                f" {', '.join((*kept.blockers, *kept.foreign_keys))}",
                hint=_KEPT,
            )
        return kept

    def _busy(self) -> BusyError:
        targets = [staged.plan.target for staged in self._tables]
        rows = self._connection.execute(
            _HOLDERS, [targets[0].schema, [target.name for target in targets]]
        ).fetchall()
        holders = ", ".join(f"{who} (pid {pid})" for pid, who in rows)
        return BusyError(
            f"table {self.plan}: expected a moment without long readers, found it held by"
            f" {holders or 'others'}",
            hint=_KEPT,
        )

    def _replace(self, table: Table) -> None:
        plan, connection = table.plan, self._connection
        published = published_table(plan)
        if table.replaces is not None:
            connection.execute(sql.SQL("DROP TABLE {}").format(published))
        untended = sql.SQL(", ").join(map(sql.SQL, staging.UNTENDED))
        connection.execute(
            sql.SQL("ALTER TABLE {} RESET ({})").format(staging_table(plan), untended)
        )
        connection.execute(
            sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
                staging_table(plan), sql.Identifier(plan.target.schema)
            )
        )
        connection.execute(sql.SQL("COMMENT ON TABLE {} IS NULL").format(published))
        if table.replaces is None:
            dependents.grant_defaults(connection, published.as_string())
            if warehouse.has_readers(connection):
                connection.execute(
                    sql.SQL("GRANT SELECT ON {} TO {}").format(
                        published, sql.Identifier(warehouse.READERS)
                    )
                )


def _exclusive(plan: TablePlan, name: sql.Identifier | None = None) -> sql.Composed:
    return sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name or published_table(plan))
