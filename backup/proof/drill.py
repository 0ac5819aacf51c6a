"""The proof: restore the newest backup of each database and hold it against its manifest."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
from pydantic import ValidationError

from backup.bucket.catalogue import Backup, open_catalogue
from backup.bucket.store import Store, open_store
from backup.kinds import KINDS
from backup.openpgp.crypt import Keyring, private_key
from backup.openpgp.signature import Signers
from backup.postgres.connection import one_line
from backup.proof.page import page
from backup.proof.report import PROMISE_SECONDS, DrillReport, DrillResult
from backup.registry import DRILLS
from backup.settings import B2_RESULTS_KEY, DRILL_KEY, Settings
from frame.failure import Failure, Stopped
from frame.log import get_logger
from frame.version import own_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backup.bucket.catalogue import Catalogue
    from backup.kinds.origin import Proof
    from backup.manifest import Manifest
    from backup.registry import Entry

LOOKED_AT = 100  # the last monthly drill is among them, however many were held by hand since
SHOWN = 24  # earlier drills in the chart: two years

log = get_logger(__name__)


def run_drill(
    settings: Settings,
    databases: Sequence[Entry],
    jobs: int,
    at: datetime | None = None,
    told: Callable[[int], None] = lambda _size: None,
) -> DrillReport:
    """Drill every one of ``databases``, whatever becomes of the others, and store the report.

    It is the newest backup of each, or the newest from ``at`` or before. ``told`` hears of the
    bytes that are downloaded. Raises :class:`Failure` only for what concerns all of them:
    settings, keys, the bucket.
    """
    started = datetime.now(UTC)
    with (
        private_key(settings.secret_path(DRILL_KEY)) as ring,
        open_catalogue(settings, told) as catalogue,
    ):
        results: list[DrillResult] = []
        try:
            for database in databases:
                result = _drill_one(settings, catalogue, ring, database, jobs, at)
                log.info("drilled", database=database.name, verdict=result.verdict)
                results.append(result)
        except Stopped as stopped:  # what was proved until then is not lost
            log.error("drill stopped", why=str(stopped))
            results += [
                DrillResult(database=database.name, verdict="failed", findings=(str(stopped),))
                for database in databases[len(results) :]
            ]
        report = DrillReport(
            started=started,
            finished=datetime.now(UTC),
            at=at,
            databases=tuple(results),
            program_version=own_version(),
        )
        _keep(settings, catalogue.store, report)
    return report


def _drill_one(
    settings: Settings,
    catalogue: Catalogue,
    ring: Keyring,
    database: Entry,
    jobs: int,
    at: datetime | None,
) -> DrillResult:
    backup: Backup | None = None
    try:
        backup = catalogue.find([database], at=at)
        return _restore_and_compare(settings, catalogue, ring, backup, jobs)
    except Failure as error:
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
    settings: Settings, catalogue: Catalogue, ring: Keyring, backup: Backup, jobs: int
) -> DrillResult:
    manifest = catalogue.manifest(backup, Signers.of(settings))
    age = backup.age_seconds(datetime.now(UTC))
    proof = KINDS[manifest.kind].prove(settings, catalogue.store, ring, manifest, jobs)
    return result(manifest, age, proof)


def result(manifest: Manifest, age: float, proof: Proof) -> DrillResult:
    """Return the verdict on a backup that was ``age`` seconds old and came back as ``proof``."""
    differences = list(proof.differences)
    if proof.seconds > PROMISE_SECONDS:
        differences.append(f"restore took {proof.seconds:.0f} s, {PROMISE_SECONDS} are promised")
    return DrillResult(
        database=manifest.database,
        verdict="different" if differences else "equal",
        backup_id=manifest.id,
        backup_bytes=manifest.dump.size,
        backup_age_seconds=age,
        restore_seconds=round(proof.seconds, 3),
        source_bytes=proof.size,
        tables_compared=len(manifest.tables),
        rows_compared=sum(table.rows or 0 for table in manifest.tables),
        digested=all(table.digest is not None for table in manifest.tables),
        findings=tuple(differences),
    )


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
    except Failure as error:
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
