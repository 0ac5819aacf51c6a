"""Alters columns of a published table that stays, with the views and policies that they are in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from frame.failure import Failure
from ingest import dependents, names
from ingest.errors import said
from ingest.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

_OID: LiteralString = "SELECT pg_catalog.to_regclass(%s)::oid::bigint"
# As "cannot alter type of a column used by a view or rule".
_REFUSED = (psycopg.errors.FeatureNotSupported, psycopg.errors.DependentObjectsStillExist)


def alter(
    connection: psycopg.Connection[Any],
    schema: str,
    name: str,
    clauses: Sequence[sql.Composable],
) -> None:
    """Run clauses of ALTER TABLE, in a transaction.

    Where PostgreSQL refuses one because of views or policies, these are taken away and made again.
    Raises Failure that names what is in the way; LockNotAvailable if that takes longer than a turn.
    """
    table = sql.Identifier(schema, name)
    try:
        with connection.transaction():
            Turn(connection).lock(_lock(table))
            _change(connection, table, clauses)
    except _REFUSED as error:
        ((oid,),) = connection.execute(_OID, [table.as_string()]).fetchall()
        kept = dependents.read_fixed(connection, oid)
        if kept.blockers:
            raise _stuck(schema, name, error, kept.blockers) from error
    else:
        return
    try:
        with connection.transaction():
            # Who reads a view locks it first and its table then; so views are locked first.
            Turn(connection).lock(*kept.lock, _lock(table))
            kept = dependents.read_fixed(connection, oid)
            for statement in kept.drop:
                connection.execute(statement)
            _change(connection, table, clauses)
            dependents.restore(connection, kept)
    except _REFUSED as error:
        raise _stuck(schema, name, error) from error


def _stuck(
    schema: str, name: str, refused: psycopg.Error, blockers: tuple[str, ...] = ()
) -> Failure:
    found = (*blockers, *(refused.diag.message_detail or said(refused)).splitlines())
    return Failure(
        f"warehouse: table {names.display(schema, name)}: expected nothing that holds its columns"
        f" as they are, found {'; '.join(found)}",
        hint="Drop it, run again, and create it again; or grant this role membership in the owner"
        " of the views, so that it can make them again.",
    )


def _lock(table: sql.Identifier) -> sql.Composed:
    return sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table)


def _change(
    connection: psycopg.Connection[Any], table: sql.Identifier, clauses: Sequence[sql.Composable]
) -> None:
    for clause in clauses:
        connection.execute(sql.SQL("ALTER TABLE {} {}").format(table, clause))
