"""What a run writes into ``ops``: how it went, in which steps, and what checks found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg

from ingest import kept, ops
from ingest.errors import from_postgres

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frame.failure import Failure
    from ingest.plan import TablePlan
    from ingest.staging import Staged

_RECENT_ROWS: LiteralString = """
    SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY rows) FROM (
      SELECT rows FROM ops.tables
      WHERE "table" = %(table)s AND status = 'published' AND rows IS NOT NULL
        AND (pipeline, run_id) <> (%(pipeline)s, %(run_id)s)
      ORDER BY finished_at DESC LIMIT 7
    ) recent
"""
_BEGIN: LiteralString = """
    INSERT INTO ops.runs AS r (pipeline, run_id) VALUES (%(pipeline)s, %(run_id)s)
    ON CONFLICT (pipeline, run_id) DO UPDATE SET status = 'running', finished_at = NULL,
      attempts = r.attempts + 1, step = NULL, "table" = NULL, error = NULL, hint = NULL
"""
_KILLED: LiteralString = """
    UPDATE ops.runs SET status = 'failed', finished_at = clock_timestamp(),
      error = 'the run was killed, or its machine lost'
    WHERE pipeline = %(pipeline)s AND run_id <> %(run_id)s AND status = 'running'
"""
# A crash of the warehouse may have taken the row of the run's beginning.
_END: LiteralString = """
    INSERT INTO ops.runs AS r (pipeline, run_id, status, step, "table", error, hint, finished_at)
    SELECT %(pipeline)s, %(run_id)s,
      CASE WHEN coalesce(f.error, %(error)s::text) IS NULL THEN 'success' ELSE 'failed' END,
      f.step, f."table", coalesce(f.error, %(error)s::text),
      CASE WHEN f.error IS NULL THEN %(hint)s::text ELSE f.hint END, clock_timestamp()
    FROM (SELECT) one LEFT JOIN LATERAL (
      SELECT t.step, t."table", t.error, t.hint FROM ops.tables t
      WHERE (t.pipeline, t.run_id, t.status) = (%(pipeline)s, %(run_id)s, 'failed')
      ORDER BY t.finished_at LIMIT 1
    ) f ON true
    ON CONFLICT (pipeline, run_id) DO UPDATE SET finished_at = excluded.finished_at,
      (status, step, "table", error, hint) = (
        SELECT CASE WHEN fault.error IS NULL THEN 'success' ELSE 'failed' END,
          fault.step, fault."table", fault.error, fault.hint
        FROM (SELECT excluded.step, excluded."table", excluded.error, excluded.hint
              WHERE excluded.error IS NOT NULL
              UNION ALL SELECT r.step, NULL, r.error, r.hint  -- what stopped the run as a whole
              WHERE r.step = 'extract' AND r."table" IS NULL AND excluded.error IS NULL
              UNION ALL SELECT NULL, NULL, NULL, NULL
              LIMIT 1) fault)
"""
_STOPPED: LiteralString = """
    INSERT INTO ops.runs AS r (pipeline, run_id, status, step, error, hint, finished_at)
    VALUES (%(pipeline)s, %(run_id)s, 'failed', %(step)s, %(error)s, %(hint)s, clock_timestamp())
    ON CONFLICT (pipeline, run_id) DO UPDATE SET status = 'failed', step = excluded.step,
      error = excluded.error, hint = excluded.hint, finished_at = excluded.finished_at
"""
_PUBLISHED_BEFORE: LiteralString = """
    SELECT t."table", t.rows FROM ops.tables t JOIN ops.runs r USING (pipeline, run_id)
    WHERE (t.pipeline, t.run_id, t.status) = (%(pipeline)s, %(run_id)s, 'published')
      AND r.status <> 'success' ORDER BY 1
"""
# Written again after a lost answer, it still tells of the recovery.
_ENDED: LiteralString = """
    INSERT INTO ops.pipelines AS p (pipeline, status, run_id)
    SELECT pipeline, status, run_id FROM ops.runs
    WHERE (pipeline, run_id) = (%(pipeline)s, %(run_id)s)
    ON CONFLICT (pipeline) DO UPDATE SET status = excluded.status, run_id = excluded.run_id,
      finished_at = clock_timestamp(), recovered = CASE
        WHEN (p.status, p.run_id) = (excluded.status, excluded.run_id) THEN p.recovered
        ELSE p.status = 'failed' AND excluded.status = 'success' END
    RETURNING p.recovered
"""
_STAGED: LiteralString = """
    INSERT INTO ops.tables (pipeline, run_id, "table", source, load, reason, status, rows_read,
      bytes, seconds, started_at)
    VALUES (%(pipeline)s, %(run_id)s, %(table)s, %(source)s, %(load)s, %(reason)s, 'staged',
      %(rows)s, %(bytes)s, %(seconds)s, clock_timestamp() - make_interval(secs => %(seconds)s))
    ON CONFLICT (pipeline, run_id, "table") DO UPDATE SET load = excluded.load,
      reason = excluded.reason, status = 'staged', step = NULL, error = NULL, hint = NULL,
      rows_read = excluded.rows_read, bytes = excluded.bytes, seconds = excluded.seconds,
      started_at = excluded.started_at, finished_at = NULL, inserted = NULL, updated = NULL,
      deleted = NULL, rows = NULL, cursor_value = NULL
"""
_FAILED: LiteralString = """
    INSERT INTO ops.tables (pipeline, run_id, "table", source, load, reason, status, step, error,
      hint, finished_at)
    VALUES (%(pipeline)s, %(run_id)s, %(table)s, %(source)s, %(load)s, %(reason)s, 'failed',
      %(step)s, %(error)s, %(hint)s, clock_timestamp())
    ON CONFLICT (pipeline, run_id, "table") DO UPDATE SET status = 'failed', step = excluded.step,
      error = excluded.error, hint = excluded.hint, finished_at = excluded.finished_at
"""
_PUBLISHED: LiteralString = """
    UPDATE ops.tables SET status = 'published', step = NULL, error = NULL, hint = NULL,
      finished_at = clock_timestamp(),
      seconds = extract(epoch FROM clock_timestamp() - started_at), inserted = %(inserted)s,
      updated = %(updated)s, deleted = %(deleted)s, rows = %(rows)s,
      cursor_value = %(cursor_value)s
    WHERE (pipeline, run_id, "table") = (%(pipeline)s, %(run_id)s, %(table)s)
"""


@dataclass(frozen=True)
class Outcome:
    """What one check expected and found; ``samples`` are keys of rows that break it."""

    check: str
    passed: bool
    expected: str
    found: str
    samples: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = f" (for example {', '.join(self.samples)})" if self.samples else ""
        return f"{self.check}: expected {self.expected}, found {self.found}{rows}"


@dataclass(frozen=True)
class Counts:
    """Rows that one load inserted, updated and deleted; ``rows`` are there now."""

    inserted: int
    updated: int
    deleted: int
    rows: int


@dataclass(frozen=True)
class Journal:
    """The rows of one run of one pipeline, by a session of the warehouse. Raises Failure."""

    connection: psycopg.Connection[Any]
    pipeline: str
    run_id: str

    def begin(self) -> None:
        """Write that the run has begun, or begun again, and forget what an earlier try left.

        Who begins holds the pipeline's lock, so another run that has not ended was killed. What is
        older than ``ops.KEPT`` goes; the state and the shapes stay.
        """
        self.execute(_KILLED)
        for statement in ops.FORGET:
            self.execute(statement, kept=ops.KEPT)
        self.execute(_BEGIN)
        self.execute(
            "DELETE FROM ops.tables WHERE (pipeline, run_id) = (%(pipeline)s, %(run_id)s)"
            " AND status <> 'published'"
        )

    def end(self, error: Failure | None = None) -> None:
        """Write how the run ended: failed if it or one of its tables did, with the first error.

        ``error`` is one that could not be written when it came.
        """
        self.execute(_END, error=error and error.message, hint=error and error.hint)

    def stopped(self, step: str, error: Failure) -> None:
        """Write what stopped the run as a whole."""
        self.execute(_STOPPED, step=step, error=error.message, hint=error.hint)

    def ended(self) -> bool:
        """Make the run, which has ended, the pipeline's last one; return whether it recovered.

        It did if it went well and the last one before had failed, be it this run's earlier try.
        """
        return bool(self.execute(_ENDED).fetchall()[0][0])

    def published_before(self) -> dict[str, int]:
        """Return the rows of each table that an earlier try of this run published.

        There is none if that try ended well: whoever asks for such a run again wants all of it.
        """
        return {table: int(rows) for table, rows in self.execute(_PUBLISHED_BEFORE)}

    def recent_rows(self, table: str) -> int | None:
        """Return the median of rows after the last 7 published loads, None if there was none."""
        ((found,),) = self.execute(_RECENT_ROWS, table=table).fetchall()
        return None if found is None else int(found)

    def staged(self, staged: Staged) -> None:
        """Write that a table is in staging."""
        plan = staged.plan
        try:
            kept.record(self.connection, self.run_id, staged)
        except psycopg.Error as error:
            raise from_postgres(error, side="warehouse", table="ops.staging") from error
        self.execute(
            _STAGED,
            table=str(plan),
            source=str(plan.source),
            load=plan.read.load,
            reason=plan.read.reason,
            rows=staged.rows,
            bytes=staged.bytes,
            seconds=staged.seconds,
        )

    def taken_on(self, staged: Staged) -> None:
        """Write that this run publishes what an earlier one staged and checked."""
        self.staged(staged)
        kept.checked(self.connection, staged)

    def failed(self, table: str, step: str, error: Failure, plan: TablePlan | None = None) -> None:
        """Write that a table failed in ``step``; it may have failed before it had a plan."""
        self.execute(
            _FAILED,
            table=table,
            source=str(plan.source) if plan else "",
            load=plan.read.load if plan else "",
            reason=plan.read.reason if plan else "",
            step=step,
            error=error.message,
            hint=error.hint,
        )

    def checked(self, table: str, outcomes: Sequence[Outcome]) -> None:
        """Write what the checks of a table found, in place of what an earlier try did."""
        key = [self.pipeline, self.run_id, table]
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.execute(
                'DELETE FROM ops.checks WHERE (pipeline, run_id, "table") = (%s, %s, %s)', key
            )
            cursor.executemany(
                'INSERT INTO ops.checks (pipeline, run_id, "table", "check", passed, expected,'
                " found, samples) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    [*key, each.check, each.passed, each.expected, each.found, list(each.samples)]
                    for each in outcomes
                ],
            )
            if all(outcome.passed for outcome in outcomes):
                cursor.execute(
                    "UPDATE ops.tables SET status = 'checked'"
                    ' WHERE (pipeline, run_id, "table") = (%s, %s, %s)',
                    key,
                )

    def published(self, staged: Staged, counts: Counts) -> None:
        """Write what a table's load changed; call it in the transaction that publishes."""
        self.execute(
            _PUBLISHED,
            table=str(staged),
            inserted=counts.inserted,
            updated=counts.updated,
            deleted=counts.deleted,
            rows=counts.rows,
            cursor_value=staged.cursor_value,
        )
        kept.published(self.connection, staged)

    def unfit(self) -> list[str]:
        """Return the tables that failed in this run before they were to be published."""
        rows = self.execute(
            'SELECT "table" FROM ops.tables WHERE (pipeline, run_id, status)'
            " = (%(pipeline)s, %(run_id)s, 'failed') AND step <> 'publish' ORDER BY 1"
        )
        return [table for (table,) in rows]

    def counts(self, table: str) -> Counts:
        """Return what this run has published of ``table``."""
        row = self.execute(
            "SELECT inserted, updated, deleted, rows FROM ops.tables"
            ' WHERE (pipeline, run_id, "table") = (%(pipeline)s, %(run_id)s, %(table)s)',
            table=table,
        ).fetchone()
        return Counts(*(value or 0 for value in row or (0, 0, 0, 0)))

    def execute(self, query: LiteralString, **values: object) -> psycopg.Cursor[Any]:
        """Run a statement on ``ops``; it may name the pipeline and its run, beside ``values``."""
        key = {"pipeline": self.pipeline, "run_id": self.run_id}
        try:
            return self.connection.execute(query, key | values)
        except psycopg.Error as error:
            raise from_postgres(error, side="warehouse", table="ops.*") from error
