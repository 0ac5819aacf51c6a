"""What a drill does with each kind of backup to see that it is whole, and how long that takes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backup.cluster import check_snapshot
from backup.contents import (
    Inventory,
    compare_sequences,
    compare_tables,
    invalid_indexes,
    large_objects,
    list_tables,
    sequence_values,
    unvalidated,
)
from backup.pipeline import ChildFailed, Pipeline, Stage, run_tool
from backup.restore import extract, restore
from backup.scratch import private_directory
from backup.scratch_server import scratch_server
from backup.target import Wanted
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backup.connection import PostgresUri
    from backup.crypt import Keyring
    from backup.manifest import Manifest, Source
    from backup.registry import Kind
    from backup.settings import Settings
    from backup.store import Store

DAMAGE_BYTES = 4096  # of pg_amcheck's words
# Of a server's globals, what a throwaway server can have as well: it has no place for tablespaces.
ROLE_LINES = ("CREATE ROLE ", "ALTER ROLE ", "GRANT ")


@dataclass(frozen=True)
class Proof:
    """A restore: its seconds, the bytes that it brought back, and what is not as it was."""

    seconds: float
    size: int
    differences: tuple[str, ...]


def _source(manifest: Manifest) -> Source:
    if manifest.source is None:
        raise Failure(
            f"manifest of {manifest.id} does not tell of its server",
            hint="It was changed or is of another program; use another backup.",
        )
    return manifest.source


def _database(
    settings: Settings, store: Store, ring: Keyring, manifest: Manifest, jobs: int
) -> Proof:
    source = _source(manifest)
    with scratch_server(settings.pg_bin, settings.scratch) as server:
        target = server.create_database(manifest.database, source)
        began = time.monotonic()
        restore(
            store, manifest, ring, target, Wanted(jobs),
            scratch=settings.scratch, pg_bin=settings.pg_bin,
        )  # fmt: skip
        seconds = time.monotonic() - began
        differences = compare(manifest, target, jobs) + damage(settings.pg_bin, target, jobs)
    return Proof(seconds, source.size, tuple(differences))


def compare(manifest: Manifest, target: PostgresUri, jobs: int) -> list[str]:
    """Return what of the database ``target`` is not as the manifest says, or not sound."""
    with target.connect("drill") as connection:
        found = compare_sequences(manifest.sequences, sequence_values(connection))
        loose = sorted({*unvalidated(connection)} - {*manifest.unvalidated})
        found += [f"constraint {name} is not valid" for name in loose]
        found += [f"index {name} is not valid" for name in invalid_indexes(connection)]
        tables = list_tables(connection) + large_objects(connection)
    digests = any(table.digest for table in manifest.tables)
    with Inventory(lambda: target.connect("drill"), jobs, tables, digests=digests) as inventory:
        return compare_tables(manifest.tables, inventory.tables()) + found


def damage(pg_bin: Path, target: PostgresUri, jobs: int) -> list[str]:
    """Return what pg_amcheck finds in the pages of tables and indexes."""
    argv = [str(pg_bin / "pg_amcheck"), "--install-missing", "--no-password", f"--jobs={jobs}"]
    stages = [Stage(argv, target.environment())]
    with os.fdopen(os.memfd_create("pg_amcheck"), "w+b") as told:
        try:
            with Pipeline(stages, sink=told, hint="Look at the scratch disk.") as pipeline:
                pipeline.finish()
        except ChildFailed as error:
            told.seek(0)
            return [error.message, *told.read(DAMAGE_BYTES).decode(errors="replace").splitlines()]
    return []


def _globals(
    settings: Settings, store: Store, ring: Keyring, manifest: Manifest, jobs: int
) -> Proof:
    """Make the roles in a server of the drill's own, and let that one tell them."""
    with (
        private_directory(settings.scratch, "globals") as directory,
        scratch_server(settings.pg_bin, settings.scratch) as server,
    ):
        began = time.monotonic()
        plain = directory / "globals.sql"
        extract(store, manifest, ring, plain)
        environment = server.uri("postgres").environment()
        # Without ON_ERROR_STOP: the role that makes a server is in each, tablespaces in none.
        run_tool(
            [settings.pg_bin / "psql", "--no-psqlrc", "--quiet", f"--file={plain}"], environment
        )
        seconds = time.monotonic() - began
        told = run_tool(
            [settings.pg_bin / "pg_dumpall", "--globals-only", "--no-role-passwords",
             "--database=postgres"],
            environment,
        )  # fmt: skip
        wanted, size = plain.read_text().splitlines(), plain.stat().st_size
    found = set(told.splitlines())
    missing = [line for line in wanted if line.startswith(ROLE_LINES) and line not in found]
    lost = [role for role in _source(manifest).roles if not _names(role, wanted)]
    return Proof(
        seconds,
        size,
        (
            *(f"role {role} is not in the dump" for role in lost),
            *(f"not restored: {line}" for line in missing),
        ),
    )


def _names(role: str, lines: list[str]) -> bool:
    quoted = role.replace('"', '""')
    return any(line in (f"CREATE ROLE {role};", f'CREATE ROLE "{quoted}";') for line in lines)


def _cluster(
    settings: Settings, store: Store, ring: Keyring, manifest: Manifest, jobs: int
) -> Proof:
    """Read the snapshot to its end; whether a server would take it only a server can tell."""
    with private_directory(settings.scratch, "snapshot") as directory:
        began = time.monotonic()
        plain = directory / "snapshot"
        extract(store, manifest, ring, plain)
        with plain.open("rb") as stream:
            check_snapshot(manifest.kind, stream)
        return Proof(time.monotonic() - began, plain.stat().st_size, ())


PROOFS: dict[Kind, Callable[[Settings, Store, Keyring, Manifest, int], Proof]] = {
    "database": _database,
    "globals": _globals,
    "nomad": _cluster,
    "vault": _cluster,
}
