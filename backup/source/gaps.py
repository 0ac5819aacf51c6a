"""What a database has and a dump of it by this role cannot hold, asked of the catalogue."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg import sql

from backup.manifest import Gap
from backup.postgres.names import Quoted, printable
from backup.source.digests import look, reason, take
from backup.source.inventory import LOCK_WAIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backup.postgres.connection import Connection


# Of each kind: what is lost and what would keep it, and a query of the names.
_QUERIES: tuple[tuple[str, str, LiteralString], ...] = (
    (
        "subscription",
        "pg_dump leaves it out unless its role is a superuser: keep its CREATE SUBSCRIPTION",
        """
        SELECT quote_ident(s.subname) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
        WHERE d.datname = current_database() AND current_setting('is_superuser') = 'off'
        """,
    ),
    (
        "user mapping",
        "its options, such as a password, are hidden from the role: keep them elsewhere, or let a"
        " superuser dump",
        """
        SELECT format('%I on %I', m.usename, m.srvname)
        FROM pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid
        WHERE m.umoptions IS NULL AND current_setting('is_superuser') = 'off'
          AND NOT (pg_has_role(s.srvowner, 'USAGE') AND m.umuser = 0)
          AND NOT (m.usename = current_user AND (pg_has_role(s.srvowner, 'USAGE')
                                                 OR has_server_privilege(s.oid, 'USAGE')))
        """,
    ),
    (
        "foreign table",
        "its rows are another server's: back that one up",
        """
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'f'
        """,
    ),
    (
        "tablespace",
        "a dump only names it: make it before a restore, or give --no-tablespaces",
        """
        SELECT DISTINCT quote_ident(t.spcname) FROM pg_tablespace t
        WHERE t.oid IN (SELECT reltablespace FROM pg_class WHERE NOT relisshared)
           OR t.spcname <> 'pg_default'
              AND t.oid = (SELECT dattablespace FROM pg_database WHERE datname = current_database())
        """,
    ),
    (
        "unlogged table",
        "a standby has no rows of it: back up the primary, or make it a logged one",
        """
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND pg_is_in_recovery()
        """,
    ),
    (
        "replication slot",
        "it is the server's: make it after a restore",
        """
        SELECT quote_ident(slot_name) FROM pg_replication_slots
        WHERE database = current_database() AND NOT temporary
        """,
    ),
    (
        "object in a schema of the system",
        "pg_dump takes nothing of it: move it to another schema",
        """
        SELECT told FROM (
          SELECT oid::regprocedure::text AS told, tableoid AS class, oid, pronamespace AS within
          FROM pg_proc
          UNION ALL
          SELECT oid::regclass::text, tableoid, oid, relnamespace FROM pg_class
          WHERE relkind IN ('r', 'v', 'm', 'S', 'p', 'f')
          UNION ALL
          SELECT oid::regtype::text, tableoid, oid, typnamespace FROM pg_type
          WHERE typrelid = 0 AND typelem = 0
          UNION ALL
          SELECT oid::regoperator::text, tableoid, oid, oprnamespace FROM pg_operator) AS made
        WHERE oid >= 16384 AND within IN ('pg_catalog'::regnamespace,
                                          to_regnamespace('information_schema'))
          AND NOT EXISTS (SELECT FROM pg_depend d
                          WHERE d.classid = made.class AND d.objid = made.oid AND d.deptype = 'e')
        """,
    ),
    (
        "added to an extension",
        "pg_dump leaves it out with all of the extension's table: keep the statement that makes it",
        # What the extension made was written by a transaction that made its members as well. After
        # pg_upgrade, which makes each by itself, that cannot be known: then none of it is told.
        """
        WITH members AS (
          SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS called, d.refobjid AS extension,
                 d.xmin::text = t.xmin::text AS made_by_it
          FROM pg_depend d
          JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_type t ON t.oid = c.reltype
          WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass
            AND d.deptype = 'e'),
        added AS (
          SELECT indrelid AS relation, 'index' AS kind, relname AS name, i.xmin::text AS maker
          FROM pg_index i JOIN pg_class c ON c.oid = indexrelid
          WHERE NOT EXISTS (SELECT FROM pg_constraint o
                            WHERE o.conindid = indexrelid AND o.conrelid = indrelid)
          UNION ALL
          SELECT tgrelid, 'trigger', tgname, xmin::text FROM pg_trigger WHERE NOT tgisinternal
          UNION ALL
          SELECT ev_class, 'rule', rulename, xmin::text FROM pg_rewrite WHERE rulename <> '_RETURN'
          UNION ALL
          SELECT polrelid, 'policy', polname, xmin::text FROM pg_policy
          UNION ALL
          SELECT conrelid, 'constraint', conname, xmin::text FROM pg_constraint
          WHERE conrelid <> 0 AND contype <> 't'
          UNION ALL
          SELECT stxrelid, 'statistics', stxname, xmin::text FROM pg_statistic_ext
          UNION ALL
          SELECT attrelid, 'column', attname, xmin::text FROM pg_attribute
          WHERE attnum > 0 AND NOT attisdropped)
        SELECT format('%s %I on %s', kind, name, called)
        FROM members m JOIN added ON relation = m.oid
        WHERE made_by_it AND maker NOT IN (
          SELECT xmin::text FROM pg_extension WHERE oid = m.extension
          UNION ALL
          SELECT xmin::text FROM pg_depend
          WHERE refclassid = 'pg_extension'::regclass AND refobjid = m.extension AND deptype = 'e')
        UNION ALL
        SELECT format('%s in publication %I', called, pubname)
        FROM members m JOIN pg_publication_rel ON prrelid = m.oid
        JOIN pg_publication p ON p.oid = prpubid
        """,
    ),
)
_EXTENSION_TABLES: LiteralString = """
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND pg_relation_size(c.oid) > 0
  AND EXISTS (SELECT FROM pg_depend e JOIN pg_extension x ON x.oid = e.refobjid
              WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'
                AND e.refclassid = 'pg_extension'::regclass
                AND c.oid <> ALL (coalesce(x.extconfig, '{}')))
ORDER BY 1, 2
"""


def find_gaps(connection: Connection) -> tuple[Gap, ...]:
    """Return what a dump by the session's role cannot hold. Whatever fails is a gap itself."""
    gaps: list[Gap] = []
    for kind, why, query in _QUERIES:
        try:
            names = sorted(printable(name) for (name,) in connection.execute(query))
        except psycopg.Error as error:
            gaps.append(Gap(kind=kind, name="?", why=f"the server does not tell: {reason(error)}"))
            continue
        gaps += [Gap(kind=kind, name=name, why=why) for name in names]
    try:
        return (*gaps, *_rows_of_extensions(connection))
    except psycopg.Error as error:
        why = f"the server does not tell: {reason(error)}"
        return (*gaps, Gap(kind="extension table", name="?", why=why))


def _rows_of_extensions(connection: Connection) -> Iterator[Gap]:
    """Yield the tables of extensions that hold rows and are no configuration."""
    for schema, table in connection.execute(_EXTENSION_TABLES).fetchall():
        rows: int | None = None
        quoted = Quoted(schema, table)
        with suppress(psycopg.Error), connection.transaction():
            wait = sql.Literal(LOCK_WAIT)
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(wait))
            lock = sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(quoted)
            connection.execute(lock)
            rows, _ = take(connection, look(connection, (schema, table)), "count")
        if rows != 0:
            yield Gap(
                kind="extension table",
                name=printable(f"{schema}.{table}"),
                why=f"{'its' if rows is None else rows} rows are the extension's own, which marks"
                " them as no configuration: what it does not make itself is lost",
            )
