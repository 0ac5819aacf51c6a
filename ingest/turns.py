"""Locks that are tried in short turns, behind which nobody waits long."""

from __future__ import annotations

from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg
    from psycopg import sql

# Seconds that all locks of a turn may take together: who comes later waits as long. Less than
# servers wait (deadlock_timeout, 1 s) before they look for a deadlock and end one of its two sides.
TURN = 0.5
# Seconds between two turns, twice as many each time up to the longest.
PAUSE, LONGEST_PAUSE = 1.0, 30.0


class Turn:
    """One turn, in a transaction that is undone unless it gets all of its locks."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._until = monotonic() + TURN

    def lock(self, *statements: sql.SQL | sql.Composed) -> None:
        """Run statements that lock. Raises psycopg.errors.LockNotAvailable when time is over."""
        for statement in statements:
            left = max(1, round((self._until - monotonic()) * 1000))
            self._connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{left}ms"])
            self._connection.execute(statement)


def turns(seconds: float, rest: Callable[[float], None] = sleep) -> Iterator[bool]:
    """Yield for each turn within ``seconds``, and once at least, whether it is the last.

    ``rest`` passes the seconds between two turns.
    """
    until, pause = monotonic() + seconds, PAUSE
    while monotonic() + pause < until:
        yield False
        rest(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    yield True
