"""All tables locked before the snapshot is taken: a snapshot cannot be older than its locks.

TRUNCATE, a rewritten table and a change of names do not care for snapshots, so a lock after one
comes too late. And one that is waited for with others in hand stops the application.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

from psycopg import errors, sql

from backup.attempt import Disturbed
from backup.postgres.names import Quoted, printable
from backup.source.sessions import called
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from backup.postgres.connection import Connection
    from backup.postgres.names import Name


BATCH = 100  # tables a statement
# Whoever waits in a circle for deadlock_timeout, by default 1 s, and looks first, is ended by the
# server. If that is to be nobody else, then we wait in slices, and let go as soon as somebody waits
# for us.
SLICE = "200ms"
PATIENCE = 2.0  # seconds for a batch

# What pg_dump locks: it fails on a table that is gone, and reads the definition of those it locks.
_TABLES = """
SELECT c.oid, n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY c.oid
"""
_LOCKED = """
SELECT relation FROM pg_lock_status()
WHERE pid = pg_backend_pid() AND locktype = 'relation' AND mode = 'AccessShareLock' AND granted
"""
_HOLDERS = """
SELECT DISTINCT n.nspname, c.relname, l.pid, s.application_name
FROM pg_lock_status() l
JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_get_activity(NULL) s ON s.pid = l.pid
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND c.relkind IN ('r', 'p')
ORDER BY 1, 2 LIMIT 3
"""
# In the snapshot, beside the name that the table has now.
_RENAMED = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.oid::regclass::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND quote_ident(n.nspname) || '.' || quote_ident(c.relname) <> c.oid::regclass::text
ORDER BY 1 LIMIT 1
"""
_LOCK_SPACE = """
SELECT current_setting('max_locks_per_transaction')::int,
       current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int
"""


def begin_locked(connection: Connection, somebody_waits: Callable[[], bool]) -> None:
    """Begin a transaction that holds every table and then took its snapshot.

    The session has a lock_timeout of ``SLICE``. Raises :class:`Disturbed` where a lock is not had
    soon, or tables changed meanwhile, Failure where the server has no room for so many locks, and
    psycopg.Error.
    """
    tables = [(schema, name) for _, schema, name in connection.execute(_TABLES)]
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        for batch in _batches(tables):
            _lock(connection, batch, somebody_waits)
    except errors.LockNotAvailable as error:
        connection.execute("ROLLBACK")
        raise Disturbed(
            f"no lock on a table within {PATIENCE:g} s: {_holders(connection)}",
            hint="Look what holds it for so long; a backup needs a moment without.",
        ) from error
    except (errors.UndefinedTable, errors.InvalidSchemaName, errors.WrongObjectType) as error:
        _refuse_change(f"one was dropped or renamed ({error.diag.message_primary})", error)
    except errors.OutOfMemory as error:
        connection.execute("ROLLBACK")
        raise _no_room(connection, len(tables)) from error
    # The first query: it takes the snapshot.
    listed = {oid: (schema, name) for oid, schema, name in connection.execute(_TABLES)}
    locked = {oid for (oid,) in connection.execute(_LOCKED)}
    if new := listed.keys() - locked:
        _refuse_change(f"{printable('.'.join(listed[min(new)]))} is new")


def _batches(tables: Iterable[Name]) -> Iterator[list[Name]]:
    left = iter(tables)
    return iter(lambda: list(islice(left, BATCH)), [])


def _lock(connection: Connection, batch: list[Name], somebody_waits: Callable[[], bool]) -> None:
    """Lock the tables of ``batch``, which takes no snapshot. Raises psycopg.Error."""
    tables = sql.SQL(", ").join(sql.SQL("ONLY {}").format(Quoted(*table)) for table in batch)
    statement = sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(tables)
    until = time.monotonic() + PATIENCE
    connection.execute("SAVEPOINT batch")
    while True:
        try:
            connection.execute(statement)
        except errors.LockNotAvailable:
            connection.execute("ROLLBACK TO SAVEPOINT batch")
            if time.monotonic() > until or somebody_waits():
                raise
        else:
            connection.execute("RELEASE SAVEPOINT batch")
            return


def _holders(connection: Connection) -> str:
    """Say who has or wants a table for himself. Raises psycopg.Error."""
    holders = [
        f"{printable(schema)}.{printable(name)} is held by {called(pid or 0, application)}"
        for schema, name, pid, application in connection.execute(_HOLDERS)
    ]
    return ", ".join(holders) or "its holder has just gone"


def _refuse_change(what: str, error: Exception | None = None) -> NoReturn:
    raise Disturbed(
        f"tables changed while they were locked: {what}",
        hint="Run it at a time when nobody makes or drops tables all the while.",
    ) from error


def _no_room(connection: Connection, tables: int) -> Failure:
    row = connection.execute(_LOCK_SPACE).fetchone()
    assert row is not None  # noqa: S101 - it asks for two settings
    each, sessions = row
    needed = max(2 * each, -(-2 * tables // sessions))  # half is left to others
    return Failure(
        f"server has no room to lock {tables} tables at once: max_locks_per_transaction is {each}",
        hint=f"Set max_locks_per_transaction to {needed} or more and start the server again.",
    )


def check_names(connection: Connection) -> None:
    """Raise :class:`Disturbed` if a locked table has another name than in the snapshot.

    The lock keeps a table's name as it is, and not its schema's. pg_dump reads rows by name, so it
    may have read another table's.
    """
    row = connection.execute(_RENAMED).fetchone()
    if row:
        _refuse_change(f"{printable(row[0])} is now {printable(row[1])}")
