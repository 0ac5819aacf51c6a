"""Makes the analysts' ``containers/*.yaml`` into DAGs of one task each, which Nomad runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery import containers
from harmattan.pipelines import PATIENT, platform_dag
from harmattan.runs.operator import NomadJobOperator
from ingest.errors import ContractError

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import DAG

    from ingest.errors import Problem

# What a run is told beside the file's meta; the file itself holds no template.
GIVEN = {"run_id": "{{ run_id }}", "log_url": "{{ ti.log_url }}"}


def container_dag(file: Path) -> DAG:
    """Return the DAG ``container_<file stem>`` of one file; raise ContractError."""
    said = containers.read(file)
    with platform_dag(
        f"{containers.PREFIX}{file.stem}",
        said.description or f"Nomad's job container-{said.container}",
        said.schedule,
        said.owner,
        {"container", said.container},
    ) as dag:
        NomadJobOperator(
            task_id="run",
            job=f"container-{said.container}",
            meta={**said.meta, **GIVEN},
            execution_timeout=said.limit,
            doc_md=f"Runs Nomad's job `container-{said.container}`, with this file's meta.",
            **PATIENT,
        )
    return dag


def container_dags(folder: Path) -> dict[str, DAG]:
    """Return the DAG of every ``*.yaml`` in ``folder``, by its id.

    Raises one ContractError with the faults of all broken files; the gate has passed all of them.
    """
    dags: dict[str, DAG] = {}
    problems: list[Problem] = []
    for file in sorted(folder.glob("*.yaml")):
        try:
            dag = container_dag(file)
        except ContractError as error:
            problems += error.problems
        else:
            dags[dag.dag_id] = dag
    if problems:
        raise ContractError(tuple(problems))
    return dags
