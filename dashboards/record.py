"""The platform's own table in Superset's database: what was migrated, and what came from files.

Read without Superset, whose import takes seconds of a processor.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

import psycopg

from frame import database
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

# Any number that no other program uses on Superset's database ("dash" in ASCII).
LOCK = 0x64617368
# How long a database that does not answer is waited for, in seconds: the cluster may come back in
# any order, and a server that recovers from a crash takes minutes.
DATABASE_TIMEOUT = 30 * 60
# The longest that another migration or import may take before this one gives up.
LOCK_TIMEOUT = "30min"
_TABLE = """
CREATE TABLE IF NOT EXISTS harmattan_record (
  name text PRIMARY KEY,
  value text NOT NULL,
  written timestamptz NOT NULL DEFAULT now()
)
"""
PUT: LiteralString = """
INSERT INTO harmattan_record (name, value) VALUES (%s, %s)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, written = now()
"""


@dataclass(frozen=True)
class Record:
    """Names and values in Superset's database, through a session of its own."""

    connection: psycopg.Connection[tuple[str]]

    def get(self, name: str) -> str | None:
        """Return the value of ``name``; None if there is none."""
        found = self.connection.execute(
            "SELECT value FROM harmattan_record WHERE name = %s", (name,)
        ).fetchone()
        return found and found[0]

    def put(self, name: str, value: str) -> None:
        """Write the value of ``name``."""
        self.connection.execute(PUT, (name, value))

    def make(self) -> None:
        """Make the table, as the owner of the database."""
        self.connection.execute(_TABLE)

    def lock(self) -> None:
        """Wait until no other migration or import runs; the lock ends with the session."""
        self.connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        try:
            self.connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        except psycopg.errors.LockNotAvailable:
            raise Failure(
                f"another migration or import has run for {LOCK_TIMEOUT}",
                "See which allocation of superset-migrate or superset-dashboards runs, and end it.",
            ) from None


@contextmanager
def opened(uri: str, *, patience: float = DATABASE_TIMEOUT) -> Iterator[Record]:
    """Yield the record of the database at ``uri``, each statement a transaction of its own.

    A database that lets nobody in is asked again for ``patience`` seconds. Raises Failure.
    """
    with database.opened(
        uri, name="Superset's database", purpose="dashboards", patience=patience
    ) as connection:
        yield Record(connection)
