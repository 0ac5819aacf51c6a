"""Lands tables in the staging schema, which no reader sees, several at a time."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, LiteralString, cast

import psycopg
from psycopg import sql

from ingest import deletes, extract, keys, loads, names, ownership, transfer
from ingest.errors import ConflictError, said, told
from ingest.keys import Found
from ingest.limits import Throttle
from ingest.plan import TablePlan  # noqa: TC001 - pydantic reads it
from ingest.relations import keys_name, listed, staging_keys, staging_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frame.failure import Failure
    from ingest.extract import Source
    from ingest.limits import Limits
    from ingest.workers import Part, Sessions

log = logging.getLogger(__name__)

# A COPY keeps a core busy at either end. Where there are no cores for more, one COPY of a table,
# frozen and with nobody else who extends it, takes 10.5 s for what four of ranges take 11.9 s.
# Not every system says which of its cores are ours.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
RANGES = CORES // 2
# A range has this many blocks of 8 kB or more, 16 MB, and a table of eight is read in ranges: small
# ones, so that all sessions end at once.
RANGE_BLOCKS = 2048
# Tables with names almost as long as they may be are made one at a time: sessions that do so at
# once may choose the same name, which is cut, for the types of their arrays.
_LONG_NAME = 60
_CREATING = threading.Lock()
# Until it is published: autovacuum would read the table while it fills, and the key then waits for
# it, 2 s of 12 seen with 6 M rows.
UNTENDED: tuple[LiteralString, ...] = ("autovacuum_enabled", "toast.autovacuum_enabled")
# Keys are sorted in memory up to this size per table; the server's default of 64 MB makes an
# index of millions of rows take half as long again.
_SORT_MEMORY = "256MB"
# What of a pipeline's staging is ours, and that a table there is.
_OURS: LiteralString = """
    SELECT coalesce(array_agg(oid::bigint), '{}')
    FROM ops.staging, unnest(oids) AS oid WHERE schema = %s
"""
_CREATED: LiteralString = """
    INSERT INTO ops.staging (schema, name, oids) VALUES (%s, %s, ARRAY[to_regclass(%s)::oid])
    ON CONFLICT (schema, name) DO UPDATE SET oids = excluded.oids, since = clock_timestamp(),
      run_id = NULL, load_id = NULL, checked = false, staged = NULL
"""


@dataclass(frozen=True)
class Staged:
    """A copy of one table, or of what is new in it, in staging.

    ``load_id`` stands in the staging table's comment and tells this copy from any other;
    ``rows`` and ``bytes`` were read; ``known`` of the rows were published before, and an append has
    left them out; ``cursor_value`` is the newest that a next run starts from; ``keys`` tells
    whether all of the source's keys were staged beside it, to find deletes; ``frozen`` whether
    transactions that are older than the rows see them, too.
    """

    plan: TablePlan
    load_id: str
    rows: int
    bytes: int
    seconds: float
    cursor_value: str | None = None
    keys: bool = False
    known: int = 0
    frozen: bool = True

    def __str__(self) -> str:
        return str(self.plan)


def parts(plan: TablePlan, jobs: int) -> tuple[Part, ...]:
    """Return the ranges of blocks in which ``jobs`` sessions read a table, None for all of it.

    In ranges only as many sessions read as there are two cores for each.
    """
    beside, blocks = min(jobs, RANGES), plan.source.blocks
    if not loads.of(plan).replaces or beside <= 1 or blocks < 8 * RANGE_BLOCKS:
        return (None,)
    count = min(blocks // RANGE_BLOCKS, 16 * beside)
    edges = [blocks * place // count for place in range(count)]
    return tuple(zip(edges, [*edges[1:], None], strict=True))


class Reading:
    """How the works of one run read: from which source, within which limits.

    ``jobs`` sessions do so beside each other; ``progress`` hears of each table's bytes.
    """

    def __init__(
        self, source: Source, limits: Limits, jobs: int, progress: Callable[[str, int], None]
    ) -> None:
        self.source, self.limits, self.jobs = source, limits, jobs
        self._progress = progress
        self._throttle = Throttle(limits.rate)

    def carried(self, table: str, size: int) -> None:
        """Count ``size`` bytes of a table, and wait where they came too soon."""
        self._progress(table, size)
        self._throttle.let_by(size)


class TableWork:
    """The staging of one table: its parts, then its key, cursor and keys of deletes."""

    def __init__(self, plan: TablePlan, reading: Reading) -> None:
        self.plan = plan
        self.size = plan.source.bytes if plan.read.condition is None else 0
        self.parts: Sequence[Part] = parts(plan, reading.jobs)
        # Whether the table is made before its rows come, and not with them.
        self._first = len(self.parts) > 1 or len(plan.target.name.encode()) > _LONG_NAME
        self.load_id = uuid.uuid4().hex
        self.staged: Staged | None = None
        self._reading = reading
        self._source = reading.source
        self._rows = 0
        self._bytes = 0
        self._began = monotonic()
        self._lock = threading.Lock()

    def begin(self, sessions: Sessions) -> None:
        """Create the staging table, so that every session sees it."""
        self._reading.limits.expect_open(self._source.side)
        self._began = monotonic()
        if self._first:
            with told("warehouse", self.plan), _CREATING, sessions.target.transaction():
                _create(sessions.target, self.plan)

    def run(self, sessions: Sessions, part: Part) -> None:
        """Copy one part; a table of one part is created, filled and keyed in one transaction."""
        if self._first:
            self._copy(sessions, part)
            return
        with told("warehouse", self.plan), sessions.target.transaction():
            _create(sessions.target, self.plan)
            self._copy(sessions, part, freeze=True)
            _finish(sessions.target, self.plan)

    def end(self, sessions: Sessions) -> None:
        """Build the key of a table of many parts, and note what publishing must know."""
        load, source, found = loads.of(self.plan), self._source, Found.NONE
        with told("warehouse", self.plan):
            if self._first:
                with sessions.target.transaction():
                    _finish(sessions.target, self.plan)
            value = _cursor_value(sessions.target, self.plan, source.now)
            known = load.settle(sessions.target, self.plan)
            if not load.replaces:
                with source.fence.reading(sessions.source, self.plan):
                    found = load.compare(sessions, self.plan, source.side)
            if found is Found.MISSED_ROWS:
                self._start_over(sessions)
                return
            # Last of all: a crash that takes a piece of what was staged takes this with it.
            _mark(sessions.target, self.plan, self.load_id)
        self.staged = Staged(
            self.plan,
            self.load_id,
            self._rows,
            self._bytes,
            round(monotonic() - self._began, 3),
            value,
            keys=found is Found.DELETES,
            known=known,
            frozen=not (self._first or _may_carry_over(self.plan)),
        )
        log.info(
            "staged %s: %s load (%s), %d rows, %.3f s",
            self.plan, self.plan.read.load, self.plan.read.reason, self._rows, self.staged.seconds,
        )  # fmt: skip

    def _start_over(self, sessions: Sessions) -> None:
        """Load the whole table: rows came that its cursor does not show."""
        self.plan = self.plan.started_over()
        self._first = False
        self._rows = self._bytes = 0
        self.run(sessions, None)
        self.end(sessions)

    def _copy(self, sessions: Sessions, part: Part, *, freeze: bool = False) -> None:
        plan, source = self.plan, self._source
        into = _copy_in(plan, freeze=freeze)
        with source.fence.reading(sessions.source, plan):
            out = extract.copy_out(plan, part)
            moved = transfer.move(
                transfer.End(sessions.source, out, source.side, str(plan.source)),
                transfer.End(sessions.target, into, "warehouse", str(plan)),
                lambda size: self._reading.carried(str(plan), size),
            )
        with self._lock:
            self._rows += moved.rows
            self._bytes += moved.bytes


def drop(connection: psycopg.Connection[Any], plan: TablePlan) -> None:
    """Remove what is in staging of a table."""
    connection.execute(
        sql.SQL("DROP TABLE IF EXISTS {}, {} CASCADE").format(
            staging_table(plan), staging_keys(plan)
        )
    )


def find(connection: psycopg.Connection[Any], plan: TablePlan) -> str | None:
    """Return the load_id of what is in staging of a table, None if there is nothing."""
    ((found,),) = connection.execute(
        "SELECT pg_catalog.obj_description(to_regclass(%s), 'pg_class')",
        [staging_table(plan).as_string()],
    ).fetchall()
    return cast("str | None", found)


def expect(connection: psycopg.Connection[Any], staged: Staged) -> None:
    """Raise ConflictError unless staging holds exactly what ``staged`` says."""
    if find(connection, staged.plan) != staged.load_id:
        raise ConflictError(
            f"table {staged}: expected the copy that this run made in"
            f" {staged.plan.target.staging}, found another or none",
            hint="Another run of the pipeline got in between: run again when it has ended.",
        )


def _create(connection: psycopg.Connection[Any], plan: TablePlan) -> None:
    name, target = staging_table(plan), plan.target
    columns = [
        sql.SQL("{} {} NOT NULL" if column.not_null else "{} {}").format(
            sql.Identifier(column.name), sql.SQL(column.lands)
        )
        for column in target.columns
    ]
    if _may_carry_over(plan):
        columns += [
            sql.SQL("{} timestamptz").format(sql.Identifier(column))
            for column in deletes.of(plan).columns
        ]
    ((ours,),) = connection.execute(_OURS, [target.schema]).fetchall()
    used = [target.name, keys_name(plan)]
    for error in ownership.strangers(connection, target.staging, used, ours).values():
        raise error
    drop(connection, plan)
    # Never UNLOGGED: after a crash it would be empty, and its comment still there.
    connection.execute(
        sql.SQL("CREATE TABLE {} ({}) WITH ({})").format(
            name,
            sql.SQL(", ").join(columns),
            sql.SQL(", ").join(sql.SQL("{} = false").format(sql.SQL(each)) for each in UNTENDED),
        )
    )
    connection.execute(_CREATED, [target.schema, target.name, name.as_string()])


def _may_carry_over(plan: TablePlan) -> bool:
    """Return whether rows that left the source may come from the published table."""
    return loads.of(plan).replaces and bool(deletes.of(plan).columns)


def _mark(connection: psycopg.Connection[Any], plan: TablePlan, load_id: str) -> None:
    connection.execute(
        sql.SQL("COMMENT ON TABLE {} IS {}").format(staging_table(plan), sql.Literal(load_id))
    )


def _copy_in(plan: TablePlan, *, freeze: bool) -> sql.Composed:
    columns = plan.target.names
    return sql.SQL("COPY {}{} FROM STDIN (FORMAT {}{})").format(
        staging_table(plan),
        sql.SQL(" ({})").format(listed(columns)) if columns else sql.SQL(""),
        sql.SQL(plan.read.format),
        sql.SQL(", FREEZE" if freeze else ""),
    )


def _finish(connection: psycopg.Connection[Any], plan: TablePlan) -> None:
    load = loads.of(plan)
    if load.replaces:
        deletes.of(plan).carry_over(connection, plan)
    if load.is_keyed(plan):
        connection.execute("SELECT set_config('maintenance_work_mem', %s, true)", [_SORT_MEMORY])
        # A name that is no table's: PostgreSQL's own choice may be, where names are cut.
        constraint = sql.Identifier(names.suffixed(plan.target.name, "~key"))
        statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY ({})").format(
            staging_table(plan), constraint, listed(plan.target.key)
        )
        try:
            with connection.transaction():
                connection.execute(statement)
        except (psycopg.errors.UniqueViolation, psycopg.errors.NotNullViolation) as error:
            raise key_error(connection, plan, error) from error
    if load.replaces or plan.compares_keys:  # merging by key needs no statistics
        connection.execute(sql.SQL("ANALYZE {}").format(staging_table(plan)))


def key_error(
    connection: psycopg.Connection[Any], plan: TablePlan, error: psycopg.Error
) -> Failure:
    """Return the error that names the key and some of the values that break it."""
    said(error)  # what it goes on to say are values
    what, which = "keys that come more than once", sql.SQL("GROUP BY {} HAVING count(*) > 1")
    if isinstance(error, psycopg.errors.NotNullViolation):
        what, which = "rows whose key is NULL", sql.SQL("WHERE ROW({}) IS NOT NULL IS FALSE")
    query = sql.SQL("SELECT {} FROM {} {} LIMIT 3").format(
        names.sample(map(sql.Identifier, plan.target.key)),
        staging_table(plan),
        which.format(listed(plan.target.key)),
    )
    return keys.no_key(plan, what, [str(row) for (row,) in connection.execute(query)])


def _cursor_value(connection: psycopg.Connection[Any], plan: TablePlan, now: str) -> str | None:
    cursor, since = plan.read.cursor, plan.read.since
    if cursor is None or not plan.read.moves_cursor:
        return since
    ((value,),) = connection.execute(
        sql.SQL("SELECT ({})::text FROM {}").format(cursor.newest(now, since), staging_table(plan))
    ).fetchall()
    return cast("str | None", value)
