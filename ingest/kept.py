"""What lies in staging, by ``ops.staging``: which tables there are ours, and what waits to go live.

A copy that was staged and checked, and could not be published in time, is kept for ``ingest
publish``; what nobody will publish goes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Json
from pydantic import TypeAdapter, ValidationError

from ingest import names, selection
from ingest.errors import from_postgres
from ingest.staging import Staged

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ingest.contract import Pipeline

log = logging.getLogger(__name__)
_NOT_FILLED = "it was not filled to its end"
# Transactions of this database that were open when rows came that are not frozen: their snapshots
# do not show them.
_RECORD: LiteralString = """
    UPDATE ops.staging SET run_id = %(run_id)s, load_id = %(load_id)s, staged = %(staged)s,
      checked = false, older = CASE WHEN %(frozen)s THEN '{}' ELSE ARRAY(
        SELECT l.virtualtransaction FROM pg_catalog.pg_locks l
        JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'virtualxid' AND a.datname = pg_catalog.current_database()
          AND l.pid <> pg_catalog.pg_backend_pid()) END
    WHERE (schema, name) = (%(schema)s, %(name)s)
"""
_LISTED: LiteralString = """
    SELECT schema, name, since, run_id, load_id, checked, staged FROM ops.staging
    WHERE schema = %s ORDER BY name
"""
_TABLES: LiteralString = """
    SELECT c.oid::regclass::text
    FROM ops.staging k, pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n
      ON n.oid = c.relnamespace
    WHERE (k.schema, k.name) = (%s, %s) AND c.oid = ANY(k.oids) AND n.nspname = %s
    ORDER BY 1
"""


@dataclass(frozen=True)
class Kept:
    """What is in staging of one table, since when; without ``staged`` nobody can publish it."""

    schema: str
    name: str
    since: datetime
    run_id: str | None
    checked: bool
    staged: Staged | None

    def __str__(self) -> str:
        return names.display(self.schema, self.name)


@dataclass(frozen=True)
class Removed:
    """What was removed from staging, and why."""

    table: str
    rows: int | None
    since: datetime
    reason: str


@cache
def _format() -> TypeAdapter[Staged]:
    return TypeAdapter(Staged)


def record(connection: psycopg.Connection[Any], run_id: str, staged: Staged) -> None:
    """Write what is in staging of a table, for whoever publishes it. Raises psycopg.Error."""
    target = staged.plan.target
    connection.execute(
        _RECORD,
        {
            "run_id": run_id,
            "load_id": staged.load_id,
            "staged": Json(_format().dump_python(staged, mode="json")),
            "frozen": staged.frozen,
            "schema": target.schema,
            "name": target.name,
        },
    )


def checked(connection: psycopg.Connection[Any], staged: Staged) -> None:
    """Write that a staged table passed its checks. Raises psycopg.Error."""
    connection.execute(
        "UPDATE ops.staging SET checked = true WHERE (schema, name, load_id) = (%s, %s, %s)",
        [staged.plan.target.schema, staged.plan.target.name, staged.load_id],
    )


def published(connection: psycopg.Connection[Any], staged: Staged) -> None:
    """Write that nothing of a table is in staging any more. Raises psycopg.Error."""
    connection.execute(
        "DELETE FROM ops.staging WHERE (schema, name, load_id) = (%s, %s, %s)",
        [staged.plan.target.schema, staged.plan.target.name, staged.load_id],
    )


def listed(connection: psycopg.Connection[Any], pipeline: Pipeline) -> list[Kept]:
    """Return what is in a pipeline's staging, by name. Raises Failure."""
    try:
        rows = connection.execute(_LISTED, [pipeline.published_schema]).fetchall()
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table="ops.staging") from error
    return [
        Kept(schema, name, since, run_id, passed, _staged(load_id, staged))
        for schema, name, since, run_id, load_id, passed, staged in rows
    ]


def useless(one: Kept, pipeline: Pipeline, now: datetime) -> str:
    """Return why nobody is to publish ``one``, "" if somebody may; decided without any database."""
    if one.staged is None:
        return _NOT_FILLED
    plan = one.staged.plan
    keep = pipeline.publish.keep
    if now - one.since > keep:
        return f"it is older than {keep}"
    rule = selection.rule(pipeline, plan.source.schema, plan.source.name)
    if rule is None:
        return "its table is not in the pipeline file any more"
    withheld = [
        column.name
        for column in plan.target.shape.columns
        if rule.columns.leaves_out(column.name)
        or (column.name in rule.columns.hash and not column.hashed)
    ]
    return f"the file withholds {', '.join(withheld)} now" if withheld else ""


def tidy(
    connection: psycopg.Connection[Any], pipeline: Pipeline, why: Callable[[Kept], str]
) -> list[Removed]:
    """Remove what is in a pipeline's staging and ``why`` has a reason for; return what went.

    What somebody else holds stays for the next time. Raises Failure.
    """
    removed: list[Removed] = []
    for one in listed(connection, pipeline):
        if not (reason := why(one)):
            continue
        try:
            _remove(connection, one, pipeline.staging_schema)
        except psycopg.errors.LockNotAvailable:
            log.warning("%s stays in staging: another session holds it", one)
            continue
        except psycopg.Error as error:
            raise from_postgres(error, side="warehouse", table=str(one)) from error
        log.info("removed %s from staging: %s", one, reason)
        rows = one.staged.rows if one.staged else None
        removed.append(Removed(str(one), rows, one.since, reason))
    return removed


def _remove(connection: psycopg.Connection[Any], one: Kept, schema: str) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '1s'")
        for (table,) in connection.execute(_TABLES, [one.schema, one.name, schema]).fetchall():
            connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.SQL(table)))
        connection.execute(
            "DELETE FROM ops.staging WHERE (schema, name) = (%s, %s)", [one.schema, one.name]
        )


def _staged(load_id: str | None, value: object) -> Staged | None:
    try:
        return None if load_id is None else _format().validate_python(value)
    except ValidationError:  # of an older release: the next run reads it again
        return None
