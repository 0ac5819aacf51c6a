"""Reads what is due of a source into staging, and again what failed for what passes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from time import sleep
from typing import TYPE_CHECKING, Any

from frame.failure import Failure
from ingest import extract, staging, warehouse
from ingest.errors import DatabaseError, is_transient
from ingest.shapes import listed
from ingest.types import made
from ingest.workers import Sessions, Shared

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from ingest.job import Job, Scope
    from ingest.plan import TablePlan
    from ingest.staging import Staged

log = logging.getLogger(__name__)
# Seconds before what failed for something that passes is tried again.
PAUSES = (5.0, 20.0)


@dataclass(frozen=True)
class Fault:
    """Why a table is not staged, in which step, and its plan if it had one."""

    step: str
    error: Failure
    plan: TablePlan | None = None


@dataclass
class Outcome:
    """What came of reading: what is staged, and the faults of other tables, by name."""

    staged: list[Staged] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)


def read(job: Job, target: psycopg.Connection[Any], scope: Scope) -> Outcome:
    """Read what is due. Tables whose faults may pass are read again, from a later moment.

    All are where they are published together, as those are to be of one moment. Raises Failure.
    """
    found, left = Outcome(), scope
    for pause in (*PAUSES, None):
        try:
            more = _read(job, target, left)
        except Failure as error:
            if left is not scope:
                more = Outcome(faults={table: Fault("extract", error) for table in left.only})
            elif pause is None or target.closed or not is_transient(error):
                raise
            else:
                _rest(pause, [error])
                continue
        found.staged += more.staged
        found.faults |= more.faults
        passing = {t: each.error for t, each in more.faults.items() if is_transient(each.error)}
        if pause is None or target.closed or not passing:
            break
        _rest(pause, passing.values())
        if job.pipeline.publish.tables == "together":
            found = Outcome()
        else:
            found.faults = {t: each for t, each in found.faults.items() if t not in passing}
            left = replace(scope, only=tuple(passing))
    return found


def _rest(seconds: float, errors: Iterable[Failure]) -> None:
    for message in dict.fromkeys(error.message for error in errors):
        log.warning("%s; tried again in %.0f s", message, seconds)
    sleep(seconds)


def _read(job: Job, target: psycopg.Connection[Any], scope: Scope) -> Outcome:
    """Read once, in one snapshot."""
    pipeline = job.pipeline
    pipeline.limits.expect_open(f"source {pipeline.source}")
    address, key = job.source()
    purpose = f"ingest {job.name}"
    with extract.snapshot(address, pipeline, purpose=purpose, only=scope.only, key=key) as source:
        decided = job.decide(source.tables, target, scope, key)
        if decided.left_out:
            log.info("a pattern means tables, which leaves out %s", listed(decided.left_out))
        without = warehouse.make_types(target, decided.steps)
        lacking = {str(each): error for each in decided.plans if (error := _lacks(each, without))}
        failed = decided.failed | lacking
        jobs = scope.jobs or pipeline.limits.jobs
        way = staging.Reading(source, pipeline.limits, jobs, scope.progress)
        works = [staging.TableWork(each, way) for each in decided.plans if str(each) not in failed]
        shared = Shared(works, lambda: source.lost)
        beside = min(jobs, sum(len(work.parts) for work in works)) - 1
        shared.run(
            Sessions(lambda: source.leader, lambda: target, lent=True),
            [Sessions(lambda: source.session(purpose), job.connect) for _ in range(beside)],
        )
    read = Outcome(faults={table: Fault("plan", error) for table, error in failed.items()})
    for place, work in enumerate(works):
        if work.staged is not None:
            read.staged.append(work.staged)
            continue
        error = shared.failures.get(place) or DatabaseError(
            f"table {work.plan}: expected to be read, found the source gone before its turn",
            hint="Run again when the source is back.",
            transient=True,
        )
        read.faults[str(work.plan)] = Fault("extract", error, work.plan)
    return read


def _lacks(planned: TablePlan, types: dict[str, Failure]) -> Failure | None:
    """Return the error of the first column whose type is among ``types``, None without any."""
    errors = (types.get(made(column.lands)) for column in planned.target.columns)
    return next((error for error in errors if error is not None), None)
