"""Asks the queries of a pipeline file, under a login that reads what analysts read and no more."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from frame.failure import Failure
from ingest import connections
from ingest.errors import said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.connections import Address

_BOOLEAN = psycopg.adapters.types["bool"].oid
# A check's own SELECT reads one table of tonight's; beyond this it is wrong. Where it waits for a
# lock, of a table or an advisory one, it is not what others should wait for.
_TIMEOUT, _LOCK_TIMEOUT = "10min", "1min"
_NO_ANSWER = "not one row of one true or false"
# The rights of another role are had by SET ROLE too, inherited or not. A superuser has all.
_TOO_MUCH: LiteralString = """
    SELECT current_user::text, string_agg(rolname::text, ', ' ORDER BY rolname) FROM pg_roles
    WHERE pg_has_role(session_user, oid, 'MEMBER')
      AND (rolname = %s OR oid < 16384)  -- the server's own, such as pg_signal_backend
"""


@contextmanager
def session(
    address: Address, owner: psycopg.Connection[Any], schema: str, candidate: sql.Composable
) -> Iterator[psycopg.Connection[Any]]:
    """Open a read-only session that may read ``candidate``, of ``schema``, while it lasts.

    ``owner`` is the session of the candidate's owner. Raises Failure, psycopg.Error.
    """
    with closing(connections.warehouse(address, purpose="ingest checks")) as reader:
        ((loader, path),) = owner.execute(
            "SELECT current_user::text, current_setting('search_path')"
        ).fetchall()
        ((role, too_much),) = reader.execute(_TOO_MUCH, [loader]).fetchall()
        if too_much:
            raise Failure(
                f"connection {address.id}: expected a login that only reads what analysts read,"
                f" found {role} with the rights of {too_much}",
                hint="Make a role for it, a member of the readers' role and of no other.",
            )
        reader.execute(
            "SELECT set_config('search_path', %s, false),"
            " set_config('statement_timeout', %s, false),"
            " set_config('lock_timeout', %s, false)",
            [path, _TIMEOUT, _LOCK_TIMEOUT],
        )
        reader.read_only = True
        staging = sql.SQL("SCHEMA {}").format(sql.Identifier(schema))
        with (
            _granted(owner, staging, "USAGE", role),
            _granted(owner, candidate, "SELECT", role),
        ):
            yield reader


def answer(reader: psycopg.Connection[Any], query: str) -> str:
    """Return what ``query`` finds: ``true``, or what it found instead.

    It goes by the extended protocol, in which the server takes one statement; and what it sets ends
    with its transaction. Whatever it finds, no more than two answers come, and none that is wide.
    Raises psycopg.Error if the session is lost.
    """
    asked = sql.SQL(query.rstrip().removesuffix(";"))
    try:
        with reader.transaction(force_rollback=True):
            columns = _ask(reader, asked, 0).description or ()
            if [column.type_code for column in columns] != [_BOOLEAN]:
                return _NO_ANSWER
            rows = _ask(reader, asked, 2).fetchall()
    except psycopg.Error as error:
        if reader.broken:  # the check has found nothing, so it may be asked again
            raise
        return f"an error: {said(error)}"
    return str(rows[0][0]).lower() if len(rows) == 1 else _NO_ANSWER


def _ask(reader: psycopg.Connection[Any], query: sql.SQL, limit: int) -> psycopg.Cursor[Any]:
    asked = sql.SQL("SELECT * FROM ({}\n) AS answer LIMIT {}").format(query, limit)
    return reader.execute(asked, prepare=False, binary=True)


@contextmanager
def _granted(
    owner: psycopg.Connection[Any], what: sql.Composable, right: LiteralString, role: str
) -> Iterator[None]:
    words = {"right": sql.SQL(right), "what": what, "role": sql.Identifier(role)}
    owner.execute(sql.SQL("GRANT {right} ON {what} TO {role}").format(**words))
    try:
        yield
    finally:
        owner.execute(sql.SQL("REVOKE {right} ON {what} FROM {role}").format(**words))
