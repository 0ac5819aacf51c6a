"""The proof: restore the newest backup of each database and hold it against its manifest."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg

from backup.bucket.catalogue import open_catalogue
from backup.deadline import clean_up
from backup.kinds import KINDS
from backup.openpgp.crypt import Keyring, private_key
from backup.postgres.connection import one_line
from backup.proof.copies import check_copy
from backup.proof.history import notices
from backup.proof.kept import drill_signer, keep_report
from backup.proof.report import PROMISE_SECONDS, CopyCheck, DrillReport, DrillResult, SlowObject
from backup.restoration.timings import Timings
from backup.settings import DRILL_KEY, Settings
from frame.failure import Failure, Stopped
from frame.log import get_logger
from frame.version import own_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backup.bucket.catalogue import Catalogue, Chosen
    from backup.kinds.origin import Proof
    from backup.manifest import Manifest
    from backup.registry import Entry

REPORT_SHARE = 0.6  # of the time that a drill which is stopped has left: an alert follows

log = get_logger(__name__)


class DrillStopped(Stopped):
    """A drill was stopped; its ``report`` says what was proved until then."""

    def __init__(self, report: DrillReport, stopped: Stopped) -> None:
        super().__init__(str(stopped), stopped.exit_code)
        self.report = report


def run_drill(
    settings: Settings,
    databases: Sequence[Entry],
    jobs: int,
    at: datetime | None = None,
    told: Callable[[int], None] = lambda _size: None,
    *,
    reads_copy: bool = False,
) -> DrillReport:
    """Drill every one of ``databases``, whatever becomes of the others, and store the report.

    It is the newest backup of each, or the newest from ``at`` or before. ``told`` hears of the
    bytes that are downloaded. With ``reads_copy`` the monthly copy whose turn it is is verified
    too. Raises :class:`Failure` only for what concerns all of them:
    settings, keys, the bucket; and :class:`DrillStopped`, behind the report.
    """
    started = datetime.now(UTC)
    stopped = None
    with (
        private_key(settings.secret_path(DRILL_KEY)) as ring,
        drill_signer(settings) as signing,
        open_catalogue(settings, told, any_clock=False) as catalogue,
    ):
        results: list[DrillResult] = []
        copy: CopyCheck | None = None
        try:
            for database in databases:
                result = _drill_one(settings, catalogue, ring, database, jobs, at)
                log.info("drilled", database=database.name, verdict=result.verdict)
                results.append(result)
            copy = check_copy(catalogue, ring, databases, started) if reads_copy else None
        except Stopped as error:  # what was proved until then is not lost
            stopped = error
            results += [
                DrillResult(database=database.name, verdict="failed", findings=(str(stopped),))
                for database in databases[len(results) :]
            ]
        report = DrillReport(
            started=started,
            finished=datetime.now(UTC),
            at=at,
            databases=tuple(results),
            copy_check=copy,
            program_version=own_version(),
        )
        with clean_up("keeping the report", REPORT_SHARE) if stopped else nullcontext():
            keep_report(settings, catalogue.store, report, signing, catalogue.opener.signers)
    if stopped:
        raise DrillStopped(report, stopped)
    return report


def _drill_one(
    settings: Settings,
    catalogue: Catalogue,
    ring: Keyring,
    database: Entry,
    jobs: int,
    at: datetime | None,
) -> DrillResult:
    chosen: Chosen | None = None
    try:
        chosen = catalogue.find([database.name], at=at)
        return _restore_and_compare(settings, catalogue, ring, chosen, jobs)
    except Failure as error:
        why = error.message
    except psycopg.Error as error:
        why = one_line(error)
    except Exception as error:  # one database's surprise must not spare the others
        why = f"{type(error).__name__}: {error}"
    log.error("drill failed", database=database.name, why=why)
    if chosen is None:
        return DrillResult(database=database.name, verdict="failed", findings=(why,))
    backup = chosen.backup
    return DrillResult(
        database=database.name,
        verdict="failed",
        backup_id=backup.id,
        backup_bytes=backup.size,
        backup_age_seconds=backup.age_seconds(datetime.now(UTC)),
        findings=(why,),
    )


def _restore_and_compare(
    settings: Settings, catalogue: Catalogue, ring: Keyring, chosen: Chosen, jobs: int
) -> DrillResult:
    manifest = chosen.manifest
    age = chosen.backup.age_seconds(datetime.now(UTC))
    proof = KINDS[manifest.kind].prove(settings, catalogue, ring, manifest, jobs)
    passed_over = tuple(f"{passed.id}: {passed.why}" for passed in chosen.passed_over)
    return result(manifest, age, proof).model_copy(
        update={"object_name": manifest.dump.name, "passed_over": passed_over}
    )


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
        steps=_rounded(proof.timings) if proof.timings else None,
        slow_objects=tuple(SlowObject(**asdict(each)) for each in proof.slowest),
        source_bytes=proof.size,
        tables_compared=len(manifest.tables),
        rows_compared=sum(table.rows or 0 for table in manifest.tables),
        digested=all(table.digest or table.unproved for table in manifest.tables),
        findings=tuple(differences),
        notes=(*map(str, notices(manifest, [])), *manifest.warnings),
    )


def _rounded(timings: Timings) -> Timings:
    return Timings(**{step: round(seconds, 3) for step, seconds in asdict(timings).items()})
