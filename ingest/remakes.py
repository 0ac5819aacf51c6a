"""Statements that make again what somebody gave a table or a view: rights, comments, policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString, TypeAlias

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

Statement: TypeAlias = sql.SQL | sql.Composed
# By format(): %%I quotes a name, %%L a literal. (%s) is a relation that exists.
# What default privileges give to whatever is made may have been taken from this.
_REVOKES: LiteralString = """
    SELECT DISTINCT format('REVOKE ALL ON %%s FROM %%s', c.oid::regclass,
                    CASE a.grantee WHEN 0 THEN 'PUBLIC'
                      ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
    FROM pg_class c JOIN pg_default_acl d ON d.defaclrole = c.relowner AND d.defaclobjtype = 'r',
      aclexplode(d.defaclacl) a WHERE c.oid = %(oid)s AND a.grantee <> c.relowner
"""
_GRANTS: LiteralString = """
    SELECT format('GRANT %%s ON %%s TO %%s%%s', a.privilege_type, c.oid::regclass,
                  CASE a.grantee WHEN 0 THEN 'PUBLIC'
                    ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                  CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = %(oid)s AND a.grantee <> c.relowner
    UNION ALL
    SELECT format('GRANT %%s (%%I) ON %%s TO %%s%%s', a.privilege_type, t.attname,
                  t.attrelid::regclass,
                  CASE a.grantee WHEN 0 THEN 'PUBLIC'
                    ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
                  CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_attribute t, aclexplode(t.attacl) a
    WHERE t.attrelid = %(oid)s AND NOT t.attisdropped AND t.attname = ANY(%(columns)s)
"""
_COMMENTS: LiteralString = """
    SELECT CASE d.objsubid WHEN 0
           THEN format('COMMENT ON %%s %%s IS %%L',
                       CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass,
                       d.description)
           ELSE format('COMMENT ON COLUMN %%s.%%I IS %%L', c.oid::regclass, t.attname,
                       d.description)
           END
    FROM pg_description d JOIN pg_class c ON c.oid = d.objoid
    LEFT JOIN pg_attribute t ON t.attrelid = c.oid AND t.attnum = d.objsubid AND d.objsubid > 0
    WHERE d.classoid = 'pg_class'::regclass AND d.objoid = %(oid)s
      AND (d.objsubid = 0 OR t.attname = ANY(%(columns)s))
"""
_TABLE: LiteralString = """
    SELECT format('ALTER TABLE %%s SET (%%s)', c.oid::regclass, array_to_string(c.reloptions, ', '))
    FROM pg_class c WHERE c.oid = %(oid)s AND c.reloptions IS NOT NULL
    UNION ALL
    SELECT format('ALTER TABLE %%s ENABLE ROW LEVEL SECURITY', oid::regclass)
    FROM pg_class WHERE oid = %(oid)s AND relrowsecurity
    UNION ALL
    SELECT format('ALTER TABLE %%s FORCE ROW LEVEL SECURITY', oid::regclass)
    FROM pg_class WHERE oid = %(oid)s AND relforcerowsecurity
"""
_POLICIES: LiteralString = """
    SELECT format('policy %%I on %%s', p.polname, p.polrelid::regclass),
           format('DROP POLICY %%I ON %%s', p.polname, p.polrelid::regclass),
           format('CREATE POLICY %%I ON %%s AS %%s FOR %%s TO %%s%%s%%s', p.polname,
                  p.polrelid::regclass,
                  CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                  CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                    WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                  (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC'
                                     ELSE quote_ident(pg_get_userbyid(r)) END, ', ')
                   FROM unnest(p.polroles) r),
                  coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', ''),
                  coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')),
           format('COMMENT ON POLICY %%I ON %%s IS %%L', p.polname, p.polrelid::regclass,
                  obj_description(p.oid, 'pg_policy'))
    FROM pg_policy p WHERE p.polrelid = %(oid)s
"""


@dataclass(frozen=True)
class Remake:
    """A statement that makes something again; ``what`` is its name where it may not fit."""

    statement: Statement
    what: str = ""


@dataclass(frozen=True)
class Policy:
    """The statement that drops a policy of row security, and those that make it again."""

    drop: Statement
    restore: tuple[Remake, ...]


def of_table(
    connection: psycopg.Connection[Any], table: int, columns: Sequence[str]
) -> list[Remake]:
    """Return what a table was given, as far as another one with ``columns`` can have it.

    Its policies are apart (:func:`policies`).
    """
    return _remakes(connection, table, columns, _TABLE)


def of_view(connection: psycopg.Connection[Any], view: int) -> list[Remake]:
    """Return what a view was given."""
    rows = connection.execute(
        "SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = %s AND attnum > 0",
        [view],
    )
    return _remakes(connection, view, [name for (name,) in rows])


def policies(connection: psycopg.Connection[Any], table: int) -> list[Policy]:
    """Return the policies of a table."""
    return [
        Policy(sql.SQL(drop), (Remake(sql.SQL(create), what), Remake(sql.SQL(comment))))
        for what, drop, create, comment in connection.execute(_POLICIES, {"oid": table})
    ]


def _remakes(
    connection: psycopg.Connection[Any],
    relation: int,
    columns: Sequence[str],
    *queries: LiteralString,
) -> list[Remake]:
    return [
        Remake(sql.SQL(statement))
        for query in (*queries, _REVOKES, _GRANTS, _COMMENTS)
        for (statement,) in connection.execute(query, {"oid": relation, "columns": columns})
    ]
