"""Loading a plain dump with pg_restore: all of it, some tables, or all but some."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, LiteralString

from backup.loading.archive import read_archive
from backup.loading.collisions import objects_there, refuse_collisions
from backup.loading.loader import Loader
from backup.loading.moving import in_schema, with_schemas
from backup.loading.offsets import write_offsets
from backup.loading.selection import (
    TABLES,
    LeftOut,
    Named,
    Selection,
    all_entries,
    event_triggers_last,
    named,
    of_tables,
    without_comments_on_extensions,
    without_roles,
    without_tables,
)
from frame.failure import WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from backup.loading.archive import Archive, Entry
    from backup.loading.collisions import Object
    from backup.loading.words import Listener
    from backup.manifest import Manifest
    from backup.postgres.connection import PostgresUri
    from backup.postgres.names import Name
    from backup.restoration.target import Wanted

SLOWEST = 5  # entries that are told of
# Messages are read whatever their language, but best in English; who is no superuser cannot choose.
_SERVER: LiteralString = """
SELECT (SELECT array_agg(nspname::text) FROM pg_namespace),
       (SELECT array_agg(rolname::text) FROM pg_roles), rolsuper,
       current_setting('lc_messages') ~ '^(C|POSIX|en_.*|)$'
FROM pg_roles WHERE rolname = current_user
"""


@dataclass(frozen=True)
class FailedObject(Named):
    """Something of the archive that PostgreSQL refused; ``error`` is its own ERROR line.

    ``kind`` is pg_dump's word, such as ``FK CONSTRAINT``, or ``session`` for a setting;
    ``schema_name`` is empty for what is in no schema. No value of a row is in ``error``.
    ``because`` names the failed object that this one needs, if there is one.
    """

    error: str
    because: str = ""


@dataclass(frozen=True)
class Slow(Named):
    """One of the entries that took longest: rows, or an index."""

    seconds: float


@dataclass(frozen=True)
class Loaded:
    """What a load brought: objects that failed or had to be left out, and how long it took.

    ``schema_seconds`` is of what comes before the rows, ``data_seconds`` of these, with what
    indexes were made meanwhile, and the look where they are in the archive; ``index_seconds`` of
    the rest: indexes, keys and triggers. ``warnings``: what failed and takes nothing from the
    restored database.
    """

    failed: tuple[FailedObject, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    schema_seconds: float = 0.0
    data_seconds: float = 0.0
    index_seconds: float = 0.0
    slowest: tuple[Slow, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Server:
    schemas: frozenset[str]
    roles: frozenset[str]
    superuser: bool
    speaks_english: bool
    objects: frozenset[Object]


def named_tables(manifest: Manifest, texts: Sequence[str]) -> tuple[Name, ...]:
    """Return schema and name of each table that is told as ``schema.table``. Raises WrongUse."""
    known = {(table.schema_name, table.table) for table in manifest.tables}
    known |= {(each.schema_name, each.name) for each in manifest.objects if each.kind in TABLES}
    return _named(known, texts, f"backup {manifest.id}")


def load(pg_bin: Path, plain: Path, target: PostgresUri, wanted: Wanted) -> Loaded:
    """Load the archive ``plain`` into the target database as ``wanted``.

    With one job it is one transaction, unless ``wanted.keep_going``; with more, a failure leaves
    the target half full. Nothing is loaded over what is there already. Raises Failure, with the
    server's own line and no value of a row.
    """
    began = time.monotonic()
    archive = read_archive(plain)
    server = _look_at(target)
    selection = select(archive, wanted, server.schemas, server.roles)
    if not server.superuser:
        selection = without_comments_on_extensions(selection)
    refuse_collisions(selection.entries, server.objects, target.database())
    may_speak_english = server.superuser and not server.speaks_english
    loader = Loader(pg_bin, plain, target, wanted, archive, may_speak_english)
    first, last = event_triggers_last(selection)
    if wanted.whole or wanted.schema:
        listeners = [loader.load((*first, *last))]
    else:
        if wanted.jobs > 1:
            write_offsets(archive, plain)
        listeners = [loader.load(turn) for turn in (first, last) if turn]
    loaded = _outcome(listeners, archive.with_entries((*first, *last)), selection)
    others = loaded.schema_seconds + loaded.index_seconds
    return replace(loaded, data_seconds=time.monotonic() - began - others)


def select(
    archive: Archive, wanted: Wanted, schemas: Iterable[str], roles: Iterable[str]
) -> Selection:
    """Return what of the archive is ``wanted``, on a server with these schemas and roles."""
    tables = {(entry.schema, entry.name) for entry in archive.entries if entry.kind in TABLES}
    selection = all_entries(archive)
    if wanted.tables:
        selection = of_tables(archive, _named(tables, wanted.tables, "the dump"))
    if wanted.excluded:
        excluded = _named(tables, wanted.excluded, "the dump")
        selection = without_tables(selection, archive, excluded)
    if wanted.owners == "skip":
        selection = without_roles(selection, {*roles})
    if wanted.schema:
        selection = in_schema(selection, wanted.schema)
    if wanted.tables:
        selection = with_schemas(selection, archive, {*schemas})
    return selection


def _named(known: Iterable[Name], texts: Sequence[str], where: str) -> tuple[Name, ...]:
    called: dict[str, list[Name]] = {}
    for name in known:
        called.setdefault(".".join(name), []).append(name)
    if strangers := [text for text in texts if text not in called]:
        raise WrongUse(
            f"{where} holds no table {', '.join(strangers)}",
            hint="Give schema.table; `backup show ID` lists them.",
        )
    # Schema "a" with table "b.c" is called like schema "a.b" with table "c": both are meant.
    return tuple(name for text in texts for name in called[text])


def _look_at(target: PostgresUri) -> _Server:
    with target.connect("load") as connection:
        ((schemas, roles, superuser, english),) = connection.execute(_SERVER).fetchall()
        there = objects_there(connection)
    return _Server(frozenset(schemas), frozenset(roles), superuser, english, there)


def _outcome(listeners: list[Listener], archive: Archive, selection: Selection) -> Loaded:
    seconds = [listener.seconds() for listener in listeners]
    taken = {number: each for one in listeners for number, each in one.seconds_of.items()}
    slowest = sorted(taken, key=lambda number: -taken[number])[:SLOWEST]
    return Loaded(
        failed=tuple(_failed(listeners, archive)),
        left_out=selection.left_out,
        schema_seconds=seconds[0]["pre-data"],
        index_seconds=seconds[0]["post-data"] + sum(sum(each.values()) for each in seconds[1:]),
        slowest=tuple(
            Slow(*named(entry), round(taken[entry.number], 3))
            for entry in map(archive.by_number.__getitem__, slowest)
        ),
        warnings=tuple({each: None for one in listeners for each in one.warnings}),
    )


def _failed(listeners: list[Listener], archive: Archive) -> Iterator[FailedObject]:
    """Yield each entry that failed, in the archive's order, with the first that was said of it."""
    errors: dict[int | None, str] = {}
    for listener in listeners:
        for complaint in listener.complaints:
            errors.setdefault(complaint.number, complaint.message)
        if listener.ignored and not (listener.complaints or listener.warnings):
            errors[None] = f"{listener.ignored} errors, not one of them named"
    for entry in archive.entries:
        if entry.number in errors:
            cause = next((each for each in _needs(entry, archive) if each in errors), None)
            because = archive.by_number[cause].label if cause else ""
            error = errors[entry.number]
            yield FailedObject(*named(entry), error, because)
    for number in errors.keys() - archive.by_number.keys():
        yield FailedObject("session", "", "", errors[number])


def _needs(entry: Entry, archive: Archive) -> Iterator[int]:
    """Yield the numbers of all that the entry needs, the nearest first."""
    seen = {entry.number}
    waiting = deque(entry.dependencies)
    while waiting:
        number = waiting.popleft()
        if number not in seen and (needed := archive.by_number.get(number)):
            seen.add(number)
            waiting.extend(needed.dependencies)
            yield number
