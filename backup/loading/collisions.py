"""What the target has already of that which is to be loaded.

pg_restore that keeps going would give its rows to a table that was there before, set back a live
sequence, and pass on what belongs to somebody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from backup.loading.selection import TABLES
from backup.postgres.names import listed
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backup.loading.archive import Entry
    from backup.postgres.connection import Connection

Object = tuple[str, str, str]  # its family, its schema if it is in one, its name

_RELATION, _TYPE, _ROUTINE, _SCHEMA = "relation", "type", "routine", "schema"
_FAMILIES = {
    **dict.fromkeys((*TABLES, "VIEW", "MATERIALIZED VIEW", "SEQUENCE"), _RELATION),
    **dict.fromkeys(("TYPE", "DOMAIN"), _TYPE),
    **dict.fromkeys(("FUNCTION", "PROCEDURE", "AGGREGATE"), _ROUTINE),
    "SCHEMA": _SCHEMA,
}
# Routines by the name that pg_dump gives them: types of other schemas with these. Every database
# has a schema public, which an archive can name for its owner or rights alone.
_THERE: LiteralString = """
SELECT 'relation', n.nspname::text, c.relname::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind NOT IN ('c', 'i', 'I') AND n.nspname !~ '^pg_'
UNION ALL
SELECT 'type', n.nspname, t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.typcategory <> 'A' AND n.nspname !~ '^pg_'
UNION ALL
SELECT 'routine', n.nspname, p.proname || '(' || CASE
  WHEN p.prokind = 'a' AND p.pronargs = 0 THEN '*' ELSE oidvectortypes(p.proargtypes) END || ')'
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname !~ '^pg_'
UNION ALL
SELECT 'schema', '', nspname FROM pg_namespace WHERE nspname <> 'public'
"""


def objects_there(connection: Connection) -> frozenset[Object]:
    """Return what the session's database holds of what could be met."""
    return frozenset((family, schema, name) for family, schema, name in connection.execute(_THERE))


def refuse_collisions(entries: Iterable[Entry], there: frozenset[Object], database: str) -> None:
    """Raise one Failure of all ``entries`` whose names are ``there`` already."""
    met = [
        entry.label
        for entry in entries
        if (family := _FAMILIES.get(entry.kind)) and (family, entry.schema, entry.name) in there
    ]
    if met:
        raise Failure(
            f"database {database} has already: {listed(met)}",
            hint="Nothing was loaded. Rename or drop what is there, or restore into another "
            "database; tables also go into another schema, by --into-schema.",
        )
