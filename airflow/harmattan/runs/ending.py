"""Ends the tasks of :class:`~harmattan.runs.trigger.NomadJobTrigger` in the triggerer's parent.

Airflow would start a worker for it: seconds that a task of seconds does not have. What Airflow's
own end of a task from a trigger leaves out is added here: faults that are not tried again, events
of assets, and no callback for a task that has none, which would parse its file.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.execution_api.datamodels.asset import AssetProfile
from airflow.models.asset import AssetModel
from airflow.models.dagbag import DBDagBag
from airflow.models.db_callback_request import DbCallbackRequest
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger, handle_event_submit
from airflow.models.xcom import XComModel
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import event as events
from sqlalchemy import select

from harmattan.runs.end import End
from harmattan.runs.trigger import NomadJobTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow.triggers.base import TriggerEvent
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

CLASSPATH = f"{NomadJobTrigger.__module__}.{NomadJobTrigger.__qualname__}"


def end_tasks(trigger_id: int, event: TriggerEvent) -> bool:
    """End the task that waits for the trigger; return False if this is not a trigger of ours.

    For ``TriggerRunnerSupervisor.on_trigger_event``.
    """
    after: list[Callable[[], None]] = []
    with create_session() as session:
        trigger = session.get(Trigger, trigger_id)
        if trigger is None or trigger.classpath != CLASSPATH:
            return False
        try:
            end = End.read(event.payload)
        except ValueError as error:
            end = End(
                "passing", f"trigger {trigger_id}: expected how its run ended, found: {error}"
            )
        waiting = select(TaskInstance).where(
            TaskInstance.trigger_id == trigger_id, TaskInstance.state == TaskInstanceState.DEFERRED
        )
        for ti in session.scalars(waiting.with_for_update(of=TaskInstance)).all():
            after += _end(ti, end, session)
    for callback in after:  # Airflow calls them when the row is free
        callback()
    return True


def _end(ti: TaskInstance, end: End, session: Session) -> Sequence[Callable[[], None]]:
    dag = DBDagBag().get_dag_for_run(dag_run=ti.dag_run, session=session)
    task: Any = dag.get_task(ti.task_id) if dag else None
    after = _register(ti, task.outlets, end, session) if task else ()
    if end.kind == "lasting":
        ti.max_tries = min(ti.max_tries, ti.try_number - 1)
    ended = TaskSuccessEvent() if end.kind == "done" else TaskFailedEvent()
    with _without_idle_callbacks(session, task):
        handle_event_submit(ended, task_instance=ti, session=session)
        session.flush()
    if end.kind == "done":
        _return(ti, end.summary, session)
    return after


def _return(ti: TaskInstance, summary: dict[str, Any] | None, session: Session) -> None:
    """Make the summary the task's XCom, in place of what an earlier try left.

    What Airflow's own event would push is text to whoever pulls it.
    """
    names = ("dag_id", "task_id", "run_id", "map_index")
    where: dict[str, Any] = {name: getattr(ti, name) for name in names}
    XComModel.clear(**where, session=session)
    if summary is not None:
        XComModel.set("return_value", summary, **where, serialize=False, session=session)


def _register(
    ti: TaskInstance, outlets: Sequence[Any], end: End, session: Session
) -> Sequence[Callable[[], None]]:
    """Write the events of the assets that the run changed, whatever became of the others.

    One below an outlet is known by its name once a DAG is scheduled by it.
    """
    changed = end.changed(each.name for each in outlets if hasattr(each, "uri"))
    known = select(AssetModel.name, AssetModel.uri).where(AssetModel.name.in_(changed))
    keys = [{"name": name, "uri": uri} for name, uri in session.execute(known)]
    return TaskInstance.register_asset_changes_in_db(
        ti,
        [AssetProfile(**key, type="Asset") for key in keys],
        [{"dest_asset_key": key, "extra": changed[key["name"]]} for key in keys],
        session=session,
    )


@contextmanager
def _without_idle_callbacks(session: Session, task: Any) -> Iterator[None]:
    """Keep out of the database the callbacks of a task that has none."""
    kinds = ("success", "failure", "retry")
    if task is None or task.email or any(getattr(task, f"has_on_{k}_callback") for k in kinds):
        yield
        return

    def drop(session: Session, *_: object) -> None:
        for each in [each for each in session.new if isinstance(each, DbCallbackRequest)]:
            session.expunge(each)

    events.listen(session, "before_flush", drop)
    try:
        yield
    finally:
        events.remove(session, "before_flush", drop)


class EndsTasks:
    """Mixed into Airflow's ``TriggerRunnerSupervisor``, the parent of the triggers."""

    def on_trigger_event(self, trigger_id: int, event: TriggerEvent) -> None:
        """End the task of a trigger of ours; leave others' to Airflow."""
        if not end_tasks(trigger_id, event):
            super().on_trigger_event(trigger_id, event)  # type: ignore[misc]
