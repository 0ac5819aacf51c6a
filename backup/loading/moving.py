"""Tables in another schema than they were in, where nothing that stays is to notice them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backup.loading.archive import Entry, Section
from backup.loading.qualified import inherited, moved, qualified_names
from backup.loading.selection import TABLES, own_names
from backup.postgres.names import printable, quoted
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Collection

    from backup.loading.archive import Archive
    from backup.loading.selection import Selection
    from backup.postgres.names import Name

_NAMESPACES = 2615  # the number of pg_namespace in every catalogue


def in_schema(selection: Selection, schema: str) -> Selection:
    """Return the selection with its tables, and what is theirs, in another schema. Raises Failure.

    Types, functions and tables that are not in the selection stay where they were, and are to
    notice nothing: a foreign key to one of these is left out and told, since its owner could then
    delete no row, and a table that inherits from one is refused. Planner statistics that name the
    old schema are left out; ANALYZE makes them.
    """
    names = [name for entry in selection.entries for name in own_names(entry)]
    relations = [name for _, name in names]
    if twice := sorted({name for name in relations if relations.count(name) > 1}):
        raise Failure(
            f"schema {schema} cannot hold two relations of one name: {', '.join(twice)}",
            hint="Restore one of the tables at a time, each into a schema of its own.",
        )
    known = frozenset(names)
    _refuse_heirs(selection, known)
    selection = selection.without(
        {
            entry.number: f"it points to {printable('.'.join(other))}, which stays where it is"
            for entry in selection.entries
            if entry.kind == "FK CONSTRAINT"
            and (other := [*qualified_names(entry.sql)][1]) not in known
        }
    )
    return replace(
        selection,
        entries=tuple(
            replace(
                entry,
                namespace=schema if entry.namespace is not None else None,
                definition=entry.definition
                and moved(entry.definition, known, schema, literals=entry.kind == "SEQUENCE SET"),
                copy=entry.copy and moved(entry.copy, known, schema, literals=False),
            )
            for entry in selection.entries
            if entry.kind != "STATISTICS DATA"
        ),
    )


def _refuse_heirs(selection: Selection, known: Collection[Name]) -> None:
    """Raise Failure for tables whose rows a table that is not moved would show as its own."""
    heirs = {
        f"{entry.label} inherits from {printable('.'.join(parent))}"
        for entry in selection.entries
        if entry.kind in TABLES
        for parent in inherited(entry.sql)
        if parent not in known
    }
    if heirs:
        raise Failure(
            f"in another schema rows would show twice: {', '.join(sorted(heirs))}",
            hint="Nothing was loaded. Name those tables by --table, too, or restore into another "
            "database.",
        )


def with_schemas(selection: Selection, archive: Archive, there: Collection[str]) -> Selection:
    """Return the selection with the schemas of its tables in front, but for those ``there``."""
    schemas = {entry.schema for entry in selection.entries if entry.kind in TABLES}
    originals = {entry.name: entry for entry in archive.entries if entry.kind == "SCHEMA"}
    unused = max(archive.by_number, default=0) + 1
    made = [
        originals.get(schema) or _schema_entry(unused + number, schema, archive.nowhere)
        for number, schema in enumerate(sorted(schemas - {*there}))
    ]
    return replace(selection, entries=(*made, *selection.entries))


def _schema_entry(number: int, schema: str, place: bytes) -> Entry:
    return Entry(
        number=number, had_dumper=0, catalogue=_NAMESPACES, oid=0, name=schema, kind="SCHEMA",
        section=Section.PRE_DATA, definition=f"CREATE SCHEMA {quoted(schema)};\n", drop="", copy="",
        namespace=None, tablespace=None, access_method=None, relkind=None, owner="",
        with_oids="false", dependencies=(), place=place,
    )  # fmt: skip
