"""From the bucket back into a database, with nothing committed before everything was checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import structlog
from psycopg.conninfo import make_conninfo

from backup.crypt import Keyring, decrypt
from backup.errors import BackupError
from backup.pipeline import Pipeline, Stage
from backup.scratch import private_directory, require_room

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from backup.connection import PostgresUri
    from backup.manifest import Manifest
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


def check_target(
    connection: psycopg.Connection[tuple[Any, ...]], manifest: Manifest, owners: Owners
) -> None:
    """Raise unless the target is empty and, to keep owners, knows every role."""
    database = connection.info.dbname
    contents = [name for (name,) in connection.execute(CONTENTS)]
    if contents:
        raise BackupError(
            f"target database {database} is not empty: it has {', '.join(contents)}",
            hint="Restore into a new database: CREATE DATABASE name TEMPLATE template0.",
        )
    known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
    missing = [role for role in manifest.source.roles if role not in known]
    if owners == "keep" and missing:
        raise BackupError(
            f"target server has no role {', '.join(missing)}",
            hint="Create these roles, or give --owners skip to own everything yourself.",
        )


def load(
    pg_bin: Path, plain: Path, target: PostgresUri, *, jobs: int, owners: Owners = "keep"
) -> None:
    """Load a plain dump into an empty database.

    With one job it is one transaction; with more, a failure leaves the target half full.
    """
    argv: list[str | Path] = [
        pg_bin / "pg_restore", "--exit-on-error", "--no-password",
        # As a conninfo string, or a name with = in it would be read as one.
        f"--dbname={make_conninfo(dbname=target.database())}",
        *(["--single-transaction"] if jobs == 1 else [f"--jobs={jobs}"]),
        *(["--no-owner", "--no-privileges"] if owners == "skip" else []),
        plain,
    ]  # fmt: skip
    hint = "Drop the target database, create it again and repeat the restore."
    with Pipeline([Stage(argv, target.environment())], hint=hint) as pipeline:
        pipeline.read_all()


def restore(
    store: Store,
    manifest: Manifest,
    ring: Keyring,
    target: PostgresUri,
    *,
    scratch: Path,
    pg_bin: Path,
    jobs: int,
    owners: Owners = "keep",
) -> None:
    """Restore the backup of ``manifest`` into the empty database ``target``."""
    with target.connect("restore") as connection:
        check_target(connection, manifest, owners)
    with private_directory(scratch, "restore") as directory:
        encrypted = fetch(store, manifest, directory)
        log.info("dump downloaded and checked", id=manifest.id, size=manifest.dump.size)
        plain = unpack(ring, manifest, encrypted)
        log.info("dump decrypted", id=manifest.id, size=plain.stat().st_size)
        load(pg_bin, plain, target, jobs=jobs, owners=owners)
    log.info("restored", id=manifest.id, database=manifest.database)


def verify(store: Store, manifest: Manifest, ring: Keyring, *, scratch: Path) -> None:
    """Read the whole object again: size, SHA-256, that it decrypts and that it unpacks."""
    with private_directory(scratch, "verify") as directory:
        decrypt(ring, fetch(store, manifest, directory), None, manifest.recipients)
