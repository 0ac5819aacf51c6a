"""What hangs on a published table and must outlive its replacement, or a change of its columns.

Views, grants, comments, policies and indexes are read as statements before the old table goes,
and run again on the new one in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from frame.failure import Failure
from ingest import names, remakes
from ingest.errors import said
from ingest.remakes import Remake

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest.remakes import Statement

# Every view on the table, however far, the nearest first.
_VIEWS: LiteralString = """
    WITH RECURSIVE view AS (
      SELECT r.ev_class AS oid, 1 AS depth
      FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> d.refobjid
      WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
        AND d.refobjid = ANY(%s)
      UNION
      SELECT r.ev_class, v.depth + 1
      FROM view v JOIN pg_depend d ON d.refobjid = v.oid AND d.refclassid = 'pg_class'::regclass
        AND d.classid = 'pg_rewrite'::regclass
      JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> v.oid
    )
    SELECT oid FROM view GROUP BY oid ORDER BY max(depth), oid
"""

# What cannot be made again here, or would go without a word, on the table and its views (%s).
_BLOCKERS: LiteralString = """
    WITH object AS (
      SELECT c.oid, c.relkind, c.relowner, c.relnamespace, c.reltype,
             c.oid = ANY(%(tables)s) AS is_table,
             (SELECT t.typarray FROM pg_type t WHERE t.oid = c.reltype) AS typarray
      FROM pg_class c WHERE c.oid = ANY(%(objects)s)
    )
    SELECT CASE o.relkind WHEN 'm' THEN 'materialised view ' ELSE 'relation ' END
           || o.oid::regclass::text
    FROM object o WHERE NOT o.is_table AND o.relkind <> 'v'
    UNION ALL
    SELECT 'view ' || o.oid::regclass::text || ' of ' || pg_get_userbyid(o.relowner)
           || ', as whom this role may not act'
    FROM object o WHERE o.relkind = 'v'
      AND NOT (pg_has_role(o.relowner, 'MEMBER')
               AND has_schema_privilege(o.relowner, o.relnamespace, 'CREATE'))
    UNION ALL
    SELECT 'rule ' || r.rulename || ' on ' || o.oid::regclass::text
    FROM object o JOIN pg_rewrite r ON r.ev_class = o.oid WHERE r.rulename <> '_RETURN'
    UNION ALL
    SELECT 'trigger ' || t.tgname || ' on ' || o.oid::regclass::text
    FROM object o JOIN pg_trigger t ON t.tgrelid = o.oid AND NOT t.tgisinternal
    UNION ALL
    SELECT 'column default on ' || o.oid::regclass::text
    FROM object o JOIN pg_attrdef a ON a.adrelid = o.oid WHERE o.relkind = 'v'
    UNION ALL
    SELECT CASE k.contype WHEN 'c' THEN 'check ' WHEN 'f' THEN 'foreign key '
             WHEN 'u' THEN 'unique ' ELSE 'exclusion ' END
           || 'constraint ' || k.conname || ' on ' || o.oid::regclass::text
    FROM object o JOIN pg_constraint k ON k.conrelid = o.oid AND k.contype IN ('c', 'f', 'u', 'x')
    UNION ALL
    SELECT 'table ' || i.inhrelid::regclass::text
    FROM object o JOIN pg_inherits i ON i.inhparent = o.oid
    UNION ALL
    SELECT 'statistics ' || s.stxname FROM object o JOIN pg_statistic_ext s ON s.stxrelid = o.oid
    UNION ALL
    SELECT 'publication ' || p.pubname
    FROM object o JOIN pg_publication_rel r ON r.prrelid = o.oid
    JOIN pg_publication p ON p.oid = r.prpubid
    UNION ALL
    SELECT pg_describe_object(d.classid, d.objid, d.objsubid)
    FROM object o JOIN pg_depend d
      ON (d.refclassid = 'pg_class'::regclass AND d.refobjid = o.oid
          AND d.classid = 'pg_proc'::regclass)
      OR (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (o.reltype, o.typarray)
          AND d.classid <> 'pg_type'::regclass)
    LIMIT 20
"""

_FOREIGN_KEYS: LiteralString = """
    SELECT 'constraint ' || conname || ' on ' || conrelid::regclass::text
    FROM pg_constraint WHERE confrelid = ANY(%s) ORDER BY 1 LIMIT 20
"""

# By format(): %%I quotes a name, %%L a literal. (%s) is a relation that exists.
_DEFAULTS: LiteralString = """
    SELECT format('GRANT %%s ON %%s TO %%s', a.privilege_type, c.oid::regclass,
                  CASE a.grantee WHEN 0 THEN 'PUBLIC'
                    ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
    FROM pg_class c JOIN pg_default_acl d ON d.defaclrole = c.relowner AND d.defaclobjtype = 'r'
      AND d.defaclnamespace = c.relnamespace, aclexplode(d.defaclacl) a
    WHERE c.oid = to_regclass(%s) AND a.grantee <> c.relowner
"""
_VIEW: LiteralString = """
    SELECT pg_get_userbyid(c.relowner)::text, n.nspname::text, c.relname::text,
           format('CREATE VIEW %%s%%s AS %%s', c.oid::regclass,
                  coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', ''),
                  pg_get_viewdef(c.oid))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %(oid)s
"""
# Definitions from the word USING on: the names before it are those of the old table.
_INDEXES: LiteralString = """
    SELECT i.indisunique, x.relname::text,
           substr(pg_get_indexdef(i.indexrelid),
                  length(format('CREATE %%sINDEX %%I ON %%s', CASE WHEN i.indisunique THEN 'UNIQUE '
                    ELSE '' END, x.relname, i.indrelid::regclass)) + 1),
           ARRAY(SELECT a.attname::text FROM pg_depend d JOIN pg_attribute a
                 ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                 WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                   AND d.refobjid = i.indrelid AND d.refobjsubid > 0),
           obj_description(i.indexrelid, 'pg_class')
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = %(oid)s AND i.indisvalid AND NOT i.indisprimary
      AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
"""


@dataclass(frozen=True)
class Dependents:
    """Statements that lock the views on tables, take them away, and make everything again.

    ``blockers`` are what cannot be made again; with any of them the tables must stay, as they must
    with ``foreign_keys``, which point at them.
    """

    lock: tuple[Statement, ...] = ()
    drop: tuple[Statement, ...] = ()
    restore: tuple[Remake, ...] = ()
    blockers: tuple[str, ...] = ()
    foreign_keys: tuple[str, ...] = ()


def read(connection: psycopg.Connection[Any], tables: Mapping[int, Sequence[str]]) -> Dependents:
    """Return what hangs on tables that are replaced by some with the columns that it says.

    A view on several comes once. Names come out qualified, since the warehouse's sessions have no
    schema of tables in their search_path.
    """
    if not tables:
        return Dependents()
    oids = list(tables)
    views = _views(connection, oids)
    restore: list[Remake] = []
    for table, columns in tables.items():
        restore += remakes.of_table(connection, table, columns)
        for policy in remakes.policies(connection, table):
            restore += policy.restore
    on_views = _on_views(connection, views)
    return Dependents(
        on_views.lock,
        on_views.drop,
        (*restore, *on_views.restore),
        _blockers(connection, oids, [*oids, *views]),
        tuple(text for (text,) in connection.execute(_FOREIGN_KEYS, [oids])),
    )


def read_fixed(connection: psycopg.Connection[Any], table: int) -> Dependents:
    """Return what must be away while columns of a table that stays are altered."""
    views = _views(connection, [table])
    on_views, policies = _on_views(connection, views), remakes.policies(connection, table)
    return Dependents(
        on_views.lock,
        (*on_views.drop, *(policy.drop for policy in policies)),
        (*(each for policy in policies for each in policy.restore), *on_views.restore),
        _blockers(connection, [table], views),
    )


def _views(connection: psycopg.Connection[Any], tables: list[int]) -> list[int]:
    return [oid for (oid,) in connection.execute(_VIEWS, [tables])]


def _blockers(
    connection: psycopg.Connection[Any], tables: list[int], objects: list[int]
) -> tuple[str, ...]:
    rows = connection.execute(_BLOCKERS, {"tables": tables, "objects": objects})
    return tuple(text for (text,) in rows)


def _on_views(connection: psycopg.Connection[Any], views: list[int]) -> Dependents:
    lock: list[Statement] = []
    drop: list[Statement] = []
    restore: list[Remake] = []
    for view in views:
        ((owner, schema, name, create),) = connection.execute(_VIEW, {"oid": view}).fetchall()
        # As its owner: the loader need not inherit that role's rights. LOCK TABLE would lock all
        # that the view reads besides; a new owner that is the old one locks the view alone.
        role, found = sql.Identifier(owner), sql.Identifier(schema, name)
        begin, end = sql.SQL("SET LOCAL ROLE {}").format(role), sql.SQL("RESET ROLE")
        lock[:0] = [begin, sql.SQL("ALTER VIEW {} OWNER TO {}").format(found, role), end]
        drop[:0] = [begin, sql.SQL("DROP VIEW {}").format(found), end]
        make = Remake(sql.SQL(create), f"view {names.display(schema, name)}")
        restore += [Remake(begin), make, *remakes.of_view(connection, view), Remake(end)]
    return Dependents(tuple(lock), tuple(drop), tuple(restore))


def grant_defaults(connection: psycopg.Connection[Any], table: str) -> None:
    """Give on a table, which was made elsewhere, what its schema gives on what is made there."""
    for (statement,) in connection.execute(_DEFAULTS, [table]).fetchall():
        connection.execute(statement)


def copy_indexes(
    connection: psycopg.Connection[Any],
    table: int,
    schema: str,
    target: sql.Identifier,
    columns: Sequence[str],
) -> None:
    """Build the indexes of the published table on ``target``, but for those of columns that went.

    ``schema`` is that of ``target``. An index that is there already is left as it is.
    """
    for unique, name, rest, on, comment in connection.execute(_INDEXES, {"oid": table}).fetchall():
        if set(on) <= {*columns}:
            connection.execute(
                sql.SQL("CREATE {}INDEX IF NOT EXISTS {} ON {}{}").format(
                    sql.SQL("UNIQUE " if unique else ""),
                    sql.Identifier(name),
                    target,
                    sql.SQL(rest),
                )
            )
            connection.execute(
                sql.SQL("COMMENT ON INDEX {} IS {}").format(
                    sql.Identifier(schema, name), sql.Literal(comment)
                )
            )


def restore(connection: psycopg.Connection[Any], kept: Dependents) -> None:
    """Run the statements that make everything again; raise Failure at one that cannot be."""
    for remake in kept.restore:
        try:
            connection.execute(remake.statement)
        except (
            psycopg.errors.UndefinedColumn,
            psycopg.errors.UndefinedFunction,
            psycopg.errors.DatatypeMismatch,
            psycopg.errors.UndefinedTable,
        ) as error:
            if not remake.what:
                raise
            raise Failure(
                f"warehouse: {remake.what}: expected the columns that it was made for,"
                f" found: {said(error)}",
                hint="Drop or change it, then run again.",
            ) from error
