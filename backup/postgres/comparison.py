"""Whether a restored database is what its manifest says, and sound."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backup.pipeline import ChildFailed, Pipeline, Stage
from backup.postgres.contents import (
    Inventory,
    compare_sequences,
    compare_tables,
    invalid_indexes,
    large_objects,
    list_tables,
    sequence_values,
    unvalidated,
)

if TYPE_CHECKING:
    from pathlib import Path

    from backup.manifest import Manifest
    from backup.postgres.connection import PostgresUri

DAMAGE_BYTES = 4096  # of pg_amcheck's words


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
