"""Who waits for whom at the source: nothing of ours for long, and nobody for something of ours.

A lock that only reads is in nobody's way until somebody wants the table for himself. From then on
all others queue behind him, and the application stands still. So an attempt at a backup lets go of
everything when somebody has waited for it for some seconds, and is repeated.
"""

from __future__ import annotations

import time
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg import errors

from backup.attempt import Disturbed, Overtaken
from backup.source.sessions import describe, look
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from backup.attempt import Attempt
    from backup.postgres.connection import Connection, PostgresUri
    from backup.source.sessions import Look, Session, Wait


log = get_logger(__name__)

POLL = 0.5  # seconds from one look to the next
# Seconds that somebody may wait for us, all his tries together: a migration with a lock_timeout
# comes again and again.
OTHERS_PATIENCE = 5.0
FORGOTTEN = 30.0  # seconds in which nobody waits, and the account begins at 0
OWN_PATIENCE = 3.0  # seconds that a session of ours may wait
STOP_SECONDS = 5.0  # a look that hangs is left to the end of the process
BLIND = 30.0  # seconds without a look that are as bad as somebody who waits
LIMITS = {"lock_timeout": "1s", "statement_timeout": "10s"}


class Account:
    """Seconds that somebody has waited, with or without breaks between."""

    def __init__(self, forgotten: float) -> None:
        """Begin at 0 again once nobody has waited for ``forgotten`` seconds."""
        self._forgotten = forgotten
        self._seconds = 0.0
        self._last = 0.0

    def note(self, since: float, now: float, *, waits: bool) -> float:
        """Add the seconds from ``since`` to ``now`` if somebody ``waits``; return the sum."""
        if waits:
            self._seconds += now - since
            self._last = now
        elif now - self._last >= self._forgotten:
            self._seconds = 0.0
        return self._seconds


class Watch:
    """Looks twice a second whether an attempt is in somebody's way, or somebody in its way.

    Then it ends all sessions of the attempt, at the server: at once, whatever this program is busy
    with. Where pg_dump has ended and only proofs are left, it calls ``give_up_proofs`` with the
    reason instead. ``warnings`` says for whom it was too late to give way.
    """

    def __init__(self, uri: PostgresUri, attempt: Attempt) -> None:
        self.warnings: list[str] = []
        self.give_up_proofs: Callable[[str], None] = lambda _reason: None
        self._uri = uri
        self._attempt = attempt
        self._verdict: Disturbed | None = None
        self._others, self._own = Account(FORGOTTEN), Account(0)
        self._warned_of: set[int] = set()
        self._dump_seen = False
        self._looked = time.monotonic()
        self._connection: Connection | None = None
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        """Raise Failure if the sessions of the attempt could not be told from others."""
        self._connection = self._connect()
        with suppress(psycopg.Error):  # the next look may do better
            if not any(each.ours for each in look(self._connection, self._attempt).sessions):
                self._connection.close()
                raise Failure(
                    "the server does not hear the application_name of this program's sessions, so "
                    "nobody could see who waits for a backup",
                    hint="Let the connection pooler pass it on, or give the URI of the server.",
                )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Look no more: nothing is held any longer."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)
        if self._connection and not self._thread.is_alive():
            self._connection.close()

    def check(self) -> None:
        """Raise :class:`Disturbed` if the attempt was ended."""
        if self._verdict:
            raise self._verdict

    def somebody_waits(self) -> bool:
        """Tell whether anybody waits for this attempt just now, or that cannot be known."""
        try:
            return self._connection is None or bool(look(self._connection, self._attempt).for_us())
        except psycopg.Error:
            return True

    def _connect(self) -> Connection:
        return self._uri.connect(f"backup-watch-{self._attempt.name}", **LIMITS)

    def _run(self) -> None:
        while not self._stopping.wait(POLL) and not self._verdict:
            try:
                self._connection = self._connection or self._connect()
                self._consider(self._connection, look(self._connection, self._attempt))
            except (Failure, psycopg.Error) as error:
                self._miss(error)

    def _miss(self, error: Failure | psycopg.Error) -> None:
        """Look next time by a new session; give way if nothing was seen for long."""
        if self._connection and not isinstance(error, errors.LockNotAvailable):
            self._connection.close()
            self._connection = None
        if time.monotonic() - self._looked > BLIND:
            self._give_way(0, f"for {BLIND:g} s it could not be seen who waits for the backup")

    def _consider(self, connection: Connection, seen: Look) -> None:
        now, since = time.monotonic(), self._looked
        self._looked = now
        others, own = seen.for_us(), seen.of_dump()
        others_seconds = self._others.note(since, now, waits=bool(others))
        own_seconds = self._own.note(since, now, waits=bool(own))
        if in_circle := seen.in_circle():
            self._end(self._reason(connection, in_circle[0]), Overtaken)
        elif own_seconds > OWN_PATIENCE:
            self._end(self._reason(connection, own[0]))
        elif others and others_seconds > OTHERS_PATIENCE:
            waiting = others[0].waiting
            why = f"{waiting} waited for {describe(connection, others[0])}"
            if self._dump_seen and not seen.dumping:
                self.give_up_proofs(why)
            else:
                self._give_way(waiting.pid, why)
        self._dump_seen |= seen.dumping

    def _give_way(self, pid: int, why: str) -> None:
        """End the attempt, unless too much of the command's time is gone: then warn, once a pid."""
        if self._attempt.gives_way():
            self._end(why)
        elif pid not in self._warned_of:
            self._warned_of.add(pid)
            self.warnings.append(
                f"the backup did not give way, as half of its time was gone: {why}"
            )
            log.error("backup does not give way, as half of its time is gone", reason=why)

    @staticmethod
    def _reason(connection: Connection, wait: Wait) -> str:
        holders = " and ".join(map(str, wait.holders))
        return f"it waited for {describe(connection, wait)}, held or wanted by {holders}"

    def _end(self, why: str, kind: type[Disturbed] = Disturbed) -> None:
        self._verdict = kind(
            f"backup gave way: {why}",
            hint="Run it at a quieter time, or give it more with --timeout.",
        )
        if self._connection:
            end_sessions(self._connection, self._attempt)


def end_sessions(connection: Connection, attempt: Attempt) -> None:
    """End all sessions of ``attempt`` at the server but this one. Raises psycopg.Error."""
    (own,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
    for session in look(connection, attempt).sessions:
        if session.ours and session.pid != own:
            end_session(connection, session)


def end_session(connection: Connection, session: Session) -> None:
    """End ``session`` at the server. Raises psycopg.Error."""
    connection.execute("SELECT pg_terminate_backend(%s)", [session.pid])
