"""A triggerer of one bundle, whose triggers cannot read its secrets.

``python -m harmattan.triggerer BUNDLE FILE`` runs ``airflow triggerer`` with the capabilities
SETUID, SETGID and KILL. A DAG names any class as its trigger, so all triggers run as another user
(harmattan.strangers), and those of pipelines' tasks have a triggerer of their own, which no
stranger's trigger can stop or speak for. FILE is touched with each heartbeat.
"""

from __future__ import annotations

import os
import select as descriptors
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.jobs import triggerer_job_runner
from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor
from airflow.models.crypto import get_fernet
from airflow.models.dag import DagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time.comms import DeleteXCom, ErrorResponse, SetXCom
from airflow.utils.session import create_session
from cryptography.fernet import InvalidToken
from sqlalchemy import case, exists, select, update

from harmattan.claims import PIPELINES, is_pipelines
from harmattan.runs.ending import EndsTasks
from harmattan.runs.pace import quicken
from harmattan.strangers import fork_strangers

if TYPE_CHECKING:
    from airflow.executors.workloads.trigger import RunTrigger
    from sqlalchemy.orm import Session

# For triggers of no pipeline's task: analysts' tasks, asset watchers and callbacks.
OTHERWISE = "analysts"
PIECES = 256  # a megabyte, which takes less than a second


class BundleTriggers(TriggerRunnerSupervisor):
    """Runs the triggers of one bundle, which its only queue is called after, in a stranger."""

    heartbeat_file: ClassVar[Path]
    ended: tuple[int, ...] = ()  # triggers whose logs are still open

    @classmethod
    def start(cls, *rest: Any, **more: Any) -> Any:
        """Start the child, and make the API ready that it asks, before it has triggers.

        Airflow makes its API at the first request: seconds in which all of them would wait.
        """
        made = super().start(*rest, **more)
        made.client.connections.get("none")
        return made

    def load_triggers(self) -> None:
        """Send every trigger to its bundle's queue, whatever queue it asked for, and take ours."""
        home = case(
            (
                exists().where(
                    TaskInstance.trigger_id == Trigger.id,
                    DagModel.dag_id == TaskInstance.dag_id,
                    DagModel.bundle_name == PIPELINES,
                ),
                PIPELINES,
            ),
            else_=OTHERWISE,
        )
        astray = select(Trigger.id, home).where(Trigger.queue.is_distinct_from(home))
        with create_session() as session:
            # What is locked the other triggerer sends home at this moment.
            rows = session.execute(astray.with_for_update(of=Trigger, skip_locked=True)).all()
            for trigger_id, queue in rows:
                moved = update(Trigger).where(Trigger.id == trigger_id)
                session.execute(moved.values(queue=queue, triggerer_id=None))
        super().load_triggers()

    def fetch_trigger_details(
        self, trigger_ids: set[int], *, session: Session
    ) -> dict[int, Trigger]:
        """Fetch those of the triggers that are still ours.

        One that asked for our queue and came between the two steps of :meth:`load_triggers` is
        not: the next round sends it home.
        """
        triggers = super().fetch_trigger_details(trigger_ids, session=session)
        ours = self.queues or set()
        kept = {each: row for each, row in triggers.items() if _home(row, session) in ours}
        for task_instance in (row.task_instance for row in kept.values()):
            # Where the web server asks for the log of a task that never was on a worker.
            if task_instance and self.job and not task_instance.hostname:
                task_instance.hostname = self.job.hostname
        return kept

    def build_trigger_workloads(self, new_trigger_ids: set[int]) -> list[RunTrigger]:
        """Build what the child is told to run, decrypted, as it has no Fernet key."""
        readable = []
        for workload in super().build_trigger_workloads(new_trigger_ids):
            try:
                workload.encrypted_kwargs = _decrypted(workload.encrypted_kwargs)
            except InvalidToken:
                error = "the trigger's arguments cannot be decrypted with this Fernet key\n"
                self.failed_triggers.append((workload.id, [error]))
            else:
                readable.append(workload)
        return readable

    def _handle_request(self, msg: Any, log: Any, req_id: int) -> None:
        """Take events and failures of the triggers that the child was told to run, and no others'.

        Nor does it write the XComs of pipelines, unless they are ours.

        A stranger in the child speaks on its socket as well as Airflow does.
        """
        if isinstance(msg, triggerer_job_runner.messages.TriggerStateChanges):
            ours = self.running_triggers
            msg.events = [each for each in msg.events or () if each.trigger_id in ours]
            msg.failures = [each for each in msg.failures or () if each[0] in ours]
            # Airflow closes the logs of triggers that have ended: their last lines may not be read.
            self.ended = (*self.ended, *(msg.finished or ()))
            msg.finished = [] if self._has_lines() else list(self.ended)
            self.ended = () if msg.finished else self.ended
        elif isinstance(msg, (SetXCom, DeleteXCom)) and not self._may_write(msg.dag_id):
            detail = {"message": f"XComs of {msg.dag_id} are written by the pipelines' triggerer"}
            error = ErrorResponse(error=ErrorType.PERMISSION_DENIED, detail=detail)
            self.send_msg(None, request_id=req_id, error=error)
            return
        super()._handle_request(msg, log, req_id)

    def _may_write(self, dag_id: str) -> bool:
        return PIPELINES in (self.queues or ()) or not is_pipelines(dag_id)

    def _service_subprocess(self, max_wait_time: float, *rest: Any, **more: Any) -> int | None:
        """Read what the child has written, up to PIECES of it, between two looks at the database.

        Airflow itself reads one, 4 kB, and all triggers wait while a line of one of them does.
        """
        ended: int | None = super()._service_subprocess(max_wait_time, *rest, **more)
        for _ in range(PIECES):
            if ended is not None or not self._has_lines():
                break
            ended = super()._service_subprocess(0, *rest, **more)
        return ended

    def _has_lines(self) -> bool:
        """Return whether the child has written lines that are not read yet."""
        logs = [each for each, kind in self._open_sockets.items() if kind == "logs"]
        return bool(descriptors.select(logs, [], [], 0)[0])

    def heartbeat_callback(self, session: Session | None = None) -> None:
        """Touch the file that harmattan.health looks at."""
        super().heartbeat_callback(session)
        self.heartbeat_file.touch()


class PipelineTriggers(EndsTasks, BundleTriggers):
    """Those of the pipelines' bundle: their tasks end here, and they are looked at more often."""

    @classmethod
    def run_in_process(cls) -> None:
        """Run the triggers, in the child."""
        quicken()
        super().run_in_process()


def _home(trigger: Trigger, session: Session) -> str:
    task_instance = trigger.task_instance
    dag = task_instance and session.get(DagModel, task_instance.dag_id)
    return PIPELINES if dag and dag.bundle_name == PIPELINES else OTHERWISE


def _decrypted(kwargs: str) -> str:
    """Return a trigger's arguments as JSON; they may be so already, which Airflow takes as well."""
    if kwargs.startswith("{"):
        return kwargs
    return get_fernet().decrypt(kwargs.encode()).decode()


def main() -> None:
    """Run ``airflow triggerer`` for the bundle."""
    from airflow.__main__ import main as airflow

    bundle, BundleTriggers.heartbeat_file = sys.argv[1], Path(sys.argv[2])
    os.environ["AIRFLOW__TRIGGERER__QUEUES_ENABLED"] = "True"
    fork_strangers()
    triggers = PipelineTriggers if bundle == PIPELINES else BundleTriggers
    triggerer_job_runner.TriggerRunnerSupervisor = triggers  # type: ignore[misc]
    sys.argv = ["airflow", "triggerer", "--skip-serve-logs", "--queues", bundle]
    airflow()


if __name__ == "__main__":
    main()
