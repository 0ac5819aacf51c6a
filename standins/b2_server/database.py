"""The metadata: one SQLite file. What it does not name does not exist."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Value = str | int | None

_SCHEMA = """
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS application_key (
    key_id TEXT PRIMARY KEY, secret_hash TEXT NOT NULL, name TEXT NOT NULL,
    capabilities TEXT NOT NULL, bucket_ids TEXT, name_prefix TEXT, expires_ms INTEGER);
CREATE TABLE IF NOT EXISTS bucket (
    bucket_id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, type TEXT NOT NULL, info TEXT NOT NULL,
    cors_rules TEXT NOT NULL, lifecycle_rules TEXT NOT NULL, encryption TEXT NOT NULL,
    revision INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS file_version (
    number INTEGER PRIMARY KEY AUTOINCREMENT, file_id TEXT NOT NULL UNIQUE,
    bucket_id TEXT NOT NULL, name TEXT NOT NULL, action TEXT NOT NULL, content_type TEXT,
    sha1 TEXT, length INTEGER NOT NULL, info TEXT NOT NULL, encryption TEXT NOT NULL,
    uploaded_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS file_version_order
    ON file_version (bucket_id, name, uploaded_ms DESC, number DESC);
CREATE TABLE IF NOT EXISTS piece (
    file_id TEXT NOT NULL, number INTEGER NOT NULL, blob TEXT NOT NULL UNIQUE,
    length INTEGER NOT NULL, sha1 TEXT NOT NULL, uploaded_ms INTEGER NOT NULL,
    PRIMARY KEY (file_id, number));
"""
# Columns that files of before did not have, with what all rows of then have in them.
_LATER = {
    ("bucket", "lock"): '{"defaultRetention": {"mode": null, "period": null},'
    ' "isFileLockEnabled": false}',
    ("file_version", "retention"): '{"mode": null, "retainUntilTimestamp": null}',
}


class Database:
    """One connection, used from the event loop's thread only."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        # The data outlives this process, not the machine's power: no test cuts that.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(_SCHEMA)
        for (table, column), value in _LATER.items():
            known = {row["name"] for row in self.rows(f"PRAGMA table_info({table})")}
            if column not in known:
                self.run(f"ALTER TABLE {table} ADD COLUMN {column} TEXT NOT NULL DEFAULT '{value}'")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all of the block's changes, or none of them."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def rows(self, statement: str, *values: Value) -> Iterator[sqlite3.Row]:
        """Yield the rows of a query, read as they are asked for."""
        yield from self._connection.execute(statement, values)

    def row(self, statement: str, *values: Value) -> sqlite3.Row | None:
        """Return the first row of a query."""
        found: sqlite3.Row | None = self._connection.execute(statement, values).fetchone()
        return found

    def run(self, statement: str, *values: Value) -> int:
        """Run a statement and return how many rows it changed."""
        return self._connection.execute(statement, values).rowcount

    def setting(self, name: str) -> str | None:
        """Return a value of the server itself."""
        row = self.row("SELECT value FROM setting WHERE name = ?", name)
        return None if row is None else str(row["value"])

    def set_setting(self, name: str, value: str) -> None:
        """Keep a value of the server itself."""
        self.run("INSERT OR REPLACE INTO setting (name, value) VALUES (?, ?)", name, value)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
