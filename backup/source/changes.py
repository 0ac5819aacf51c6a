"""What was changed below pg_dump while it read the definitions of objects.

pg_dump reads the catalogue in its snapshot, but has the server write definitions, and that looks
at what is there now. A function that was dropped meanwhile is dumped without its arguments, a view
with the query that it has got since - and pg_dump ends well. The locks on tables keep only those.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from backup.postgres.names import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from backup.postgres.connection import Connection


# What definitions are written from and a lock on tables does not keep, each with a mark that a
# change changes. Who writes a row of the catalogue is in its xmin; of relations that is no use, as
# a REFRESH or a REINDEX writes it as well. None of a session's temporary objects.
_STATE: LiteralString = """
SELECT made.kind, n.nspname, made.name, made.oid, made.mark
FROM pg_namespace n JOIN (
  SELECT 'schema' AS kind, oid AS within, nspname AS name, oid, '' AS mark FROM pg_namespace
  UNION ALL
  SELECT 'relation', relnamespace, relname, oid, '' FROM pg_class
  WHERE relkind NOT IN ('r', 'p', 't')
  UNION ALL
  SELECT 'column', c.relnamespace, c.relname || '.' || a.attname, c.oid, a.attnum::text
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
  WHERE c.relkind IN ('v', 'm', 'c', 'f') AND a.attnum > 0
  UNION ALL
  SELECT 'rule', c.relnamespace, c.relname || '.' || r.rulename, r.oid, r.xmin::text
  FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
  UNION ALL
  SELECT 'trigger', c.relnamespace, c.relname || '.' || t.tgname, t.oid, t.xmin::text
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
  UNION ALL
  SELECT 'domain constraint', connamespace, conname, oid, xmin::text FROM pg_constraint
  WHERE contypid <> 0
  UNION ALL
  SELECT 'function', pronamespace, proname, oid, xmin::text FROM pg_proc
  UNION ALL
  SELECT 'type', typnamespace, typname, oid, xmin::text FROM pg_type
  UNION ALL
  SELECT 'enum value', t.typnamespace, t.typname || '.' || e.enumlabel, e.oid, ''
  FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid
  UNION ALL
  SELECT 'operator', oprnamespace, oprname, oid, xmin::text FROM pg_operator
  UNION ALL
  SELECT 'operator class', opcnamespace, opcname, oid, xmin::text FROM pg_opclass
  UNION ALL
  SELECT 'operator family', opfnamespace, opfname, oid, xmin::text FROM pg_opfamily
  UNION ALL
  SELECT 'collation', collnamespace, collname, oid, '' FROM pg_collation
  UNION ALL
  SELECT 'conversion', connamespace, conname, oid, xmin::text FROM pg_conversion
  UNION ALL
  SELECT 'text search configuration', cfgnamespace, cfgname, oid, xmin::text FROM pg_ts_config
  UNION ALL
  SELECT 'text search dictionary', dictnamespace, dictname, oid, xmin::text FROM pg_ts_dict
  UNION ALL
  SELECT 'statistics', stxnamespace, stxname, oid, xmin::text FROM pg_statistic_ext
) AS made ON made.within = n.oid
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""


def changed_since(connect: Callable[[], Connection], snapshot: str) -> tuple[str, ...]:
    """Return what of the exported ``snapshot`` is gone or not the same by now, a line for each.

    Raises psycopg.Error, and Failure.
    """
    with closing(connect()) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        exported = sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot))
        connection.execute(exported)
        then = set(connection.execute(_STATE))
        connection.execute("COMMIT")
        then.difference_update(connection.execute(_STATE))
    return tuple(
        sorted({printable(f"{kind} {schema}.{name}") for kind, schema, name, _, _ in then})
    )
