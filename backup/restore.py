"""From the bucket back into a database, with nothing committed before everything was checked."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import psycopg
import structlog
from psycopg import sql
from psycopg.conninfo import make_conninfo

from backup.connection import one_line, plain_environment
from backup.contents import list_tables
from backup.crypt import Keyring, decrypt
from backup.errors import BackupError, WrongUse
from backup.pipeline import Pipeline, Stage, run_tool
from backup.scratch import private_directory, require_room

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backup.connection import PostgresUri
    from backup.manifest import Manifest, Source
    from backup.store import Store

Owners = Literal["keep", "skip"]

# Anything that a user made, extensions' own objects aside.
CONTENTS = """
SELECT 'schema ' || nspname FROM pg_namespace n
WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_namespace'::regclass
                  AND d.objid = n.oid AND d.deptype = 'e')
UNION ALL
SELECT 'relation ' || oid::regclass FROM pg_class c
WHERE relnamespace = to_regnamespace('public')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT 'function ' || oid::regproc FROM pg_proc p
WHERE pronamespace = to_regnamespace('public')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                  AND d.objid = p.oid AND d.deptype = 'e')
UNION ALL
SELECT 'large object ' || oid FROM pg_largeobject_metadata
LIMIT 3
"""

log = structlog.get_logger()


def fetch(store: Store, manifest: Manifest, directory: Path) -> Path:
    """Download the encrypted dump and return its path once size and SHA-256 are as they were."""
    dump = manifest.dump
    require_room(directory, dump.size, f"backup {manifest.id}")
    path = directory / "dump.zst.gpg"
    size, sha256 = store.download(dump.name, dump.file_id, path)
    if (size, sha256) != (dump.size, dump.sha256):
        raise BackupError(
            f"object {dump.name} is damaged: {size} bytes with SHA-256 {sha256}, "
            f"{dump.size} with {dump.sha256} expected",
            hint="Use another backup, and look who or what changed this one.",
        )
    return path


def unpack(ring: Keyring, manifest: Manifest, encrypted: Path) -> Path:
    """Decrypt to a plain dump beside ``encrypted``, which is removed to give its room back.

    On disk because pg_restore reads no pipe when it works in parallel. How long a dump is in plain
    is not known beforehand; the database's own size stands for it.
    """
    require_room(encrypted.parent, manifest.source.size, f"plain dump of {manifest.database}")
    plain = encrypted.with_name("dump")
    decrypt(ring, encrypted, plain, manifest.recipients)
    encrypted.unlink()
    return plain


@dataclass(frozen=True)
class Wanted:
    """How a restore is to be done.

    ``owners``: keep them and all privileges, or own everything oneself. ``create`` makes the
    database if there is none of that name, ``create_roles`` the roles that are missing, without a
    login. ``tables``, as ``schema.table``, are all that is restored, with their keys but without
    other indexes, defaults and foreign keys, into a database that may hold other things. ``jobs``
    load beside each other; a single one loads in one transaction.
    """

    jobs: int
    owners: Owners = "keep"
    create: bool = False
    create_roles: bool = False
    tables: tuple[str, ...] = ()


def create_database(target: PostgresUri, source: Source) -> None:
    """Make the target database like ``source``, unless it is there."""
    name = sql.Identifier(target.database())
    with target.in_database("postgres").connect("restore") as connection:
        try:
            connection.execute(
                sql.SQL(
                    "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}"
                ).format(
                    name,
                    sql.Literal(source.encoding),
                    sql.Literal(source.collate),
                    sql.Literal(source.ctype),
                )
            )
        except psycopg.errors.DuplicateDatabase:
            return
        except psycopg.Error as error:
            raise BackupError(
                f"database {target.database()} cannot be created: {one_line(error)}",
                hint="Create it as you want it, TEMPLATE template0, and restore without --create.",
            ) from error


def check_target(
    connection: psycopg.Connection[tuple[Any, ...]], manifest: Manifest, wanted: Wanted
) -> None:
    """Raise unless nothing is there that what comes would meet."""
    database = connection.info.dbname
    if wanted.tables:
        known = {f"{table.schema_name}.{table.table}" for table in manifest.tables}
        if strangers := [table for table in wanted.tables if table not in known]:
            raise WrongUse(
                f"backup {manifest.id} holds no table {', '.join(strangers)}",
                hint="Give schema.table; `backup show ID` lists them.",
            )
        there = {f"{schema}.{table}" for schema, table in list_tables(connection)}
        contents = [f"relation {table}" for table in wanted.tables if table in there]
    else:
        contents = [name for (name,) in connection.execute(CONTENTS)]
    if contents:
        raise BackupError(
            f"target database {database} is not empty: it has {', '.join(contents)}",
            hint="Restore into a new database; --create makes it.",
        )


def provide_roles(
    connection: psycopg.Connection[tuple[Any, ...]], manifest: Manifest, wanted: Wanted
) -> None:
    """Raise if roles are missing that own or may do something, or make them if that is wanted."""
    if wanted.owners == "skip":
        return
    known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
    missing = [role for role in manifest.source.roles if role not in known]
    if missing and not wanted.create_roles:
        raise BackupError(
            f"target server has no role {', '.join(missing)}",
            hint="Create them, give --create-roles, or --owners skip to own everything yourself.",
        )
    for role in missing:
        with suppress(psycopg.errors.DuplicateObject):
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        log.info("role created, without a login", role=role)


def load(pg_bin: Path, plain: Path, target: PostgresUri, wanted: Wanted) -> None:
    """Load a plain dump into the target database.

    With one job it is one transaction; with more, a failure leaves the target half full.
    """
    chosen = _chosen(pg_bin, plain, wanted.tables) if wanted.tables else None
    argv: list[str | Path] = [
        pg_bin / "pg_restore", "--exit-on-error", "--no-password",
        # As a conninfo string, or a name with = in it would be read as one.
        f"--dbname={make_conninfo(dbname=target.database())}",
        *(["--single-transaction"] if wanted.jobs == 1 else [f"--jobs={wanted.jobs}"]),
        *(["--no-owner", "--no-privileges"] if wanted.owners == "skip" else []),
        *([f"--use-list={chosen}"] if chosen else []),
        plain,
    ]  # fmt: skip
    hint = "Drop the target database, create it again and repeat the restore."
    with Pipeline([Stage(argv, target.environment())], hint=hint) as pipeline:
        pipeline.read_all()


def _chosen(pg_bin: Path, plain: Path, tables: Sequence[str]) -> Path:
    """Write the lines of the dump's own list that make ``tables``, and return the file."""
    kinds = ("TABLE", "TABLE DATA", "CONSTRAINT")
    wanted = tuple(
        f"{kind} {schema} {name} "
        for schema, _, name in (table.partition(".") for table in tables)
        for kind in kinds
    )
    listed = run_tool([pg_bin / "pg_restore", "--list", plain], plain_environment())
    # A line is "3330; 0 16390 TABLE DATA public people postgres".
    lines = [
        line
        for line in listed.splitlines()
        if line[:1].isdigit() and line.split(" ", 3)[-1].startswith(wanted)
    ]
    chosen = plain.with_name("list")
    chosen.write_text("\n".join(lines))
    return chosen


def restore(
    store: Store,
    manifest: Manifest,
    ring: Keyring,
    target: PostgresUri,
    wanted: Wanted,
    *,
    scratch: Path,
    pg_bin: Path,
) -> None:
    """Restore the backup of ``manifest`` into the database ``target``."""
    if wanted.create:
        create_database(target, manifest.source)
    with target.connect("restore") as connection:
        check_target(connection, manifest, wanted)
        provide_roles(connection, manifest, wanted)
    with private_directory(scratch, "restore") as directory:
        encrypted = fetch(store, manifest, directory)
        log.info("dump downloaded and checked", id=manifest.id, size=manifest.dump.size)
        plain = unpack(ring, manifest, encrypted)
        log.info("dump decrypted", id=manifest.id, size=plain.stat().st_size)
        load(pg_bin, plain, target, wanted)
    log.info("restored", id=manifest.id, database=manifest.database)


def verify(store: Store, manifest: Manifest, ring: Keyring, *, scratch: Path) -> None:
    """Read the whole object again: size, SHA-256, that it decrypts and that it unpacks."""
    with private_directory(scratch, "verify") as directory:
        decrypt(ring, fetch(store, manifest, directory), None, manifest.recipients)
