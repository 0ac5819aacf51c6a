"""The sessions at a server: which are an attempt's own, and who waits for whom."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from backup.postgres.names import printable

if TYPE_CHECKING:
    from backup.attempt import Attempt
    from backup.postgres.connection import Connection


# What the names of sessions begin with; that of the attempt follows.
DUMP = "harmattan-pg_dump"
PROOF = "harmattan-backup-count"

# Functions and not the views over them: these take no lock, and everybody may call them.
_WAITING = """
SELECT pid, locktype, mode, database, relation, pg_blocking_pids(pid)
FROM pg_lock_status() WHERE NOT granted
"""
_SESSIONS = """
SELECT s.pid, s.application_name, s.usesysid = me.usesysid
FROM pg_stat_get_activity(NULL) AS s, pg_stat_get_activity(pg_backend_pid()) AS me
"""
_RELATION = """
SELECT format('%%I.%%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_database d ON d.datname = current_database()
WHERE c.oid = %s AND d.oid = %s
"""


@dataclass(frozen=True)
class Session:
    """A session at the server. ``ours``: it belongs to this attempt."""

    pid: int
    application: str
    ours: bool

    @property
    def dumps(self) -> bool:
        """Whether it is pg_dump's."""
        return self.ours and self.application.startswith(DUMP)

    def __str__(self) -> str:
        return called(self.pid, self.application)


def called(pid: int, application: str | None) -> str:
    """Return what a session is called; a prepared transaction has the pid 0."""
    if not pid:
        return "a prepared transaction, which pg_prepared_xacts names"
    return f"{printable(application or '') or 'somebody'} (pid {pid})"


@dataclass(frozen=True)
class Wait:
    """A session that waits for others, and for which lock."""

    waiting: Session
    holders: tuple[Session, ...]
    mode: str
    lock_type: str
    database: int | None
    relation: int | None


@dataclass(frozen=True)
class Look:
    """What the server says at one moment: its sessions, and those of them that wait."""

    sessions: tuple[Session, ...]
    waits: tuple[Wait, ...]

    def for_us(self) -> list[Wait]:
        """Return those of others who wait for a session of ours."""
        return [
            wait
            for wait in self.waits
            if not wait.waiting.ours and any(holder.ours for holder in wait.holders)
        ]

    def of_dump(self) -> list[Wait]:
        """Return those of pg_dump. All other sessions of ours bound their waits themselves."""
        return [wait for wait in self.waits if wait.waiting.dumps]

    def in_circle(self) -> list[Wait]:
        """Return those of pg_dump for somebody who waits for us: neither would come further."""
        others = {wait.waiting.pid for wait in self.for_us()}
        return [wait for wait in self.of_dump() if any(each.pid in others for each in wait.holders)]

    @property
    def dumping(self) -> bool:
        """Whether pg_dump is at the server."""
        return any(session.dumps for session in self.sessions)


def look(connection: Connection, attempt: Attempt) -> Look:
    """Return who waits for whom just now. Raises psycopg.Error."""
    waiting = connection.execute(_WAITING).fetchall()
    sessions = {
        pid: Session(pid, application or "", bool(same_role and attempt.name in application))
        for pid, application, same_role in connection.execute(_SESSIONS)
    }
    return Look(
        tuple(sessions.values()),
        tuple(
            Wait(
                sessions.get(pid, Session(pid, "", ours=False)),
                # 0 stands for a prepared transaction
                tuple(sessions.get(each, Session(each, "", ours=False)) for each in blocking),
                mode, lock_type, database, relation,
            )
            for pid, lock_type, mode, database, relation, blocking in waiting
        ),
    )  # fmt: skip


def describe(connection: Connection, wait: Wait) -> str:
    """Return what ``wait`` is for, such as ``AccessExclusiveLock on public.people``."""
    what = wait.lock_type
    if wait.relation is not None:
        what = f"relation {wait.relation}"
        with suppress(psycopg.Error):
            row = connection.execute(_RELATION, [wait.relation, wait.database]).fetchone()
            what = printable(row[0]) if row else what
    return f"{wait.mode} on {what}"
