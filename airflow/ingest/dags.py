"""Makes pipeline files into DAGs. The only module here that imports Airflow.

Parsing reads the files and nothing else: no connection, no secret, no database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG, CronTriggerTimetable, get_current_context, task

from ingest import connections, contract, run
from ingest.errors import ContractError

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.errors import Problem

# Airflow asks for some date in the past; without catch-up no run is made up for it.
_START = datetime(2026, 1, 1, tzinfo=UTC)
# 30 s passes over a failover, and the growing delays over a restart of the database or the
# cluster; nobody waits at night, but a run should be over before the school's day begins.
_RETRIES = 3
_FIRST_DELAY = timedelta(seconds=30)
_LONGEST_DELAY = timedelta(minutes=15)
# A full load of every table of a school takes minutes; beyond this something hangs.
_TIMEOUT = timedelta(hours=4)


def pipeline_dag(file: Path) -> DAG:
    """Return the DAG ``ingest_<file stem>`` of one pipeline file; raise ContractError."""
    pipeline = contract.read(file)
    name = file.stem
    with DAG(
        dag_id=f"ingest_{name}",
        description=f"{pipeline.source} into {pipeline.published_schema}",
        schedule=CronTriggerTimetable(pipeline.schedule, timezone="UTC"),
        start_date=_START,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags={"ingest", pipeline.source},
        default_args={"owner": pipeline.owner},
    ) as dag:

        @task(
            retries=_RETRIES,
            retry_delay=_FIRST_DELAY,
            retry_exponential_backoff=2.0,
            max_retry_delay=_LONGEST_DELAY,
            execution_timeout=_TIMEOUT,
            multiple_outputs=False,
        )
        def load() -> dict[str, int]:
            """Load and publish every table; return the rows of each."""
            report = run.run(
                pipeline,
                name=name,
                run_id=get_current_context()["run_id"],
                resolve=connections.from_airflow,
            )
            return {loaded.table: loaded.rows for loaded in report.loaded}

        load()
    return dag


def pipeline_dags(folder: Path) -> dict[str, DAG]:
    """Return the DAG of every ``*.yaml`` in ``folder``, by its id.

    Raises one ContractError with the faults of all broken files. A file that fails to import
    stops all of its DAGs in Airflow, so this is for a folder that ``ingest check`` has passed;
    to keep pipelines apart, write one DAG file a pipeline and call :func:`pipeline_dag` there.
    """
    dags: dict[str, DAG] = {}
    problems: list[Problem] = []
    for file in sorted(folder.glob("*.yaml")):
        try:
            dag = pipeline_dag(file)
        except ContractError as error:
            problems += error.problems
        else:
            dags[dag.dag_id] = dag
    if problems:
        raise ContractError(tuple(problems))
    return dags
