"""One run of a pipeline: every table from the source's snapshot, staged, then published."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog

from ingest import catalog, connections, extract, plan, publish, staging, types, warehouse
from ingest.errors import IngestError, RunFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from ingest.contract import Pipeline
    from ingest.extract import Source
    from ingest.plan import TablePlan

log = structlog.get_logger()


@dataclass(frozen=True)
class Loaded:
    """One published table: rows, bytes of COPY text, seconds it took."""

    table: str
    source: str
    rows: int
    bytes: int
    seconds: float


@dataclass
class Report:
    """What a run published so far, and which tables failed with what."""

    pipeline: str
    run_id: str
    loaded: list[Loaded] = field(default_factory=list)
    failed: dict[str, IngestError] = field(default_factory=dict)


def run(
    pipeline: Pipeline,
    *,
    name: str,
    run_id: str,
    resolve: Callable[[str], connections.Address] = connections.from_environment,
    only: str | None = None,
    report: Report | None = None,
) -> Report:
    """Load and publish the tables of ``pipeline``, or the ``only`` one.

    ``name`` (the file's stem) and ``run_id`` go into ops.loads; ``report`` is filled in as tables
    are published. A table that fails does not keep the others from being published; at the end
    RunFailedError names all that failed. Raises IngestError.
    """
    report = Report(name, run_id) if report is None else report
    purpose = f"ingest {name}"
    source_side = f"source {pipeline.source}"
    target_address = resolve(pipeline.warehouse)
    source_address = resolve(pipeline.source)
    with (
        closing(connections.connect(target_address, side="warehouse", purpose=purpose)) as target,
        closing(connections.connect(source_address, side=source_side, purpose=purpose)) as origin,
    ):
        warehouse.lock(target, pipeline)
        with extract.snapshot(origin, pipeline, only) as source:
            _load_all(target, pipeline, source, report)
    return report


def _load_all(
    target: psycopg.Connection[Any], pipeline: Pipeline, source: Source, report: Report
) -> None:
    tables = _prepare(target, pipeline, source)
    for table in tables:
        try:
            report.loaded.append(_load(target, source, table, report))
        except IngestError as error:
            report.failed[str(table)] = error
            log.error("table failed", table=str(table), reason=error.message)
            if source.lost or target.closed:
                break
    _check(report, tables)


def _prepare(
    target: psycopg.Connection[Any], pipeline: Pipeline, source: Source
) -> tuple[TablePlan, ...]:
    warehouse.prepare(target, pipeline)
    known = catalog.warehouse_types(
        target, pipeline.published_schema, types.builtin_declarations(source.shapes)
    )
    decided = plan.build(pipeline, source.shapes, known)
    warehouse.grow_enums(target, pipeline.published_schema, decided.enums)
    return decided.tables


def _load(
    target: psycopg.Connection[Any], source: Source, table: TablePlan, report: Report
) -> Loaded:
    began = monotonic()
    staged = staging.load(target, source, table)
    publish.publish(target, staged, pipeline=report.pipeline, run_id=report.run_id)
    loaded = Loaded(
        table=str(table),
        source=str(table.source),
        rows=staged.rows,
        bytes=staged.bytes,
        seconds=round(monotonic() - began, 3),
    )
    log.info("table published", table=loaded.table, rows=loaded.rows, seconds=loaded.seconds)
    return loaded


def _check(report: Report, tables: tuple[TablePlan, ...]) -> None:
    if not report.failed:
        return
    first = next(iter(report.failed.values()))
    faults = "\n".join(error.message for error in report.failed.values())
    left = len(tables) - len(report.loaded)
    raise RunFailedError(
        f"pipeline {report.pipeline}: expected {len(tables)} tables published, found {left} not:\n"
        f"{faults}",
        hint=first.hint,
    ) from first
