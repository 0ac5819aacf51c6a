"""The proof: restore the newest backup of each database and hold it against its manifest."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import structlog

from backup.catalogue import Backup, Catalogue
from backup.connection import one_line
from backup.crypt import Keyring, private_key
from backup.errors import BackupError
from backup.report import DrillReport, DrillResult
from backup.restore import restore
from backup.scratch_server import scratch_server
from backup.settings import B2_KEY, B2_RESULTS_KEY, DRILL_KEY, Settings
from backup.store import Store, open_store
from backup.tables import compare_rows, count_rows, list_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup.registry import Database

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
            store, manifest, ring, target,
            scratch=settings.scratch, pg_bin=settings.pg_bin, jobs=jobs,
        )  # fmt: skip
        seconds = time.monotonic() - began
        with target.connect("drill") as connection:
            found = count_rows(connection, list_tables(connection))
    differences = compare_rows(manifest.tables, found)
    return DrillResult(
        database=backup.database,
        verdict="different" if differences else "equal",
        backup_id=backup.id,
        backup_bytes=manifest.dump.size,
        backup_age_seconds=age,
        restore_seconds=round(seconds, 3),
        tables_compared=len(manifest.tables),
        rows_compared=sum(table.rows for table in manifest.tables),
        findings=tuple(differences),
    )


def _keep(settings: Settings, store: Store, report: DrillReport) -> None:
    """Store the report in the bucket, by a key for results if the job was given one.

    A report that cannot be kept changes no verdict; it is still printed.
    """
    name = f"{settings.prefix}/drills/{report.finished:%Y%m%dT%H%M%SZ}.json"
    data = report.model_dump_json(indent=2).encode()
    try:
        if settings.secret_path(B2_RESULTS_KEY).exists():
            with open_store(settings, settings.b2_key(B2_RESULTS_KEY)) as results:
                results.put(name, data)
        elif store.may_write(name):
            store.put(name, data)
        else:
            log.warning("report not kept: the key cannot write", object=name)
            return
    except BackupError as error:
        log.warning("report not kept", object=name, error=error.message)
        return
    log.info("report kept", object=name)
