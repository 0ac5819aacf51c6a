"""A fingerprint of each object of a schema, from the head of an archive that pg_dump writes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from backup.loading.archive import Section, read_entries
from backup.manifest import SchemaObject
from backup.pipeline import Pipeline, Stage
from backup.postgres.connection import KEEPALIVES
from backup.postgres.names import on_one_line, printable
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from backup.loading.archive import Entry
    from backup.postgres.connection import PostgresUri
    from backup.postgres.names import Name


# Its grants stand in an order of their own, which a restore may change.
PRIVILEGES = ("ACL", "DEFAULT ACL")
# Of other entries the owner is that of what they belong to, or nobody.
_OWNED = frozenset((
    "AGGREGATE", "COLLATION", "CONVERSION", "DOMAIN", "EVENT TRIGGER", "FOREIGN DATA WRAPPER",
    "FOREIGN TABLE", "FUNCTION", "MATERIALIZED VIEW", "OPERATOR", "OPERATOR CLASS",
    "OPERATOR FAMILY", "PROCEDURAL LANGUAGE", "PROCEDURE", "PUBLICATION", "SCHEMA", "SEQUENCE",
    "SERVER", "STATISTICS", "SUBSCRIPTION", "TABLE", "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY", "TYPE", "VIEW",
))  # fmt: skip
# Of the database itself, of large objects, and what pg_restore does besides.
_NO_OBJECTS = frozenset((
    "DATABASE", "DATABASE PROPERTIES", "ENCODING", "STDSTRINGS", "SEARCHPATH", "BLOB",
    "BLOB METADATA", "MATERIALIZED VIEW DATA", "STATISTICS DATA",
))  # fmt: skip
_SAID = ("ACL", "COMMENT", "SECURITY LABEL")
_OF_NO_OBJECT = ("DATABASE ", "LARGE OBJECT ", "LARGE OBJECTS ")
# The roles of a policy stand in the order in which a server made them.
_ROLE = r'(?:"(?:[^"]|"")+"|\w+)'
_TO_ROLES = re.compile(rf"(?<= TO ){_ROLE}(?:, {_ROLE})+(?= (?:USING|WITH CHECK) |;)")
_SET = re.compile(r"setval\('.*', (-?\d+), (true|false)\);\s*$", re.DOTALL)


@dataclass(frozen=True)
class Contents:
    """What the head of a dump tells: objects, whose rows it has, and where sequences stand."""

    objects: tuple[SchemaObject, ...]
    with_rows: frozenset[Name]
    sequences: dict[Name, int | None]


def fingerprints(pg_bin: Path, uri: PostgresUri) -> tuple[SchemaObject, ...]:
    """Return each object of the database. Raises Failure."""
    argv: list[str | Path] = [
        pg_bin / "pg_dump", "--format=custom", "--compress=0", "--schema-only", "--no-password",
        f"--dbname={make_conninfo(dbname=uri.database(), **KEEPALIVES)}",
    ]  # fmt: skip
    stage = Stage(argv, uri.environment())
    with Pipeline([stage], hint="Look at the message of pg_dump.") as pipeline:
        try:
            objects = read_contents(pipeline.stream()).objects
        except Failure:
            pipeline.finish()  # it may be the cause
            raise
        pipeline.read_all()
        return objects


def read_contents(stream: IO[bytes]) -> Contents:
    """Read the head of an archive and leave ``stream`` where the data begins. Raises Failure."""
    texts: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    with_rows: set[Name] = set()
    sequences: dict[Name, int | None] = {}
    for entry in read_entries(stream):
        name = printable(entry.schema), printable(entry.name)
        if entry.kind == "TABLE DATA":
            with_rows.add(name)
        elif entry.kind == "SEQUENCE SET":
            if found := _SET.search(entry.sql):
                sequences[name] = int(found[1]) if found[2] == "true" else None
        elif _is_object(entry):
            key = entry.kind, on_one_line(name[0]), on_one_line(name[1])
            texts.setdefault(key, []).append((_owner(entry), _digest(entry)))
    return Contents(_objects(texts), frozenset(with_rows), sequences)


def _objects(
    texts: dict[tuple[str, str, str], list[tuple[str, str]]],
) -> tuple[SchemaObject, ...]:
    """Return an object for each kind and name; what has one name is one object."""
    return tuple(
        SchemaObject(
            kind=kind, schema_name=schema, name=name, owner=min(owner for owner, _ in said),
            digest=_hash(digest for _, digest in sorted(said)) if len(said) > 1 else said[0][1],
        )
        for (kind, schema, name), said in sorted(texts.items())
    )  # fmt: skip


def _is_object(entry: Entry) -> bool:
    return (
        entry.section is not Section.DATA
        and entry.kind not in _NO_OBJECTS
        and not (entry.kind in _SAID and entry.name.startswith(_OF_NO_OBJECT))
    )


def _owner(entry: Entry) -> str:
    """Return its owner if it has one of its own, as no identity column's sequence has."""
    return printable(entry.owner or "") if entry.kind in _OWNED and entry.drop else ""


def _digest(entry: Entry) -> str:
    """Return the SHA-256 of what makes the object, in hexadecimal. Where it lies does not count."""
    lines = entry.sql.split("\n")
    if entry.kind == "POLICY":
        lines = _TO_ROLES.sub(_in_order, entry.sql).split("\n")
    if entry.kind in PRIVILEGES:
        lines.sort()
    return _hash([*lines, entry.access_method or ""])


def _in_order(roles: re.Match[str]) -> str:
    return ", ".join(sorted(re.findall(_ROLE, roles[0])))


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
