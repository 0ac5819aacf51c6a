"""What the catalogue lists of a database, asked under the fixed search_path of every session."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from backup.postgres.names import printable

if TYPE_CHECKING:
    from backup.postgres.connection import Connection
    from backup.postgres.names import Name


# What pg_dump dumps the rows of: ordinary tables (partitions are some). Those of extensions are
# left out, even the few whose rows it dumps because the extension marks them as configuration.
# The largest, as the catalogue has it, come first, so that work which is shared out ends together:
# to ask for a size is to wait for a lock.
_TABLES: LiteralString = """
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class o ON o.oid = c.reltoastrelid
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relpages + coalesce(o.relpages, 0) DESC, 1, 2
"""
_SEQUENCES: LiteralString = """
SELECT s.schemaname, s.sequencename, s.last_value
FROM pg_sequences s
JOIN pg_namespace n ON n.nspname = s.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.sequencename
WHERE s.schemaname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""
_UNVALIDATED: LiteralString = """
SELECT format('%I on %I.%I', o.conname, n.nspname, c.relname)
FROM pg_constraint o
JOIN pg_class c ON c.oid = o.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT o.convalidated
ORDER BY 1
"""
# Not those of partitioned tables: one that is not attached to all is invalid by its definition.
_INVALID_INDEXES: LiteralString = """
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready)
ORDER BY 1
"""
_EXTENSIONS: LiteralString = "SELECT extname, extversion FROM pg_extension ORDER BY 1"
# All large objects together, told of as if they were one more table.
LARGE_OBJECTS: Name = ("pg_catalog", "pg_largeobject")


def list_tables(connection: Connection) -> list[Name]:
    """Return schema and name of every table whose rows a dump holds, the largest first.

    As the server has them, and not :func:`shown`.
    """
    return [(schema, name) for schema, name in connection.execute(_TABLES)]


def shown(table: Name) -> Name:
    """Return schema and name as a manifest has them."""
    schema, name = map(printable, table)
    return schema, name


def large_objects(connection: Connection) -> list[Name]:
    """Return the one name of all large objects, or nothing where there are none."""
    found = connection.execute("SELECT EXISTS (SELECT FROM pg_largeobject_metadata)").fetchone()
    return [LARGE_OBJECTS] if found == (True,) else []


def sequence_values(connection: Connection) -> dict[Name, int | None]:
    """Return the last value of every sequence, None of one that was not asked yet.

    Sequences know no snapshot: these are the values of now.
    """
    return {shown((schema, name)): value for schema, name, value in connection.execute(_SEQUENCES)}


def extensions(connection: Connection) -> dict[str, str]:
    """Return the version of every extension, by name."""
    return {printable(name): of for name, of in connection.execute(_EXTENSIONS)}


def unvalidated(connection: Connection) -> tuple[str, ...]:
    """Return the constraints that old rows may break, as their owner wanted it (NOT VALID)."""
    return tuple(printable(name) for (name,) in connection.execute(_UNVALIDATED))


def invalid_indexes(connection: Connection) -> tuple[str, ...]:
    """Return the indexes that PostgreSQL would not use."""
    return tuple(printable(name) for (name,) in connection.execute(_INVALID_INDEXES))
