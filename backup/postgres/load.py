"""Loading a plain dump with pg_restore: all of it, some tables, or all but some."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, LiteralString

from psycopg.conninfo import make_conninfo

from backup.pipeline import BLOCK_BYTES, ChildFailed, Pipeline, Stage
from backup.postgres.archive import read_archive
from backup.postgres.offsets import write_offsets
from backup.postgres.selection import (
    TABLES,
    LeftOut,
    Named,
    Selection,
    all_entries,
    in_schema,
    of_tables,
    with_schemas,
    without_roles,
    without_tables,
)
from backup.postgres.words import Complaint, Listener, lines
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from backup.manifest import Manifest
    from backup.postgres.archive import Archive, Entry
    from backup.postgres.connection import PostgresUri
    from backup.postgres.contents import Name
    from backup.postgres.target import Wanted

EVENT_TRIGGER = "EVENT TRIGGER"
SLOWEST = 5  # entries that are told of
# Messages are read whatever their language, but best in English; who is no superuser cannot choose.
_SERVER: LiteralString = """
SELECT (SELECT array_agg(nspname::text) FROM pg_namespace),
       (SELECT array_agg(rolname::text) FROM pg_roles),
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
       AND current_setting('lc_messages') !~ '^(C|POSIX|en_.*|)$'
"""
_OPTIONS = "PGOPTIONS"
_WHOLE = "Nothing was changed in the target"
_PART = "Drop the target database, create it again and repeat the restore"


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

    ``data_seconds`` is of pre-data and data, with what indexes were made meanwhile,
    ``index_seconds`` of the rest: indexes, keys and triggers. ``warnings``: what failed and takes
    nothing from the restored database.
    """

    failed: tuple[FailedObject, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    data_seconds: float = 0.0
    index_seconds: float = 0.0
    slowest: tuple[Slow, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Server:
    schemas: frozenset[str]
    roles: frozenset[str]
    may_speak_english: bool


def named_tables(manifest: Manifest, texts: Sequence[str]) -> tuple[Name, ...]:
    """Return schema and name of each table that is told as ``schema.table``. Raises WrongUse."""
    known = {(table.schema_name, table.table) for table in manifest.tables}
    known |= {(each.schema_name, each.name) for each in manifest.objects if each.kind in TABLES}
    return _named(known, texts, f"backup {manifest.id}")


def load(pg_bin: Path, plain: Path, target: PostgresUri, wanted: Wanted) -> Loaded:
    """Load the archive ``plain`` into the target database as ``wanted``.

    With one job it is one transaction, unless ``wanted.keep_going``; with more, a failure leaves
    the target half full. Raises Failure, with the server's own line and no value of a row.
    """
    archive = read_archive(plain)
    server = _look_at(target)
    selection = select(archive, wanted, server.schemas, server.roles)
    if not wanted.whole and not wanted.schema and wanted.jobs > 1:
        write_offsets(archive, plain)
    program = pg_bin / "pg_restore"
    loads = [
        _load_part(program, archive, part, plain, target, server, wanted)
        for part in _parts(selection, wanted)
    ]
    return _together(loads)


def _parts(selection: Selection, wanted: Wanted) -> list[Selection]:
    """Return what is restored one after the other: event triggers last.

    One job keeps to that order itself. Of more, one may refresh a materialized view when another
    has made the event trigger that forbids it.
    """
    late = {entry.number for entry in selection.entries if _is_of_event_trigger(entry)}
    if wanted.whole or wanted.schema or not late:
        return [selection]
    early = [entry for entry in selection.entries if entry.number not in late]
    last = [entry for entry in selection.entries if entry.number in late]
    return [replace(selection, entries=tuple(early)), Selection(tuple(last))]


def _is_of_event_trigger(entry: Entry) -> bool:
    return entry.kind == EVENT_TRIGGER or entry.name.startswith(f"{EVENT_TRIGGER} ")


def _load_part(
    program: Path,
    archive: Archive,
    selection: Selection,
    plain: Path,
    target: PostgresUri,
    server: _Server,
    wanted: Wanted,
) -> Loaded:
    """Run pg_restore on what is selected."""
    argv: list[str | Path] = [
        program, "--verbose", "--no-password",
        # As a conninfo string, or a name with = in it would be read as one.
        f"--dbname={make_conninfo(dbname=target.database())}",
        *([] if wanted.keep_going else ["--exit-on-error"]),
        *(["--no-owner", "--no-privileges"] if wanted.owners == "skip" else []),
        *(["--no-tablespaces"] if wanted.tablespaces == "skip" else []),
        *(["--single-transaction"] if wanted.whole else []),
    ]  # fmt: skip
    blocks = None
    if wanted.schema:  # through a pipe, which only one process reads
        blocks = _changed(archive, selection, plain)
    else:
        if selection.entries != archive.entries:
            argv.append(f"--use-list={_list(selection, plain.with_name('list'))}")
        if not wanted.whole:
            argv.append(f"--jobs={wanted.jobs}")
        argv.append(plain)
    stage = Stage(argv, _environment(target, server), is_heard=True)
    restored = archive.with_entries(selection.entries)
    listener = Listener(restored)
    _run(stage, blocks, listener, restored, wanted)
    return _outcome(listener, restored, selection)


def _together(loads: Sequence[Loaded]) -> Loaded:
    """Return what loads one after the other came to."""
    slowest = sorted((each for part in loads for each in part.slowest), key=lambda e: -e.seconds)
    return Loaded(
        failed=tuple(each for part in loads for each in part.failed),
        left_out=tuple(each for part in loads for each in part.left_out),
        data_seconds=sum(part.data_seconds for part in loads[:1]),
        index_seconds=sum(part.index_seconds for part in loads)
        + sum(part.data_seconds for part in loads[1:]),
        slowest=tuple(slowest[:SLOWEST]),
        warnings=tuple(dict.fromkeys(each for part in loads for each in part.warnings)),
    )


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
        ((schemas, roles, may_speak_english),) = connection.execute(_SERVER).fetchall()
    return _Server(frozenset(schemas), frozenset(roles), may_speak_english)


def _environment(target: PostgresUri, server: _Server) -> Mapping[str, str]:
    """Return pg_restore's environment: its own words, which are read here, are English."""
    environment = target.environment() | {"LC_ALL": "C"}
    if server.may_speak_english:
        options = environment.get(_OPTIONS, "")
        environment[_OPTIONS] = f"{options} -c lc_messages=C".strip()
    return environment


def _list(selection: Selection, path: Path) -> Path:
    """Write the list that pg_restore restores by: a number a line is enough."""
    path.write_text("".join(f"{entry.number};\n" for entry in selection.entries))
    return path


def _changed(archive: Archive, selection: Selection, plain: Path) -> Iterator[bytes]:
    """Yield the archive with other entries in its head. pg_restore passes over others' data."""
    yield archive.with_entries(selection.entries).without_places().head()
    with plain.open("rb") as stream:
        stream.seek(archive.size)
        while block := stream.read(BLOCK_BYTES):
            yield block


def _run(
    stage: Stage,
    blocks: Iterator[bytes] | None,
    listener: Listener,
    archive: Archive,
    wanted: Wanted,
) -> None:
    """Run pg_restore to its end, or raise for the first thing that failed unless it may."""
    hint = f"{_WHOLE if wanted.whole else _PART}."
    try:
        with (
            ThreadPoolExecutor(1, "feed") as feeder,  # closed last: the child is ended before it
            Pipeline([stage], fed=blocks is not None, hint=hint) as pipeline,
        ):
            feeding = feeder.submit(pipeline.feed, blocks) if blocks else None
            for line in lines(pipeline.blocks()):
                listener.hear(line)
            if feeding:
                feeding.result()
    except ChildFailed as error:
        listener.end()
        if wanted.keep_going and listener.is_complete:
            return
        raise _failure(listener, error, archive, wanted) from None
    listener.end()


def _failure(listener: Listener, error: ChildFailed, archive: Archive, wanted: Wanted) -> Failure:
    """Return what is to be said of a load that ended early."""
    complaints = [*listener.complaints, *(Complaint(None, each) for each in listener.warnings)]
    if not complaints:
        return error
    if wanted.keep_going:  # the last ended it, not those before
        return Failure(f"pg_restore ended early: {complaints[-1].message}", f"{_PART}.")
    complaint = next((each for each in complaints if each.number), complaints[0])
    entry = archive.by_number.get(complaint.number or 0)
    what = f"{entry.label} was not loaded" if entry else "pg_restore ended early"
    way = "mend the cause and repeat it, or give --keep-going to load the rest"
    return Failure(
        f"{what}: {complaint.message}",
        hint=f"{_WHOLE}; {way}." if wanted.whole else f"{_PART}; or give --keep-going.",
    )


def _outcome(listener: Listener, archive: Archive, selection: Selection) -> Loaded:
    seconds = listener.seconds()
    slowest = sorted(listener.seconds_of.items(), key=lambda each: -each[1])[:SLOWEST]
    entries = [(archive.by_number[number], taken) for number, taken in slowest]
    return Loaded(
        failed=tuple(_failed(listener, archive)),
        left_out=selection.left_out,
        data_seconds=seconds["pre-data"] + seconds["data"],
        index_seconds=seconds["post-data"],
        warnings=tuple(listener.warnings),
        slowest=tuple(
            Slow(entry.kind, entry.schema, entry.name, round(taken, 3)) for entry, taken in entries
        ),
    )


def _failed(listener: Listener, archive: Archive) -> Iterator[FailedObject]:
    """Yield each entry that failed, in the archive's order, with the first that was said of it."""
    errors: dict[int | None, str] = {}
    for complaint in listener.complaints:
        errors.setdefault(complaint.number, complaint.message)
    for entry in archive.entries:
        if entry.number in errors:
            cause = next((each for each in _needs(entry, archive) if each in errors), None)
            because = archive.by_number[cause].label if cause else ""
            error = errors[entry.number]
            yield FailedObject(entry.kind, entry.schema, entry.name, error, because)
    for number in errors.keys() - archive.by_number.keys():
        yield FailedObject("session", "", "", errors[number])
    if listener.ignored and not errors and not listener.warnings:
        yield FailedObject("session", "", "", f"{listener.ignored} errors, not one of them named")


def _needs(entry: Entry, archive: Archive) -> list[int]:
    """Return the numbers of all that the entry needs, the nearest first."""
    needed = list(entry.dependencies)
    for number in needed:  # which grows meanwhile
        if number in archive.by_number:
            needed += [
                each for each in archive.by_number[number].dependencies if each not in needed
            ]
    return needed
