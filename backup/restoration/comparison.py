"""Whether a restored database is what its manifest says, and sound."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backup.pipeline import ChildFailed, Pipeline, Stage
from backup.postgres.programs import VERSION_UNIT, major_of, program_version
from backup.source.contents import (
    invalid_indexes,
    large_objects,
    list_tables,
    sequence_values,
    shown,
    unvalidated,
)
from backup.source.digests import manner_of
from backup.source.inventory import Inventory
from backup.source.schema import PRIVILEGES, fingerprints
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from backup.manifest import Manifest, SchemaObject, Sequence, TableContents
    from backup.postgres.connection import PostgresUri
    from backup.postgres.names import Name

log = get_logger(__name__)

DAMAGE_BYTES = 4096  # of pg_amcheck's words
# To make and drop an extension although the database is read-only by default, and its event
# triggers are against it; since version 17 those that are always to fire can be silenced, too.
_UNHEARD = {"session_replication_role": "replica", "default_transaction_read_only": "off"}
_MAY_CHECK = """
SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck'),
       EXISTS (SELECT FROM pg_extension WHERE extname = 'amcheck'),
       EXISTS (SELECT FROM pg_settings WHERE name = 'event_triggers')
"""


def compare(
    manifest: Manifest, target: PostgresUri, jobs: int, pg_bin: Path, *, owners: bool = True
) -> list[str]:
    """Return what of the database ``target`` is not as the manifest says, or not sound.

    Without ``owners`` neither owners nor privileges are looked at.
    """
    with target.connect("drill") as connection:
        differences = compare_sequences(manifest.sequences, sequence_values(connection))
        loose = sorted({*unvalidated(connection)} - {*manifest.unvalidated})
        differences += [f"constraint {name} is not valid" for name in loose]
        differences += [f"index {name} is not valid" for name in invalid_indexes(connection)]
        tables = list_tables(connection) + large_objects(connection)
        version = connection.info.server_version
        encoding = connection.info.parameter_status("server_encoding")
    if manifest.objects:  # of older backups they are not known
        objects = fingerprints(pg_bin, target)
        alike = _majors(manifest) == (
            version // 10_000,
            major_of(program_version(pg_bin / "pg_dump")),
        )
        if not alike:
            log.warning("objects are compared by name only: made by another major version")
        differences += compare_objects(
            manifest.objects, objects, owners=owners, names_only=not alike
        )
    digests = {(table.schema_name, table.table): table.digest for table in manifest.tables}
    manners = {name: manner_of(digests.get(shown(name))) for name in tables}
    if encoding != manifest.server.encoding:  # the same text has other bytes
        log.warning("rows are counted only: the target has another encoding", encoding=encoding)
        manners = dict.fromkeys(manners, "count")
    with Inventory(
        lambda: target.connect("drill"), jobs, tables,
        digests=any(digests.values()), manners=manners,
    ) as inventory:  # fmt: skip
        return compare_tables(manifest.tables, inventory.tables()) + differences


def _majors(manifest: Manifest) -> tuple[int, int | None]:
    """Return the major versions of the server and of the pg_dump that wrote of it."""
    return manifest.server.server_version // VERSION_UNIT, major_of(manifest.pg_dump_version)


def compare_tables(expected: Iterable[TableContents], found: Iterable[TableContents]) -> list[str]:
    """Return one sentence for each table that is missing, too many, or of other content.

    Of a table without its proof only what is known of it counts.
    """
    then = {(table.schema_name, table.table): table for table in expected}
    now = {(table.schema_name, table.table): table for table in found}
    differences = []
    for key in sorted(then.keys() | now.keys()):
        label = ".".join(key)
        if key not in now:
            differences.append(f"{label} is missing, {_rows(then[key])} expected")
        elif key not in then:
            differences.append(f"{label} has {_rows(now[key])} and is not in the manifest")
        elif difference := _difference(then[key], now[key]):
            differences.append(f"{label} {difference}")
    return differences


def _difference(then: TableContents, now: TableContents) -> str | None:
    if then.rows is None:
        return None
    if now.rows is None or (now.unproved and then.digest):
        return f"could not be compared, {_rows(then)} expected: {now.unproved}"
    if then.rows != now.rows:
        return f"has {_rows(now)}, {then.rows} expected"
    # Of no rows there is nothing to digest, whatever is written of them.
    if then.rows and then.digest != now.digest and manner_of(then.digest) == manner_of(now.digest):
        return f"has {_rows(now)} as expected, but not the same"
    return None


def _rows(table: TableContents) -> str:
    return "uncounted rows" if table.rows is None else f"{table.rows} rows"


def compare_objects(
    expected: Iterable[SchemaObject],
    found: Iterable[SchemaObject],
    *,
    owners: bool = True,
    names_only: bool = False,
) -> list[str]:
    """Return one sentence for each object of the schema that is missing, too many, or different.

    Without ``owners`` neither those nor privileges count; with ``names_only`` no object's text
    does, which another major version of PostgreSQL may write otherwise.
    """
    then, now = (
        {(each.kind, each.schema_name, each.name): each for each in objects
         if owners or each.kind not in PRIVILEGES}
        for objects in (expected, found)
    )  # fmt: skip
    differences = []
    for key in sorted(then.keys() | now.keys()):
        kind, schema, name = key
        label = f"{kind.lower()} {f'{schema}.{name}' if schema else name}"
        if key not in now:
            differences.append(f"{label} is missing")
            continue
        if key not in then:
            differences.append(f"{label} is not in the manifest")
            continue
        if owners and then[key].owner != now[key].owner:
            differences.append(f"{label} is owned by {now[key].owner}, not {then[key].owner}")
        if not names_only and then[key].digest != now[key].digest:
            differences.append(f"{label} is not the same")
    return differences


def compare_sequences(expected: Iterable[Sequence], found: dict[Name, int | None]) -> list[str]:
    """Return one sentence for each sequence that is missing or stands where it never stood."""
    differences = []
    for sequence in expected:
        key = (sequence.schema_name, sequence.name)
        label, value = ".".join(key), found.get(key)
        if key not in found:
            differences.append(f"sequence {label} is missing")
        elif not sequence.may_stand_at(value):
            differences.append(f"sequence {label} is at {value}, {_bounds(sequence)}")
    return differences


def _bounds(sequence: Sequence) -> str:
    if sequence.before is None or sequence.after is None:
        return "expected not to be asked yet"
    least, most = sorted((sequence.before, sequence.after))
    return f"{least} to {most} expected"


def damage(pg_bin: Path, target: PostgresUri, jobs: int) -> list[str]:
    """Return what pg_amcheck finds in the pages of tables and indexes, if this login may look.

    The extension that it needs is gone afterwards, unless it was there. No event trigger of the
    database hears of it.
    """
    with target.connect("drill") as connection:
        ((superuser, at_hand, there, deaf),) = connection.execute(_MAY_CHECK).fetchall()
    if not (superuser and at_hand):
        log.warning("pages are not looked at: that takes a superuser and the extension amcheck")
        return []
    settings = _UNHEARD | ({"event_triggers": "off"} if deaf else {})
    options = [f"-c {name}={value}" for name, value in settings.items()]
    environment = target.environment()
    environment["PGOPTIONS"] = " ".join([environment.get("PGOPTIONS", ""), *options]).strip()
    argv = [str(pg_bin / "pg_amcheck"), "--install-missing", "--no-password", f"--jobs={jobs}"]
    try:
        return _words_of(Stage(argv, environment))
    finally:
        if not there:
            with target.connect("drill", **settings) as connection:
                connection.execute("DROP EXTENSION IF EXISTS amcheck")


def _words_of(amcheck: Stage) -> list[str]:
    """Return what pg_amcheck says if it ends with anything but 0."""
    with os.fdopen(os.memfd_create("pg_amcheck"), "w+b") as told:
        try:
            with Pipeline([amcheck], sink=told, hint="Look at the scratch disk.") as pipeline:
                pipeline.finish()
        except ChildFailed as error:
            told.seek(0)
            return [error.message, *told.read(DAMAGE_BYTES).decode(errors="replace").splitlines()]
    return []
