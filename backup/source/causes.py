"""Why the source refused or ended something, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import errors

from backup.attempt import Disturbed, EndedEarly
from backup.postgres.connection import one_line
from frame.failure import Failure

if TYPE_CHECKING:
    import psycopg

# By SQLSTATE, or by its class: what to do about an error of the server.
HINTS = {
    "42501": "Grant the backup role pg_read_all_data (before PostgreSQL 14: USAGE on all schemas, "
    "SELECT on all tables and sequences).",
    "42P01": "Run it again; if it is missing still, the server is not what it says it is.",
    "53200": "Give the server more memory, or raise max_locks_per_transaction; then run it again.",
    "53300": "Let the server, or the role, have more connections.",
    "57014": "Look who cancelled it at the server; then run it again.",
    "57P": "The server was stopped, or an administrator ended the session; run it again.",
    "08": "The server, or what is between, closed the connection; look there and run it again.",
    "25": "The server ended the session over a limit of time; take that from the backup role.",
    "": "Look at the server's log; then run it again.",
}


# A standby ends who reads what the primary has vacuumed or dropped.
OF_STANDBY = (
    "Raise max_standby_streaming_delay of the standby, set its hot_standby_feedback, or back up "
    "the primary."
)


def explained(what: str, error: psycopg.Error) -> Failure:
    """Return ``error`` as one with the hint for its cause; :class:`Disturbed` if it was a lock."""
    message = f"{what}: {one_line(error)}"
    if isinstance(error, errors.LockNotAvailable):
        return Disturbed(message, hint="Look who keeps the catalogue locked, and run it again.")
    if isinstance(error, errors.SerializationFailure):
        return EndedEarly(message, hint=OF_STANDBY)
    state = error.sqlstate or "08"
    return Failure(message, hint=next(HINTS[state[:n]] for n in (5, 3, 2, 0) if state[:n] in HINTS))
