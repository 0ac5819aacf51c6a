"""What in the warehouse is ours to replace, drop or alter: only what ops says, by its oid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from frame.failure import Failure
from ingest import names
from ingest.errors import from_postgres

if TYPE_CHECKING:
    from collections.abc import Iterable

TRIES = "try_"
"""What the names of pipelines begin with that ``ingest try`` loads samples as."""
_KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialised view",
    "f": "foreign table",
    "S": "sequence",
    "i": "index",
    "I": "index",
    "c": "type",
}
_THERE: LiteralString = """
    SELECT c.relname::text, c.oid::bigint, c.relkind::text, pg_catalog.pg_get_userbyid(c.relowner)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = ANY(%s)
"""
_OTHERS: LiteralString = """
    SELECT DISTINCT s.pipeline FROM ops.state s
    JOIN pg_catalog.pg_class c ON c.oid = to_regclass(s."table")
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND s.pipeline <> %s ORDER BY 1
"""
_BECOME = sql.SQL("UPDATE ops.state SET pipeline = {} WHERE pipeline = {};")


def strangers(
    connection: psycopg.Connection[Any], schema: str, relations: Iterable[str], ours: Iterable[int]
) -> dict[str, Failure]:
    """Return an error for each of ``relations`` in ``schema`` whose oid is not among ``ours``."""
    rows = connection.execute(_THERE, [schema, list(relations)]).fetchall()
    known = {*ours}
    return {
        name: Failure(
            f"warehouse: {_KINDS.get(kind, 'relation')} {names.display(schema, name)}: expected"
            f" nothing of that name but what ingest made, found one that {owner} owns and ingest"
            " does not know",
            hint="Rename it, or move it into another schema, then run again: ingest replaces only"
            " what it made itself.",
        )
        for name, oid, kind, owner in rows
        if oid not in known
    }


def expect_alone(connection: psycopg.Connection[Any], schema: str, pipeline: str) -> None:
    """Raise Failure if another pipeline than ``pipeline`` has published into ``schema``."""
    try:
        ((state,),) = connection.execute("SELECT to_regclass('ops.state')").fetchall()
        if state is None:
            return
        others = [name for (name,) in connection.execute(_OTHERS, [schema, pipeline])]
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table="ops.*") from error
    if others and (pipeline.startswith(TRIES) or all(n.startswith(TRIES) for n in others)):
        raise Failure(
            f"schema {schema}: expected tables of the pipeline {pipeline} alone, found those of"
            f" {', '.join(others)}",
            hint=f"Samples and runs do not mix: name another database, or drop the schema {schema}"
            " there if it holds a sample.",
        )
    if others:
        raise Failure(
            f"schema {schema}: expected tables of the pipeline {pipeline} alone, found those of"
            f" {', '.join(others)}",
            hint="Give each file a schema of its own; if this one had that name before, its tables"
            f" become its own by: {_BECOME.format(pipeline, others[0]).as_string()}",
        )
