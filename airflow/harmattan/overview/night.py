"""How the pipelines' last runs went, as ``ops`` in the warehouse has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row

from frame import refusal
from frame.database import libpq
from frame.failure import Failure
from ingest.errors import from_postgres

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

CONNECT_SECONDS = 3
STATEMENT_SECONDS = 3
MOST_PIPELINES, MOST_CHECKS, MOST_KEYS = 200, 100, 10

_PIPELINES: LiteralString = """
    WITH last AS (
      SELECT DISTINCT ON (pipeline) * FROM ops.runs ORDER BY pipeline, started_at DESC
    )
    SELECT r.pipeline, r.status, r.started_at, r.finished_at, r."table", r.error, r.hint,
           t.published, t.failed, t.rows
    FROM last r CROSS JOIN LATERAL (
      SELECT count(*) FILTER (WHERE t.status = 'published') AS published,
             count(*) FILTER (WHERE t.status = 'failed') AS failed,
             coalesce(sum(t.rows) FILTER (WHERE t.status = 'published'), 0)::bigint AS rows
      FROM ops.tables t WHERE (t.pipeline, t.run_id) = (r.pipeline, r.run_id)
    ) t
    ORDER BY r.status <> 'failed', r.pipeline LIMIT %(most)s
"""
_CHECKS: LiteralString = """
    WITH last AS (
      SELECT DISTINCT ON (pipeline) pipeline, run_id FROM ops.runs
      ORDER BY pipeline, started_at DESC
    )
    SELECT c.pipeline, c."table", c."check", c.expected, c.found, c.samples[1:%(keys)s] AS keys,
           cardinality(c.samples) AS breaking
    FROM ops.checks c JOIN last USING (pipeline, run_id)
    WHERE NOT c.passed ORDER BY c.pipeline, c."table", c."check" LIMIT %(most)s
"""


@dataclass(frozen=True)
class PipelineRun:
    """A pipeline's last run: ``rows`` are those that its published tables have after it.

    ``status`` is running, success or failed; ``error`` is that of its first fault, in ``table``.
    """

    pipeline: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    table: str | None
    error: str | None
    hint: str | None
    published: int
    failed: int
    rows: int


@dataclass(frozen=True)
class FailedCheck:
    """A check of a pipeline's last run; ``keys`` are the first of ``breaking`` that were kept."""

    pipeline: str
    table: str
    check: str
    expected: str
    found: str
    keys: list[str]
    breaking: int


@dataclass(frozen=True)
class Night:
    """The pipelines, those that failed first, and the checks that did not pass."""

    pipelines: tuple[PipelineRun, ...] = ()
    checks: tuple[FailedCheck, ...] = ()


Row = TypeVar("Row", PipelineRun, FailedCheck)


def newest(file: Path) -> Night:
    """Return the night, asked with the URI in ``file``. Raises Failure, which repeats no value."""
    try:
        parameters: dict[str, Any] = conninfo_to_dict(
            libpq(file.read_text()),
            application_name="airflow-webserver: Delivery",
            connect_timeout=CONNECT_SECONDS,
            options=f"-c statement_timeout={STATEMENT_SECONDS}s -c search_path=pg_catalog"
            " -c default_transaction_read_only=on",
        )
    except (OSError, ValueError, psycopg.ProgrammingError):  # it repeats the URI
        raise Failure(
            "warehouse: expected a URI of PostgreSQL in the file of its login, found none",
            "Write it to Vault as postgresql://role:password@host:5432/database, specials as %40.",
        ) from None
    try:
        connection = psycopg.connect(**parameters, autocommit=True)
    except (psycopg.Error, ValueError) as error:
        cause = refusal.why(error, parameters)
        raise Failure(
            f"warehouse: expected a connection, found {cause.words}",
            cause.hint
            or "See that the warehouse runs, and that the login's URI in Vault is right.",
        ) from None
    with connection:
        return Night(
            _rows(connection, PipelineRun, _PIPELINES, most=MOST_PIPELINES),
            _rows(connection, FailedCheck, _CHECKS, most=MOST_CHECKS, keys=MOST_KEYS),
        )


def _rows(
    connection: psycopg.Connection[Any], kind: type[Row], query: LiteralString, **values: int
) -> tuple[Row, ...]:
    try:
        with connection.transaction(), connection.cursor(row_factory=class_row(kind)) as cursor:
            return tuple(cursor.execute(query, values).fetchall())
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):  # nothing has run yet
        return ()
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table="ops.runs") from None
