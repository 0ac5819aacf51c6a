"""Which queue a task goes to: decided by the bundle that its DAG comes from, and by nothing else.

Airflow imports this module in the api-server and the scheduler, where analysts'
code never runs, and calls the hook last, so a ``queue=`` in a DAG file has no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

# Without it every name of this module would replace one of airflow.settings.
__all__ = ["task_instance_mutation_hook"]

QUEUES = {"pipelines": "ingest", "analysts": "analysts"}
# For whatever cannot be placed: the pool with fewer rights.
OTHERWISE = "analysts"


def task_instance_mutation_hook(task_instance: TaskInstance, dag_run: DagRun | None = None) -> None:
    """Set the queue of ``task_instance``."""
    task_instance.queue = _queue(_bundles(task_instance, dag_run))


def _queue(bundles: set[str | None]) -> str:
    """Return the queue for a task whose DAG is known to come from ``bundles``.

    Two different ones mean that a DAG file took over a name that another bundle has.
    """
    return QUEUES.get(bundles.pop() or "", OTHERWISE) if len(bundles) == 1 else OTHERWISE


def _bundles(task_instance: TaskInstance, dag_run: DagRun | None) -> set[str | None]:
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from sqlalchemy import select
    from sqlalchemy.orm import object_session

    # The first call, while the object is made, has neither; the calls before it is stored do.
    # Airflow forbids sessions of the hook's own.
    session = (dag_run and object_session(dag_run)) or object_session(task_instance)
    if session is None:
        return set()
    with session.no_autoflush:
        of_dag = select(DagModel.bundle_name).where(DagModel.dag_id == task_instance.dag_id)
        bundles = {session.scalar(of_dag)}
        if task_instance.dag_version_id:
            of_version = select(DagVersion.bundle_name).where(
                DagVersion.id == task_instance.dag_version_id
            )
            bundles.add(session.scalar(of_version))
    return bundles
