from __future__ import annotations

import psycopg
from psycopg import errors

from backup.attempt import Disturbed
from backup.source.causes import explained


def test_each_cause_has_a_hint_of_its_own() -> None:
    causes = {
        errors.InsufficientPrivilege: "Grant the backup role pg_read_all_data",
        errors.UndefinedTable: "Run it again",
        errors.OutOfMemory: "max_locks_per_transaction",
        errors.TooManyConnections: "more connections",
        errors.QueryCanceled: "who cancelled it",
        errors.AdminShutdown: "administrator ended",
        errors.ConnectionFailure: "closed the connection",
        errors.IdleInTransactionSessionTimeout: "limit of time",
        errors.DataCorrupted: "server's log",
        errors.SerializationFailure: "max_standby_streaming_delay",
        psycopg.OperationalError: "closed the connection",
    }
    for cause, hint in causes.items():
        failure = explained("no snapshot", cause("server's words"))
        assert hint in failure.hint, cause
        assert isinstance(failure, Disturbed) == (cause is errors.SerializationFailure)
    assert isinstance(explained("no snapshot", errors.LockNotAvailable("")), Disturbed)
