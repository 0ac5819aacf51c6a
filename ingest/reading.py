"""Reads what is due of a source into staging, and again what failed for what passes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from time import sleep
from typing import TYPE_CHECKING, Any

from frame.failure import Failure
from ingest import extract, staging, warehouse
from ingest.errors import DatabaseError, is_transient
from ingest.workers import Sessions, Shared

if TYPE_CHECKING:
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
class Read:
    """What was read of a source: what is staged, and the faults of other tables, by name."""

    staged: list[Staged] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)

    def add(self, more: Read) -> list[str]:
        """Take on what was read since; return the tables whose faults may pass."""
        self.staged += more.staged
        self.faults |= more.faults
        return [table for table, fault in more.faults.items() if is_transient(fault.error)]

    def forget(self, tables: list[str]) -> None:
        """Forget the faults of ``tables``, which are read again."""
        for table in tables:
            del self.faults[table]


def read(job: Job, target: psycopg.Connection[Any], scope: Scope) -> Read:
    """Read what is due. Tables whose faults may pass are read again, from a later moment.

    All are where they are published together, as those are to be of one moment. Raises Failure.
    """
    found, left = Read(), scope
    for pause in (*PAUSES, None):
        again = left is not scope
        try:
            passing = found.add(_read(job, target, left))
        except Failure as error:
            if pause is None or target.closed or not is_transient(error):
                if not again:
                    raise
                found.faults |= {table: Fault("extract", error) for table in left.only}
                return found
            log.warning("%s; tried again in %.0f s", error.message, pause)
        else:
            if pause is None or target.closed or not passing:
                return found
            for table in passing:
                log.warning("%s; tried again in %.0f s", found.faults[table].error.message, pause)
            found.forget(passing)
            left = replace(scope, only=tuple(passing))
            if job.pipeline.publish.tables == "together":
                found, left = Read(), scope
        sleep(pause)
    return found


def _read(job: Job, target: psycopg.Connection[Any], scope: Scope) -> Read:
    """Read once, in one snapshot."""
    pipeline = job.pipeline
    pipeline.limits.expect_open(f"source {pipeline.source}")
    address, key = job.source()
    purpose = f"ingest {job.name}"
    with extract.snapshot(address, pipeline, purpose=purpose, only=scope.only, key=key) as source:
        decided = job.decide(source.tables, target, scope, key)
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
    read = Read(faults={table: Fault("plan", error) for table, error in failed.items()})
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
    """Return the error of the first of ``types`` that a table needs, None if it needs none."""
    return next(
        (
            error
            for declaration, error in types.items()
            if any(column.lands.startswith(declaration) for column in planned.target.columns)
        ),
        None,
    )
