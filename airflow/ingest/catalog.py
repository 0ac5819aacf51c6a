"""Reads shapes from pg_catalog, of the source's tables and of the warehouse's types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

from psycopg.rows import class_row, dict_row

from ingest.shapes import Column, Relation, SourceType, TableShape, WarehouseTypes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

_RELATIONS: LiteralString = """
    SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
           c.relispartition AS partition,
           has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
             AS readable,
           EXISTS (SELECT FROM pg_catalog.pg_depend d
                   WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                     AND d.deptype = 'e') AS extension
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    ORDER BY n.nspname, c.relname
"""

# Domains are followed down to the type that they restrict: rows of the source obey them already.
_COLUMNS: LiteralString = """
    WITH RECURSIVE stored AS (
      SELECT a.attrelid, a.attnum, a.attname, a.attnotnull,
             t.oid AS typid, a.atttypmod AS typmod, t.typtype, t.typbasetype, t.typtypmod
      FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
      WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped
      UNION ALL
      SELECT s.attrelid, s.attnum, s.attname, s.attnotnull,
             t.oid, s.typtypmod, t.typtype, t.typbasetype, t.typtypmod
      FROM stored s JOIN pg_catalog.pg_type t ON t.oid = s.typbasetype
      WHERE s.typtype = 'd'
    )
    SELECT s.attrelid AS table, s.attname AS column, s.attnotnull AS not_null,
           pg_catalog.format_type(s.typid, s.typmod) AS declaration,
           n.nspname AS schema, e.typname AS name, e.typtype::text AS kind, e.oid <> t.oid AS array,
           (SELECT x.extname FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
            WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = e.oid
              AND d.refclassid = 'pg_catalog.pg_extension'::regclass
              AND d.deptype = 'e') AS extension,
           ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum l WHERE l.enumtypid = e.oid
                 ORDER BY l.enumsortorder) AS labels
    FROM stored s
    JOIN pg_catalog.pg_type t ON t.oid = s.typid
    JOIN pg_catalog.pg_type e
      ON e.oid = CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND t.typelem <> 0
                       AND EXISTS (SELECT FROM pg_catalog.pg_type x WHERE x.typarray = t.oid)
                 THEN t.typelem ELSE t.oid END
    JOIN pg_catalog.pg_namespace n ON n.oid = e.typnamespace
    WHERE s.typtype <> 'd'
    ORDER BY s.attrelid, s.attnum
"""

_KEYS: LiteralString = """
    SELECT i.indrelid, array_agg(a.attname::text ORDER BY k.place)
    FROM pg_catalog.pg_index i
    CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = ANY(%s) AND i.indisprimary AND k.place <= i.indnkeyatts
    GROUP BY i.indrelid
"""

_EXTENSION_TYPES: LiteralString = """
    SELECT x.extname, t.typname, n.nspname
    FROM pg_catalog.pg_extension x
    JOIN pg_catalog.pg_depend d ON d.refobjid = x.oid AND d.deptype = 'e'
      AND d.refclassid = 'pg_catalog.pg_extension'::regclass
    JOIN pg_catalog.pg_type t ON t.oid = d.objid AND d.classid = 'pg_catalog.pg_type'::regclass
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE pg_catalog.has_schema_privilege(n.oid, 'USAGE')
"""

_SCHEMA_TYPES: LiteralString = """
    SELECT t.typname, t.typtype::text,
           ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid
                 ORDER BY l.enumsortorder)
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = %s
"""


def relations(connection: psycopg.Connection[Any], schemas: Iterable[str]) -> tuple[Relation, ...]:
    """Return every table and view of ``schemas``, by name."""
    with connection.cursor(row_factory=class_row(Relation)) as cursor:
        return tuple(cursor.execute(_RELATIONS, [list(schemas)]).fetchall())


def shapes(
    connection: psycopg.Connection[Any], tables: Sequence[Relation]
) -> tuple[TableShape, ...]:
    """Return the columns and keys of ``tables``, in their order."""
    oids = [table.oid for table in tables]
    columns: dict[int, list[Column]] = {oid: [] for oid in oids}
    with connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(_COLUMNS, [oids]):
            table, name, not_null = row.pop("table"), row.pop("column"), row.pop("not_null")
            stored = SourceType(**{**row, "labels": tuple(row["labels"])})
            columns[table].append(Column(name, stored, not_null))
    keys = dict(connection.execute(_KEYS, [oids]).fetchall())
    return tuple(
        TableShape(table, tuple(columns[table.oid]), tuple(keys.get(table.oid, ())))
        for table in tables
    )


def warehouse_types(
    connection: psycopg.Connection[Any], schema: str, declarations: Sequence[str]
) -> WarehouseTypes:
    """Return which of ``declarations`` the warehouse knows, and its enums in ``schema``."""
    known = connection.execute(
        "SELECT d FROM unnest(%s::text[]) AS d WHERE pg_catalog.to_regtype(d) IS NOT NULL",
        [list(declarations)],
    ).fetchall()
    extensions = connection.execute(_EXTENSION_TYPES).fetchall()
    here = connection.execute(_SCHEMA_TYPES, [schema]).fetchall()
    return WarehouseTypes(
        builtin=frozenset(declaration for (declaration,) in known),
        extensions={(extension, name): home for extension, name, home in extensions},
        enums={name: tuple(labels) for name, kind, labels in here if kind == "e"},
        other=frozenset(name for name, kind, _ in here if kind not in "ec"),
    )
