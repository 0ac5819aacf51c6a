"""One backup of one database: a single pass from the server into the bucket."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from backup import __version__
from backup.catalogue import dump_name, manifest_name, new_id
from backup.connection import PostgresUri, plain_environment
from backup.crypt import Keyring, recipients
from backup.errors import BackupError
from backup.manifest import Manifest, StoredDump
from backup.pipeline import Pipeline, Stage, run_tool
from backup.settings import B2_KEY, DATABASE_URI, RECIPIENTS, Settings
from backup.snapshot import LOCK_WAIT, Snapshot, exclusive, exported_snapshot
from backup.store import open_store
from backup.upload import Paced, plan_parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backup.registry import Database

log = structlog.get_logger()


class DumpStream:
    """The encrypted dump as the uploader reads it: counted, hashed, and never ended early.

    Its end is given only after every child ended with 0 and all rows were counted.
    """

    def __init__(self, pipeline: Pipeline, snapshot: Snapshot) -> None:
        self._pipeline = pipeline
        self._inventory = snapshot.inventory
        self._digest = hashlib.sha256()
        self.size = 0

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of ``buffer`` and return how far, or raise what went wrong."""
        count = self._pipeline.readinto(buffer)
        self._inventory.check()
        if not count:
            self._inventory.tables()
        self._digest.update(buffer[:count])
        self.size += count
        return count

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was read so far, in hexadecimal."""
        return self._digest.hexdigest()


def pg_dump_version(pg_bin: Path) -> str:
    """Return the version of ``pg_dump``, such as ``15.18``."""
    told = run_tool([pg_bin / "pg_dump", "--version"], plain_environment())
    found = re.search(r"\(PostgreSQL\) (\S+)", told)
    if not found:
        raise BackupError(
            f"{pg_bin / 'pg_dump'} does not tell its version",
            hint="Point BACKUP_PG_BIN at the bin directory of a PostgreSQL installation.",
        )
    return found[1]


def check_versions(dump_version: str, server_version: int) -> None:
    """Raise if a pg_dump of ``dump_version`` cannot dump a server of ``server_version_num``."""
    server_major = server_version // 10_000
    leading = re.match(r"\d+", dump_version)
    if leading is None or int(leading[0]) < server_major:
        raise BackupError(
            f"pg_dump {dump_version} is older than the server, which is {server_major}",
            hint=f"Build the backup image with PG_MAJOR={server_major} or later.",
        )


def dump_stages(
    pg_bin: Path, uri: PostgresUri, snapshot_id: str, ring: Keyring
) -> tuple[Stage, Stage, Stage]:
    """Return pg_dump, zstd and gpg.

    pg_dump does not compress, because its own zlib is slower than all else together; zstd uses
    every core instead.
    """
    pg_dump: list[str | Path] = [
        pg_bin / "pg_dump", "--format=custom", "--compress=0", "--no-password",
        f"--snapshot={snapshot_id}", f"--lock-wait-timeout={LOCK_WAIT}",
    ]  # fmt: skip
    zstd = ["zstd", "-q", "-T0", "-c"]
    return (
        Stage(pg_dump, uri.environment()),
        Stage(zstd, plain_environment()),
        ring.encrypt_stage(),
    )


def run_backup(
    settings: Settings, database: Database, told: Callable[[int], None] = lambda _size: None
) -> Manifest:
    """Back up ``database`` and return the manifest that was written last.

    ``told`` hears of the bytes of each part that is in the bucket. Raises :class:`BackupError` on
    any failure, and then there is no manifest.
    """
    uri = PostgresUri(settings.secret(DATABASE_URI), str(settings.secret_path(DATABASE_URI)))
    version = pg_dump_version(settings.pg_bin)
    with (
        recipients(settings.secret_path(RECIPIENTS), settings.scratch) as ring,
        open_store(settings, settings.b2_key(B2_KEY)) as store,
        exclusive(uri, database.name),
        exported_snapshot(
            uri,
            lambda server: check_versions(version, server),
            jobs=settings.digest_jobs,
            digests=database.proof == "digests",
        ) as snapshot,
    ):
        # Under the lock, so these are what a killed run left.
        store.cancel_unfinished(f"{settings.prefix}/{database.name}/")
        started = datetime.now(UTC)
        identifier = new_id(started, secrets.token_hex(4))
        plan = plan_parts(
            max(int(database.expected_size), snapshot.source.size), int(settings.part_minimum)
        )
        log.info("backup started", database=database.name, id=identifier, part=plan.first)
        hint = "No backup was made; look at the message and run again."
        stages = dump_stages(settings.pg_bin, uri, snapshot.identifier, ring)
        name = dump_name(settings.prefix, database.name, identifier)
        with Pipeline(stages, hint=hint) as pipeline:
            stream = DumpStream(pipeline, snapshot)
            paced = Paced(stream, settings.bandwidth) if settings.bandwidth else stream
            stored = store.upload_stream(name, paced, plan, told)
        if stored.size != stream.size:
            raise BackupError(
                f"object {name} has {stored.size} bytes in the bucket, {stream.size} were sent",
                hint="Nothing counts as a backup without its manifest; run again.",
            )
        dump = StoredDump(name=name, file_id=stored.file_id, size=stored.size, sha256=stream.sha256)
        manifest = Manifest(
            id=identifier,
            database=database.name,
            dump=dump,
            started=started,
            finished=datetime.now(UTC),
            source=snapshot.source,
            pg_dump_version=version,
            tables=snapshot.inventory.tables(),
            sequences=snapshot.sequences(),
            extensions=snapshot.extensions,
            unvalidated=snapshot.unvalidated,
            recipients=ring.fingerprints,
            program_version=__version__,
        )
        store.put(manifest_name(settings.prefix, database.name, identifier), manifest.to_json())
    log.info("backup done", database=database.name, id=identifier, size=dump.size)
    return manifest
