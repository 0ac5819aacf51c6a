"""What a database holds, as one SHA-256 a table."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from psycopg import Connection

LEAVES = """
SELECT oid::regclass::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname
"""


def digests(connection: Connection[Any]) -> dict[str, str]:
    """Return the SHA-256 of the COPY output of every table of public; a partition is a table.

    The rows are sorted: a server puts a small one on an earlier page where it fits.
    """
    found = {}
    for (table,) in connection.execute(LEAVES).fetchall():
        digest = hashlib.sha256()
        rows = f'SELECT * FROM {table} AS each ORDER BY each::text COLLATE "C"'
        with connection.cursor().copy(f"COPY ({rows}) TO STDOUT".encode()) as stream:
            for block in stream:
                digest.update(block)
        found[table] = digest.hexdigest()
    return found
