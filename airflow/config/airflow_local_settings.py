"""Which queue a task goes to: decided by the bundle that its DAG comes from, and by nothing else.

It also makes the pool of each source that a pipeline names, so that a push is all it takes: Airflow
does not start tasks whose pool is not there.

Airflow imports this module in the api-server and the scheduler, where analysts'
code never runs, and calls the hook last, so a ``queue=`` in a DAG file has no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy.orm import Session

# Without it every name of this module would replace one of airflow.settings.
__all__ = ["task_instance_mutation_hook"]

QUEUES = {"pipelines": "ingest", "analysts": "analysts"}
# For whatever cannot be placed: the pool with fewer rights.
OTHERWISE = "analysts"
# Runs that may read one source at once, until the platform team gives its pool another size.
SLOTS = 2


def task_instance_mutation_hook(task_instance: TaskInstance, dag_run: DagRun | None = None) -> None:
    """Set the queue of ``task_instance``."""
    session = _session(task_instance, dag_run)
    task_instance.queue = queue_of(_bundles(session, task_instance))
    if session and task_instance.queue == QUEUES["pipelines"]:
        _make_pool(session, task_instance.pool)


def queue_of(bundles: set[str | None]) -> str:
    """Return the queue for a task whose DAG is known to come from ``bundles``.

    Two different ones mean that a DAG file took over a name that another bundle has.
    """
    return QUEUES.get(bundles.pop() or "", OTHERWISE) if len(bundles) == 1 else OTHERWISE


def _session(task_instance: TaskInstance, dag_run: DagRun | None) -> Session | None:
    """Return the session that Airflow works in; it forbids one of the hook's own.

    The first call, while the object is made, has none; the calls before it is stored do.
    """
    from sqlalchemy.orm import object_session

    return (dag_run and object_session(dag_run)) or object_session(task_instance)


def _bundles(session: Session | None, task_instance: TaskInstance) -> set[str | None]:
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from sqlalchemy import select

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


def _make_pool(session: Session, pool: str) -> None:
    """Make the pool ``pool`` of a source unless it is there."""
    from airflow.models.pool import Pool
    from sqlalchemy.dialects.postgresql import insert

    if not pool.startswith("source_"):
        return
    values = {
        "pool": pool,
        "slots": SLOTS,
        "description": "runs that read this source at once",
        "include_deferred": False,
    }
    with session.no_autoflush:
        session.execute(insert(Pool).values(values).on_conflict_do_nothing())
