"""Makes pipeline files into DAGs: Airflow schedules, asks Nomad for the run, waits and tries again.

Parsing reads the files and nothing else: no connection, no secret, no database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import DAG, Asset, CronTriggerTimetable, Param

from harmattan.runs.operator import NomadJobOperator
from ingest import contract
from ingest.errors import ContractError

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.contract import Pipeline
    from ingest.errors import Problem

# Airflow asks for some date in the past; without catch-up no run is made up for it.
_START = datetime(2026, 1, 1, tzinfo=UTC)
# 30 s passes over a failover, and the growing delays over a restart of the database or the
# cluster; nobody waits at night, but a run should be over before the school's day begins.
PATIENT: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
}
# A full load of every table of a school takes minutes; beyond this, and what publishing may wait
# for readers, something hangs.
_TIMEOUT = timedelta(hours=4)

# What a run is asked for, as templates; what is empty is not sent (ingest.nomad says what each is).
# A backfill loads again what the schedule's run of its date has loaded. A triggerer knows `retries`
# and no `max_tries`: of a task that was cleared after its tries, each further one is the last.
META = {
    "run_id": "{{ run_id }}",
    "tables": "{{ params.tables | join(',') }}",
    "full_refresh": "{{ 'true' if params.full_refresh else '' }}",
    "interval_start": "{{ params.since or '' }}",
    "interval_end": "{{ params.until or"
    " (dag_run.logical_date.isoformat() if dag_run.run_type == 'backfill' else '') }}",
    "tries_left": "{{ [task.retries - ti.try_number + 1, 0] | max }}",
    "log_url": "{{ ti.log_url }}",
}


def published(schema: str) -> Asset:
    """Return the asset of a pipeline's schema: DAGs scheduled by it run when it has published."""
    return Asset(name=schema, uri=f"harmattan://warehouse/{schema}")


def published_table(schema: str, table: str) -> Asset:
    """Return the asset of one table: its events' ``extra`` has the rows and the run."""
    uri = f"harmattan://warehouse/{schema}/{quote(table, safe='')}"
    return Asset(name=f"{schema}.{table}", uri=uri)


def platform_dag(
    dag_id: str,
    description: str,
    cron: str,
    owner: str,
    tags: set[str],
    params: dict[str, Param] | None = None,
) -> DAG:
    """Return the DAG, without tasks, of a file of the analysts: one run at a time, by ``cron``."""
    return DAG(
        dag_id=dag_id,
        description=description,
        schedule=CronTriggerTimetable(cron, timezone="UTC"),
        start_date=_START,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=tags,
        default_args={"owner": owner},
        params=params,
    )


def pipeline_dag(file: Path) -> DAG:
    """Return the DAG ``ingest_<file stem>`` of one pipeline file; raise ContractError."""
    return _dag(contract.read(file), file.stem)


def _dag(pipeline: Pipeline, name: str) -> DAG:
    with platform_dag(
        f"ingest_{name}",
        f"{pipeline.source} into {pipeline.published_schema}",
        pipeline.schedule,
        pipeline.owner,
        {"ingest", pipeline.source},
        _form(pipeline),
    ) as dag:
        NomadJobOperator(
            task_id="load",
            job=f"ingest-{pipeline.source}",
            meta={"pipeline": name, **META},
            outlets=_assets(pipeline),
            execution_timeout=_TIMEOUT + pipeline.publish.wait,
            doc_md=f"Runs Nomad's job `ingest-{pipeline.source}`; its log has a line a table.",
            **PATIENT,
        )
    return dag


def _form(pipeline: Pipeline) -> dict[str, Param]:
    """Return what whoever triggers a run may ask for."""
    named = [rule.name for rule in pipeline.tables if not rule.table.pattern]
    date = "A date and time, or a number, as the tables' cursors are."
    return {
        "tables": Param(
            [],
            type="array",
            items={"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[^,]+$"},
            examples=named,
            title="Tables",
            description="Only these, with or without their schema; **all** if there is none.",
        ),
        "full_refresh": Param(
            False,
            type="boolean",
            title="Full refresh",
            description="Load whole tables, whatever was loaded before.",
        ),
        "since": Param(
            None, type=["null", "string"], title="Load again from",
            description=f"Cursor values from this one on; needs the next field. {date}",
        ),
        "until": Param(
            None, type=["null", "string"], title="Load again up to",
            description=f"Cursor values before this one. {date}",
        ),
    }  # fmt: skip


def _assets(pipeline: Pipeline) -> list[Asset]:
    """Return what the run changes, as far as the file names it.

    Tables that a pattern means get events as well, once a DAG is scheduled by them.
    """
    schema = pipeline.published_schema
    named = [rule.table.table for rule in pipeline.tables if not rule.table.pattern]
    return [published(schema), *(published_table(schema, table) for table in named)]


def pipeline_dags(folder: Path) -> dict[str, DAG]:
    """Return the DAG of every ``*.yaml`` in ``folder``, by its id.

    Raises one ContractError with the faults of all broken files. A file that fails to import
    stops all of its DAGs in Airflow, so this is for a folder that ``ingest check`` has passed;
    to keep pipelines apart, write one DAG file a pipeline and call :func:`pipeline_dag` there.
    """
    dags: dict[str, DAG] = {}
    problems: list[Problem] = []
    for file, found in contract.read_all(sorted(folder.glob("*.yaml"))):
        if isinstance(found, ContractError):
            problems += found.problems
        else:
            dag = _dag(found, file.stem)
            dags[dag.dag_id] = dag
    if problems:
        raise ContractError(tuple(problems))
    return dags
