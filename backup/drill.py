"""The proof: restore the newest backup of each database and hold it against its manifest."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import structlog
from pydantic import ValidationError

from backup.catalogue import Backup, Catalogue
from backup.connection import one_line
from backup.contents import (
    Inventory,
    compare_sequences,
    compare_tables,
    invalid_indexes,
    list_tables,
    sequence_values,
    unvalidated,
)
from backup.crypt import Keyring, private_key
from backup.errors import BackupError
from backup.page import page
from backup.pipeline import ChildFailed, Pipeline, Stage
from backup.registry import DRILLS
from backup.report import PROMISE_SECONDS, DrillReport, DrillResult
from backup.restore import Wanted, restore
from backup.scratch_server import scratch_server
from backup.settings import B2_KEY, B2_RESULTS_KEY, DRILL_KEY, Settings
from backup.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backup.connection import PostgresUri
    from backup.manifest import Manifest
    from backup.registry import Database

DAMAGE_BYTES = 4096  # of pg_amcheck's words
SHOWN = 24  # earlier drills in the chart: two years

log = structlog.get_logger()


def run_drill(settings: Settings, databases: Sequence[Database], jobs: int) -> DrillReport:
    """Drill every database of ``databases``, whatever becomes of the others, and store the report.

    Raises :class:`BackupError` only for what concerns all of them: settings, keys, the bucket.
    """
    started = datetime.now(UTC)
    with (
        private_key(settings.secret_path(DRILL_KEY), settings.scratch) as ring,
        open_store(settings, settings.b2_key(B2_KEY)) as store,
    ):
        results = []
        for database in databases:
            result = _drill_one(settings, store, ring, database, jobs)
            log.info("drilled", database=database.name, verdict=result.verdict)
            results.append(result)
        report = DrillReport(started=started, finished=datetime.now(UTC), databases=tuple(results))
        _keep(settings, store, report)
    return report


def _drill_one(
    settings: Settings, store: Store, ring: Keyring, database: Database, jobs: int
) -> DrillResult:
    backup: Backup | None = None
    try:
        catalogue = Catalogue(store, settings.prefix)
        backup = catalogue.find([database])
        return _restore_and_compare(settings, store, ring, backup, jobs)
    except BackupError as error:
        why = error.message
    except psycopg.Error as error:
        why = one_line(error)
    except Exception as error:  # one database's surprise must not spare the others
        why = f"{type(error).__name__}: {error}"
    log.error("drill failed", database=database.name, why=why)
    if backup is None:
        return DrillResult(database=database.name, verdict="failed", findings=(why,))
    return DrillResult(
        database=database.name,
        verdict="failed",
        backup_id=backup.id,
        backup_bytes=backup.size,
        backup_age_seconds=backup.age_seconds(datetime.now(UTC)),
        findings=(why,),
    )


def _restore_and_compare(
    settings: Settings, store: Store, ring: Keyring, backup: Backup, jobs: int
) -> DrillResult:
    manifest = Catalogue(store, settings.prefix).manifest(backup)
    age = backup.age_seconds(datetime.now(UTC))
    with scratch_server(settings.pg_bin, settings.scratch) as server:
        target = server.create_database(backup.database, manifest.source)
        began = time.monotonic()
        restore(
            store, manifest, ring, target, Wanted(jobs),
            scratch=settings.scratch, pg_bin=settings.pg_bin,
        )  # fmt: skip
        seconds = time.monotonic() - began
        differences = _compare(manifest, target, jobs) + _damage(settings.pg_bin, target, jobs)
    if seconds > PROMISE_SECONDS:
        differences.append(f"restore took {seconds:.0f} s, {PROMISE_SECONDS} are promised")
    return DrillResult(
        database=backup.database,
        verdict="different" if differences else "equal",
        backup_id=backup.id,
        backup_bytes=manifest.dump.size,
        backup_age_seconds=age,
        restore_seconds=round(seconds, 3),
        source_bytes=manifest.source.size,
        tables_compared=len(manifest.tables),
        rows_compared=sum(table.rows for table in manifest.tables),
        findings=tuple(differences),
    )


def _compare(manifest: Manifest, target: PostgresUri, jobs: int) -> list[str]:
    with target.connect("drill") as connection:
        found = compare_sequences(manifest.sequences, sequence_values(connection))
        loose = sorted({*unvalidated(connection)} - {*manifest.unvalidated})
        found += [f"constraint {name} is not valid" for name in loose]
        found += [f"index {name} is not valid" for name in invalid_indexes(connection)]
        tables = list_tables(connection)
    digests = any(table.digest for table in manifest.tables)
    with Inventory(lambda: target.connect("drill"), jobs, tables, digests=digests) as inventory:
        return compare_tables(manifest.tables, inventory.tables()) + found


def _damage(pg_bin: Path, target: PostgresUri, jobs: int) -> list[str]:
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


def _keep(settings: Settings, store: Store, report: DrillReport) -> None:
    """Store the report and its page, by a key for results if the job was given one.

    A report that cannot be kept changes no verdict; it is still printed.
    """
    folder = f"{settings.prefix}/{DRILLS}"
    name = f"{folder}/{report.finished:%Y%m%dT%H%M%SZ}"
    try:
        with ExitStack() as opened:
            if settings.secret_path(B2_RESULTS_KEY).exists():
                key = settings.b2_key(B2_RESULTS_KEY)
                results = opened.enter_context(open_store(settings, key))
            elif store.may_write(name):
                results = store
            else:
                log.warning("report not kept: the key cannot write", object=name)
                return
            results.put(f"{name}.json", report.model_dump_json(indent=2).encode())
            kept = kept_reports(store, settings.prefix, SHOWN)
            shown = page(report, [each for each in kept if each.started < report.started])
            results.put(f"{name}.html", shown.encode(), content_type="text/html; charset=utf-8")
    except BackupError as error:
        log.warning("report not kept", object=name, error=error.message)
        return
    log.info("report kept", object=name)


def kept_reports(store: Store, prefix: str, count: int) -> list[DrillReport]:
    """Return the last ``count`` reports in the bucket, oldest first, damaged ones left out."""
    kept = sorted(
        (stored for stored in store.list(f"{prefix}/{DRILLS}") if stored.name.endswith(".json")),
        key=lambda stored: stored.name,
    )
    reports = []
    for stored in kept[-count:]:
        try:
            reports.append(DrillReport.model_validate_json(store.get(stored.name, stored.file_id)))
        except ValidationError:
            log.warning("report cannot be read", object=stored.name)
    return reports
