"""One run of a pipeline: extract into staging, audit, publish, and say how it went."""

from __future__ import annotations

import logging
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Any

from frame.failure import Failure
from ingest import checks, extract, kept, ownership, reading, release, warehouse
from ingest.job import Job, Scope
from ingest.report import Report

if TYPE_CHECKING:
    import psycopg

    from ingest.due import Due
    from ingest.journal import Journal
    from ingest.staging import Staged

log = logging.getLogger(__name__)


def foresee(job: Job, scope: Scope) -> Due:
    """Return what :func:`run` would do, and what would fail before it began."""
    address, key = job.source()
    with (
        closing(job.connect()) as target,
        extract.snapshot(
            address, job.pipeline, purpose=f"ingest {job.name}", only=scope.only, key=key
        ) as source,
    ):
        return job.decide(source.tables, target, scope, key)


def stage(
    job: Job, target: psycopg.Connection[Any], scope: Scope
) -> tuple[list[Staged], dict[str, Failure]]:
    """Copy what is due of every table of ``scope`` from one snapshot into staging.

    What waits there of an append, and others hold up, takes the place of what is due of it. Return
    what is staged and the errors of tables that are not; both are in ops. Raises Failure if
    nothing could even begin.
    """
    journal = job.journal(target)
    journal.begin()
    held_up = release.catch_up(job, target, scope)
    done = scope.done.union(map(str, held_up))
    found = reading.read(job, target, replace(scope, done=done))
    for each in held_up:
        journal.taken_on(each)
    for each in found.staged:
        journal.staged(each)
    for table, fault in found.faults.items():
        journal.failed(table, fault.step, fault.error, fault.plan)
    return [*held_up, *found.staged], {table: fault.error for table, fault in found.faults.items()}


def audit(job: Job, target: psycopg.Connection[Any], staged: Staged) -> None:
    """Hold a staged table against its rule. Raises Failure; what was found is in ops."""
    began = monotonic()
    with release.recorded(job, target, [staged], "audit"):
        outcomes = checks.audit(
            job.journal(target), staged, job.rule(staged.plan), job.checks_login()
        )
    log.info(
        "audited %s: %d checks passed, %d rows, %.3f s",
        staged, len(outcomes), staged.rows, monotonic() - began,
    )  # fmt: skip


def run(
    job: Job,
    scope: Scope | None = None,
    *,
    alert: bool = False,
    log_url: str = "",
    again: bool = False,
    report: Report | None = None,
) -> Report:
    """Load, audit and publish the tables of a pipeline, or those of ``scope``.

    What an earlier try of the same run has published is left as it is, unless that ended well.
    ``report`` is filled in as tables are published. A table that fails does not keep the others
    from being published; at the end RunFailedError names all that failed. With ``again`` another
    try follows a fault that may pass: the pipeline has not failed by it, and nobody is alerted.
    Raises Failure.
    """
    report = Report(job.name, job.run_id) if report is None else report
    recovered = False
    try:
        with job.warehouse() as target:
            try:
                _all(job, target, scope or Scope(), report)
            except Failure as error:
                stop(job, target, "extract", error, ended=not (again and report.passes(error)))
                raise
            first = next(iter(report.failed.values()), None)
            recovered = finish(job, target, first, ended=not (again and report.passes()))
        report.check()
    except Failure as error:
        if alert and not (again and report.passes(error)):
            from ingest import alerts  # what it needs takes a tenth of a second

            table = next(iter(report.failed), None)
            alerts.failed(job, error, table, step=report.step or "extract", log_url=log_url)
        raise
    if alert and recovered:
        from ingest import alerts

        alerts.recovered(job, log_url=log_url)
    return report


def stop(
    job: Job, target: psycopg.Connection[Any], step: str, error: Failure, *, ended: bool = True
) -> None:
    """Write into ops that ``step`` failed as a whole, if the warehouse hears, or soon will.

    The run has ``ended`` by it unless the step may be tried again.
    """

    def write(journal: Journal) -> None:
        warehouse.prepare(journal.connection, job.pipeline)
        journal.stopped(step, error)
        if ended:
            journal.ended()

    with suppress(Failure):  # the error at hand says more than one of writing it down
        job.write(target, write)


def finish(
    job: Job,
    target: psycopg.Connection[Any],
    error: Failure | None = None,
    *,
    ended: bool = True,
) -> bool:
    """Write into ops how the run ended; return whether the pipeline recovered by it.

    ``error`` is the run's first one, which the warehouse may not have heard of. It has not
    ``ended`` if another try follows.
    """

    def write(journal: Journal) -> bool:
        journal.end(error)
        return ended and journal.ended()

    with suppress(Failure):
        return job.write(target, write)
    return False


def publish(job: Job, only: tuple[str, ...], report: Report) -> Report:
    """Publish what earlier runs have left in staging, or ``only`` some tables of it.

    The source is not read. ``report`` is filled in as tables are published. Raises Failure: that
    there is nothing to publish, too.
    """
    with job.warehouse() as target:
        prepare(job, target)
        waiting = release.waiting(job, target, only)
        job.journal(target).begin()
        for each in chain.from_iterable(waiting):
            job.journal(target).taken_on(each)
        _release(job, target, waiting, report)
        finish(job, target, next(iter(report.failed.values()), None))
    report.check()
    return report


def clean(job: Job, *, everything: bool) -> list[kept.Removed]:
    """Remove what is left over in the pipeline's staging, or ``everything``. Raises Failure."""
    now = datetime.now(UTC)

    def why(one: kept.Kept) -> str:
        if reason := kept.useless(one, job.pipeline, now):
            return reason
        if not one.checked:
            return "it did not pass its checks"
        return "all was to go" if everything else ""

    with job.warehouse() as target:
        warehouse.prepare(target, job.pipeline)
        ownership.expect_alone(target, job.pipeline.published_schema, job.name)
        return kept.tidy(target, job.pipeline, why)


def prepare(job: Job, target: psycopg.Connection[Any]) -> None:
    """Make the warehouse ready for a run: ops, schemas, staging without what nobody needs."""
    pipeline, now = job.pipeline, datetime.now(UTC)
    warehouse.prepare(target, pipeline)
    ownership.expect_alone(target, pipeline.published_schema, job.name)
    kept.tidy(target, pipeline, lambda one: kept.useless(one, pipeline, now))


def _all(job: Job, target: psycopg.Connection[Any], scope: Scope, report: Report) -> None:
    job.checks_login()  # what is not there is better missed before hours of reading
    prepare(job, target)
    report.earlier |= job.journal(target).published_before()
    if report.earlier:
        log.info("published by an earlier try: %s", ", ".join(report.earlier))
        scope = replace(scope, done=frozenset(report.earlier))
    staged, failed = stage(job, target, scope)
    for table, error in failed.items():
        report.fail("extract", table, error)
    passed: list[Staged] = []
    for each in staged:
        try:
            audit(job, target, each)
        except Failure as error:
            report.fail("audit", str(each), error)
            if target.closed:
                return
        else:
            passed.append(each)
    groups = [[each] for each in passed]
    if job.pipeline.publish.tables == "together" and passed:
        groups = [passed]
        if report.failed:
            held_back = release.hold_back(job, target, passed, report.failed)
            for table, failure in held_back.items():
                report.fail("publish", table, failure)
            return
    _release(job, target, groups, report)


def _release(
    job: Job, target: psycopg.Connection[Any], groups: list[list[Staged]], report: Report
) -> None:
    for result in release.groups(job, target, groups):
        if isinstance(result, dict):
            for table, error in result.items():
                report.fail("publish", table, error)
        else:
            report.loaded += result
