"""Publishes what is staged and checked, in turns, and says of each table how it went.

Between two turns nothing is held, not even the pipeline's lock.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from time import monotonic
from typing import TYPE_CHECKING, Any

from frame.failure import ExitCode, Failure, WrongUse
from ingest import kept, loads, selection, warehouse
from ingest.errors import BusyError
from ingest.publish import Publishing
from ingest.turns import turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import psycopg

    from ingest.job import Job, Scope
    from ingest.journal import Counts, Journal
    from ingest.staging import Staged

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """One published table: rows and bytes read, rows changed, rows there now, seconds it took."""

    table: str
    source: str
    load: str
    reason: str
    read: int
    bytes: int
    inserted: int
    updated: int
    deleted: int
    rows: int
    seconds: float


def groups(
    job: Job, target: psycopg.Connection[Any], tables: Iterable[Sequence[Staged]]
) -> Iterator[list[Loaded] | dict[str, Failure]]:
    """Publish groups of tables, each in one transaction, as soon as others let go of them.

    Yield of each group what was published, or the errors of its tables; what was done is in ops.
    """
    began, left = monotonic(), list(tables)
    wait = job.pipeline.publish.wait.total_seconds()
    level = logging.WARNING  # once: somebody at a terminal sees what is waited for
    for last in turns(wait, lambda rest: warehouse.let_others(target, job.pipeline, rest)):
        busy: list[Sequence[Staged]] = []
        for group in left:
            publishing = Publishing(job.journal(target), group)
            try:
                counts = publishing.run()
            except BusyError as error:
                if last:
                    yield _record(job, target, dict.fromkeys(map(str, group), error), group)
                else:
                    log.log(level, "%s: tried again", error.message)
                    busy.append(group)
            except Failure as error:
                at_fault = str(publishing.plan)
                others = [each for each in group if str(each) != at_fault]
                failed: dict[str, Failure] = {at_fault: error}
                failed |= {str(each): _held_back(each, [at_fault]) for each in others}
                yield _record(job, target, failed, group)
            else:
                seconds = monotonic() - began
                yield [_loaded(*each, seconds) for each in zip(group, counts, strict=True)]
        left, level = busy, logging.DEBUG
        if not left:
            return


def hold_back(
    job: Job, target: psycopg.Connection[Any], tables: Sequence[Staged], unfit: Iterable[str]
) -> dict[str, Failure]:
    """Return the errors of tables that are fit to be published, but not without the ``unfit``."""
    failed = {str(each): _held_back(each, list(unfit)) for each in tables}
    return _record(job, target, failed, tables)


def waiting(job: Job, target: psycopg.Connection[Any], only: tuple[str, ...]) -> list[list[Staged]]:
    """Return the groups that wait in staging for being published. Raises Failure if none does."""
    checked = [
        each
        for each in kept.listed(target, job.pipeline)
        if each.staged
        and each.checked
        and (not only or selection.is_named(each.staged.plan.source, job.pipeline, only))
    ]
    if not checked:
        raise Failure(
            f"schema {job.pipeline.staging_schema}: expected tables that are checked and were not"
            " published, found none",
            hint="There is nothing to do: `ingest run` reads the source.",
            exit_code=ExitCode.NOTHING_TO_DO,
        )
    if job.pipeline.publish.tables == "each":
        return [[each.staged] for each in checked if each.staged]
    if only:
        raise WrongUse(
            f"table {only[0]}: expected all tables, as the file says publish: together",
            "Leave --table out.",
        )
    checked.sort(key=lambda each: each.run_id or "")
    runs = groupby(checked, key=lambda each: each.run_id or "")
    found = [(run_id, [each.staged for each in run if each.staged]) for run_id, run in runs]
    for run_id, tables in found:
        if unfit := replace(job.journal(target), run_id=run_id).unfit():
            raise _held_back(tables[0], unfit)
    return [tables for _, tables in found]


def catch_up(job: Job, target: psycopg.Connection[Any], scope: Scope) -> list[Staged]:
    """Publish increments that wait in staging, where that is done at once.

    Return those of an append that others hold up, and this run is to publish in place of reading
    the table: the source may no longer have their rows. All else is overtaken by the next load.
    Raises BusyError if other rows of such a table are asked for, or it is published with others.
    """
    held_up: list[Staged] = []
    if job.pipeline.publish.tables == "together":
        if not scope.full_refresh:
            _catch_up_together(job, target)
        return held_up
    for each in kept.listed(target, job.pipeline):
        staged = each.staged
        if not (staged and each.checked) or loads.of(staged.plan).replaces:
            continue
        journal = replace(job.journal(target), run_id=each.run_id or job.run_id)
        try:
            Publishing(journal, [staged]).run()
        except Failure as error:
            log.warning("%s stays in staging: %s", each, error.message)
            wanted = not scope.only or selection.is_named(
                staged.plan.source, job.pipeline, scope.only
            )
            lasts = wanted and staged.plan.read.load == "append" and not scope.full_refresh
            if lasts and isinstance(error, BusyError):
                if scope.interval:
                    raise
                held_up.append(staged)
        else:
            log.info("published %s, which waited in staging", each)
    return held_up


def _catch_up_together(job: Job, target: psycopg.Connection[Any]) -> None:
    """Publish the runs in staging that have an append among their tables and are fit for it."""
    try:
        runs = waiting(job, target, ())
    except Failure:  # there is none, or others of it are not fit
        return
    for tables in runs:
        if all(each.plan.read.load != "append" for each in tables):
            continue
        try:
            Publishing(job.journal(target), tables).run()
        except BusyError:
            raise
        except Failure as error:
            log.warning("%s stays in staging: %s", tables[0], error.message)


@contextmanager
def recorded(
    job: Job, target: psycopg.Connection[Any], tables: Sequence[Staged], step: str
) -> Iterator[None]:
    """Write into ops with which failure a step of ``tables`` ends, if it does with one."""
    try:
        yield
    except Failure as error:
        _record(job, target, dict.fromkeys(map(str, tables), error), tables, step)
        raise


def _record(
    job: Job,
    target: psycopg.Connection[Any],
    failed: dict[str, Failure],
    tables: Sequence[Staged],
    step: str = "publish",
) -> dict[str, Failure]:

    def write(ops: Journal) -> None:
        for each in tables:
            ops.failed(str(each), step, failed[str(each)], each.plan)

    with suppress(Failure):  # the error at hand says more than one of writing it down
        job.write(target, write)
    return failed


def _held_back(staged: Staged, unfit: Sequence[str]) -> Failure:
    return Failure(
        f"table {staged}: expected all tables of the run fit to be published together, found"
        f" {', '.join(unfit)} not",
        hint="Mend what is reported of those and run again, or leave publish: together out of the"
        " file.",
    )


def _loaded(staged: Staged, done: Counts, seconds: float) -> Loaded:
    loaded = Loaded(
        table=str(staged),
        source=str(staged.plan.source),
        load=staged.plan.read.load,
        reason=staged.plan.read.reason,
        read=staged.rows,
        bytes=staged.bytes,
        inserted=done.inserted,
        updated=done.updated,
        deleted=done.deleted,
        rows=done.rows,
        seconds=round(staged.seconds + seconds, 3),
    )
    log.info(
        "published %s: %s load (%s), %d rows read, %d there now, %.3f s",
        loaded.table, loaded.load, loaded.reason, loaded.read, loaded.rows, loaded.seconds,
    )  # fmt: skip
    return loaded
