"""Reads shapes from pg_catalog, of the source's tables and of the warehouse's types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

from psycopg.rows import class_row, dict_row

from ingest import moments
from ingest.origin import Leaf, Origin
from ingest.shapes import (
    Column,
    Relation,
    SourceType,
    TableShape,
    TypeReference,
    WarehouseType,
    WarehouseTypes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

# What reads whole: a table, the leaves of a partitioned one, the children that inherit.
_RELATIONS: LiteralString = """
    WITH RECURSIVE wanted AS (
      SELECT c.*, n.nspname FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    ), part AS (
      SELECT oid AS root, oid FROM wanted
      UNION
      SELECT p.root, i.inhrelid FROM part p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.oid
    ), size AS (
      SELECT p.root, sum(greatest(c.reltuples, 0)) FILTER (WHERE c.relkind <> 'p') AS rows,
             bool_or(c.reltuples < 0 AND c.relkind <> 'p') AS unknown,
             bool_and(c.relkind IN ('r', 'p') AND coalesce(a.amname, 'heap') = 'heap') AS heap
      FROM part p JOIN pg_catalog.pg_class c ON c.oid = p.oid
      LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
      GROUP BY p.root
    )
    SELECT w.oid, w.nspname AS schema, w.relname AS name, w.relkind::text AS kind,
           w.relispartition AS partition,
           has_schema_privilege(w.relnamespace, 'USAGE') AND has_table_privilege(w.oid, 'SELECT')
             AS readable,
           EXISTS (SELECT FROM pg_catalog.pg_depend d
                   WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = w.oid
                     AND d.deptype = 'e') AS extension,
           CASE WHEN s.unknown OR w.relkind IN ('v', 'f') THEN -1 ELSE s.rows END::bigint AS rows,
           s.heap
    FROM wanted w JOIN size s ON s.root = w.oid
    ORDER BY w.nspname, w.relname
"""

_NAMES: LiteralString = """
    SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY(%s)
"""

# From PostgreSQL 18 on a column is marked by a NOT NULL that is NOT VALID, too, and has NULLs; and
# one that is generated may be computed as it is read.
_COLUMNS: LiteralString = """
    SELECT a.attrelid, a.attname, a.attnum,
           a.attnotnull AND NOT EXISTS
             (SELECT FROM pg_catalog.pg_constraint n
              WHERE n.conrelid = a.attrelid AND n.contype = 'n' AND NOT n.convalidated
                AND a.attnum = ANY(n.conkey)),
           a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod),
           a.atthasmissing OR a.attgenerated <> '',
           coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_attrdef d
      ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated = 'v'
    WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum
"""

# That a column came with a value for all rows stands with the tables that hold them, and a child
# may have had one before its parent. Asked by itself, as most runs have no such table.
_FILLED: LiteralString = """
    WITH RECURSIVE part AS (
      SELECT i.inhparent AS root, i.inhrelid AS oid FROM pg_catalog.pg_inherits i
      WHERE i.inhparent = ANY(%s)
      UNION
      SELECT p.root, i.inhrelid FROM part p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.oid
    )
    SELECT DISTINCT p.root, a.attname
    FROM part p JOIN pg_catalog.pg_attribute a ON a.attrelid = p.oid
    WHERE a.attnum > 0 AND NOT a.attisdropped AND (a.atthasmissing OR a.attislocal)
"""

_TYPES: LiteralString = """
    SELECT t.oid, n.nspname AS schema, t.typname AS name, t.typtype::text AS kind,
           CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND EXISTS
                  (SELECT FROM pg_catalog.pg_type x WHERE x.typarray = t.oid)
                THEN t.typelem ELSE 0 END::bigint AS element,
           -- The order of texts is their collation's, which differs between servers.
           coalesce(nullif(t.typbasetype, 0), CASE r.rngcollation WHEN 0 THEN r.rngsubtype END,
                    m.rngtypid)::bigint AS inner_type,
           pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), r.rngsubtype, m.rngtypid),
                                  CASE WHEN t.typtype = 'd' THEN t.typtypmod END) AS inner_text,
           coalesce((SELECT x.typname FROM pg_catalog.pg_type x WHERE x.oid = r.rngmultitypid), '')
             AS multirange,
           (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
                     a.attname, a.atttypid::bigint,
                     pg_catalog.format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = t.typrelid AND t.typtype = 'c' AND a.attnum > 0
              AND NOT a.attisdropped) AS attributes,
           ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid
                 ORDER BY l.enumsortorder) AS labels,
           -- The bytes of what is infinite from then on were those of finite values.
           CASE WHEN t.oid = 'interval'::regtype
                  AND pg_catalog.current_setting('server_version_num')::int >= 170000
                THEN 17 ELSE 0 END AS since,
           (SELECT x.extname FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
            WHERE d.classid = 'pg_catalog.pg_type'::regclass
              AND d.objid = coalesce(nullif(t.typelem, 0), t.oid)
              AND d.refclassid = 'pg_catalog.pg_extension'::regclass
              AND d.deptype = 'e' LIMIT 1) AS extension
    FROM pg_catalog.pg_type t
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
    LEFT JOIN pg_catalog.pg_range m ON m.rngmultitypid = t.oid
    WHERE t.oid = ANY(%s)
"""

# Of a table whose children hold rows too, an index tells nothing of theirs.
_KEYS: LiteralString = """
    SELECT i.indrelid, i.indisprimary, array_agg(a.attname::text ORDER BY k.place),
           i.indisvalid AND i.indimmediate AND NOT (c.relkind = 'r' AND c.relhassubclass)
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
    CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = ANY(%s) AND i.indisunique AND k.place <= i.indnkeyatts
      AND i.indpred IS NULL AND i.indexprs IS NULL
    GROUP BY i.indexrelid, i.indrelid, i.indisprimary, i.indisvalid, i.indimmediate,
             c.relkind, c.relhassubclass
    ORDER BY i.indexrelid
"""

_LEAVES: LiteralString = """
    WITH RECURSIVE part AS (
      SELECT oid AS root, oid FROM unnest(%s::oid[]) AS oid
      UNION
      SELECT p.root, i.inhrelid FROM part p JOIN pg_catalog.pg_inherits i ON i.inhparent = p.oid
    )
    SELECT p.root, array_agg(c.oid::bigint ORDER BY c.oid),
           array_agg(coalesce(pg_catalog.pg_relation_filenode(c.oid), 0)::bigint ORDER BY c.oid),
           coalesce(sum(pg_catalog.pg_relation_size(c.oid)), 0)::bigint,
           (coalesce(max(pg_catalog.pg_relation_size(c.oid)), 0)
            / pg_catalog.current_setting('block_size')::int)::bigint
    FROM part p JOIN pg_catalog.pg_class c ON c.oid = p.oid
    WHERE c.relkind IN ('r', 'f', 'm')
    GROUP BY p.root
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

# A trusted extension may be created by whoever may create schemas in the database.
INSTALLABLE: LiteralString = """
    SELECT DISTINCT v.name FROM pg_catalog.pg_available_extension_versions v
    WHERE NOT v.installed AND v.trusted AND v.name = ANY(%s)
      AND pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
"""

_SCHEMA_TYPES: LiteralString = """
    SELECT t.typname, t.typtype::text,
           ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid
                 ORDER BY l.enumsortorder),
           coalesce(pg_catalog.obj_description(t.oid, 'pg_type'), '')
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = %s
"""


def relations(connection: psycopg.Connection[Any], schemas: Iterable[str]) -> tuple[Relation, ...]:
    """Return every table and view of ``schemas``, by name."""
    with connection.cursor(row_factory=class_row(Relation)) as cursor:
        return tuple(cursor.execute(_RELATIONS, [list(schemas)]).fetchall())


def names(
    connection: psycopg.Connection[Any], tables: Iterable[Relation]
) -> dict[int, tuple[str, str]]:
    """Return schema and name of those of ``tables`` that are there, by oid."""
    oids = [table.oid for table in tables]
    return {oid: (schema, name) for oid, schema, name in connection.execute(_NAMES, [oids])}


def shapes(
    connection: psycopg.Connection[Any], tables: Sequence[Relation]
) -> tuple[TableShape, ...]:
    """Return columns, keys, sizes and origins of ``tables``, in their order.

    In the transaction that has them locked, as a size is only told with a lock, and whose snapshot
    their rows are read by.
    """
    oids = [table.oid for table in tables]
    columns: dict[int, list[Column]] = {oid: [] for oid in oids}
    derived = {table.oid for table in tables if table.kind not in "rp"}
    leaves: dict[int, tuple[Leaf, ...]] = {}
    sizes: dict[int, tuple[int, int]] = {}
    for root, found, files, size, blocks in connection.execute(_LEAVES, [oids]):
        leaves[root] = tuple(map(Leaf, found, files))
        sizes[root] = size, blocks
    parents = [each.oid for each in tables if each.kind == "p" or len(leaves.get(each.oid, ())) > 1]
    in_parts = {*connection.execute(_FILLED, [parents])} if parents else set()
    for table, name, number, not_null, oid, text, filled, computed in connection.execute(
        _COLUMNS, [oids]
    ):
        has_values = filled or table in derived or (table, name) in in_parts
        columns[table].append(
            Column(name, TypeReference(oid, text), not_null, number, has_values, computed)
        )
    keys: dict[int, tuple[str, ...]] = {}
    unique: dict[int, list[frozenset[str]]] = {oid: [] for oid in oids}
    for table, primary, names_of, guarded in connection.execute(_KEYS, [oids]):
        if primary:
            keys[table] = tuple(names_of)
        if guarded:
            unique[table].append(frozenset(names_of))
    moment = moments.read(connection)
    return tuple(
        TableShape(
            table,
            tuple(columns[table.oid]),
            keys.get(table.oid, ()),
            tuple(unique[table.oid]),
            *sizes.get(table.oid, (0, 0)),
            # What a view reads lies elsewhere, and a refresh writes all of a materialised one anew.
            origin=Origin(
                moment, table.oid, leaves.get(table.oid, ()) if table.kind in "rp" else ()
            ),
        )
        for table in tables
    )


def types(
    connection: psycopg.Connection[Any], tables: Iterable[TableShape]
) -> dict[int, SourceType]:
    """Return every type that columns of ``tables`` are made of, by oid."""
    known: dict[int, SourceType] = {}
    wanted = {column.type.oid for table in tables for column in table.columns}
    while wanted:
        with connection.cursor(row_factory=dict_row) as cursor:
            found = [_type(row) for row in cursor.execute(_TYPES, [list(wanted)])]
        known |= {each.oid: each for each in found}
        wanted = {oid for each in found for oid in _parts(each)} - known.keys()
    return known


def warehouse_types(
    connection: psycopg.Connection[Any], schema: str, source: Iterable[SourceType]
) -> WarehouseTypes:
    """Return what the warehouse has of the types in ``source``, and what ``schema`` has."""
    source = tuple(source)
    builtin = [each.name for each in source if each.schema == "pg_catalog"]
    wanted = list({each.extension for each in source if each.extension})
    known = connection.execute(
        "SELECT t.typname FROM pg_catalog.pg_type t WHERE t.typname = ANY(%s::name[])"
        " AND t.typnamespace = 'pg_catalog'::regnamespace",
        [builtin],
    ).fetchall()
    here = connection.execute(_SCHEMA_TYPES, [schema]).fetchall()
    found = connection.execute(_EXTENSION_TYPES).fetchall() if wanted else []
    installable = connection.execute(INSTALLABLE, [wanted]).fetchall() if wanted else []
    return WarehouseTypes(
        builtin=frozenset(name for (name,) in known),
        extensions={(extension, name): home for extension, name, home in found},
        installable=frozenset(name for (name,) in installable),
        here={
            name: WarehouseType(kind, tuple(labels), comment)
            for name, kind, labels, comment in here
        },
        version=connection.info.server_version // 10_000,
    )


def _type(row: dict[str, Any]) -> SourceType:
    inner = row["inner_type"]
    return SourceType(
        oid=row["oid"],
        schema=row["schema"],
        name=row["name"],
        kind=row["kind"],
        element=row["element"],
        inner=None if inner is None else TypeReference(inner, row["inner_text"]),
        multirange=row["multirange"],
        attributes=tuple(
            (name, TypeReference(oid, text)) for name, oid, text in row["attributes"] or ()
        ),
        labels=tuple(row["labels"]),
        since=row["since"],
        extension=row["extension"],
    )


def _parts(found: SourceType) -> Iterable[int]:
    if found.element:
        yield found.element
    if found.inner:
        yield found.inner.oid
    for _, attribute in found.attributes:
        yield attribute.oid
