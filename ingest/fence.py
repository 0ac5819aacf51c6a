"""Keeps a source table as it was planned while its rows are read, and holds it no longer.

A lock that is held for a whole run makes the application wait: an ALTER TABLE queues behind it, and
everything else behind that. So each read takes its own, never waits for one (as pg_dump's workers
do), and then looks whether the table is still the one that was planned: under the run's snapshot,
rows of a table that was truncated or rewritten since read as gone.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from ingest.errors import MovedError, from_postgres
from ingest.relations import listed
from ingest.turns import turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ingest.plan import TablePlan
    from ingest.shapes import Relation, TableShape

_CLOSED = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InsufficientPrivilege,
)
# Undone, it gives up the locks that were taken since, but not the snapshot.
_BEGIN: LiteralString = "SAVEPOINT reading"
_BACK: LiteralString = "ROLLBACK TO SAVEPOINT reading"
_END: LiteralString = "ROLLBACK TO SAVEPOINT reading; RELEASE SAVEPOINT reading"
# The files of what this session has locked, as they are now, whatever its snapshot; and of one
# table. What users made has oids from 16384 on.
_FILES: LiteralString = """
    SELECT relation::bigint, coalesce(pg_catalog.pg_relation_filenode(relation), 0)::bigint
    FROM pg_catalog.pg_locks
    WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation' AND relation >= 16384
"""
_FILE: LiteralString = """
    SELECT oid::bigint, coalesce(pg_catalog.pg_relation_filenode(oid::oid), 0)::bigint
    FROM pg_catalog.unnest(ARRAY[%s::bigint]) AS oid
"""


class Fence:
    """The tables of a run, as they were when all of them were locked.

    ``session`` takes the run's snapshot; ``side`` is how errors name its server; ``wait`` is for
    how many seconds a lock is tried.
    """

    def __init__(self, session: psycopg.Connection[Any], side: str, wait: float) -> None:
        self._session = session
        self._side = side
        self._wait = wait
        self._files: Mapping[int, int] = {}
        self._shapes: Mapping[tuple[str, str], TableShape] = {}

    def lock(self, tables: Iterable[Relation]) -> dict[Relation, psycopg.Error]:
        """Lock all of ``tables`` at once, until :meth:`unlock`; return those that cannot be.

        None is held while another is waited for. No snapshot is taken before all are locked.
        """
        lockable = [table for table in tables if table.kind in "rpv"]
        closed: dict[Relation, psycopg.Error] = {}
        self._session.execute(_BEGIN)
        for last in turns(self._wait):
            closed = self._lock_at_once(lockable)
            held = [e for e in closed.values() if isinstance(e, psycopg.errors.LockNotAvailable)]
            if last or not held:
                break
            self._session.execute(_BACK)
        return closed

    def _lock_at_once(self, tables: list[Relation]) -> dict[Relation, psycopg.Error]:
        """Lock ``tables`` by one statement, which holds them for the shortest time, or one by one.

        Return those that are not locked.
        """
        closed: dict[Relation, psycopg.Error] = {}
        with suppress(*_CLOSED), self._session.transaction():
            if tables:
                _lock(self._session, *tables)
            return closed
        for table in tables:
            try:
                with self._session.transaction():
                    _lock(self._session, table)
            except _CLOSED as error:
                # Of a view whose owner may only read columns, nothing can be locked.
                refused = isinstance(error, psycopg.errors.InsufficientPrivilege)
                if table.kind != "v" or not refused:
                    closed[table] = error
        return closed

    def unlock(self, shapes: Iterable[TableShape]) -> None:
        """Remember the tables as they are, and let go of them."""
        self._files = dict(self._session.execute(_FILES).fetchall())
        self._shapes = {(each.relation.schema, each.relation.name): each for each in shapes}
        self._session.execute(_END)

    @contextmanager
    def reading(self, session: psycopg.Connection[Any], plan: TablePlan) -> Iterator[None]:
        """Hold a table still for one read by ``session``, which sees the snapshot.

        Raises Failure: MovedError if the table is not what was planned.
        """
        shape = self._shapes[plan.source.schema, plan.source.name]
        try:
            try:
                session.execute(_BEGIN)
                self._lock_again(session, shape.relation)
                if shape.relation.kind == "v":  # which may read days in the zone of their users
                    session.execute("SET LOCAL TimeZone TO DEFAULT")
                self._expect_same(session, plan, shape)
            except psycopg.errors.UndefinedTable as error:
                raise _moved(plan) from error
            except psycopg.Error as error:
                raise from_postgres(error, side=self._side, table=str(plan.source)) from error
            yield
        finally:
            with suppress(psycopg.Error):  # a session that was lost holds nothing
                session.execute(_END)

    def _lock_again(self, session: psycopg.Connection[Any], table: Relation) -> None:
        if table.kind not in "rpv":
            return
        for last in turns(self._wait):
            try:
                _lock(session, table)
                return
            except psycopg.errors.LockNotAvailable:
                if last:
                    raise
                session.execute(_BACK)
            except psycopg.errors.InsufficientPrivilege:
                if table.kind != "v":
                    raise
                session.execute(_BACK)
                return

    def _expect_same(
        self, session: psycopg.Connection[Any], plan: TablePlan, shape: TableShape
    ) -> None:
        table, leaves = shape.relation, {leaf.oid for leaf in shape.origin.leaves}
        if table.kind not in "rpv":
            return
        alone = table.kind == "r" and leaves == {table.oid}
        query = session.execute(_FILE, [table.oid]) if alone else session.execute(_FILES)
        files: dict[int, int] = dict(query.fetchall())
        # The plan's own condition leaves out the rows of leaves that joined since.
        known = {oid for oid in files if oid in self._files or not plan.source.leaves}
        moved = [oid for oid in known if files[oid] != self._files.get(oid)]
        if moved or leaves - files.keys() or _columns(session, plan) != _expected(plan, shape):
            raise _moved(plan)


def _moved(plan: TablePlan) -> MovedError:
    return MovedError(
        f"table {plan.source}: expected it as it was when the run began, found it changed since",
        hint="Run again: what is there now is then read.",
        transient=True,
    )


def _lock(session: psycopg.Connection[Any], *tables: Relation) -> None:
    names = sql.SQL(", ").join(sql.Identifier(table.schema, table.name) for table in tables)
    session.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT").format(names))


def _columns(session: psycopg.Connection[Any], plan: TablePlan) -> list[tuple[int, int]]:
    """Return table and number of each column that the plan's names stand for now."""
    names = listed(plan.target.names)
    table = sql.Identifier(plan.source.schema, plan.source.name)
    try:
        answer = session.execute(sql.SQL("SELECT {} FROM {} LIMIT 0").format(names, table))
    except psycopg.errors.UndefinedColumn:
        return [(0, 0)]
    found = answer.pgresult
    return [(found.ftable(n), found.ftablecol(n)) for n in range(found.nfields)] if found else []


def _expected(plan: TablePlan, shape: TableShape) -> list[tuple[int, int]]:
    numbers = {column.name: column.number for column in shape.columns}
    return [(shape.relation.oid, numbers[name]) for name in plan.target.names]
