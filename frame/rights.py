"""Who may write which tables of a program's own database, whatever its default privileges gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_WRITERS = """
SELECT DISTINCT format('%%I', table_name), format('%%I', grantee)
FROM information_schema.role_table_grants
WHERE table_schema = 'public' AND table_name = ANY(%s) AND privilege_type <> 'SELECT'
  AND grantee <> current_user AND grantee::text <> ALL(%s)
"""


def guard(cursor: Any, tables: Collection[str], *writers: str) -> Iterator[str]:
    """Let nobody but the roles ``writers`` and the owner write ``tables``; yield what was revoked.

    ``cursor`` is of psycopg, 2 or 3, and of the tables' owner. Raises its errors.
    """
    cursor.execute(_WRITERS, (list(tables), list(writers)))
    for table, role in cursor.fetchall():
        cursor.execute(f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {table} FROM {role}")
        yield f"{role} may no longer write {table}"
