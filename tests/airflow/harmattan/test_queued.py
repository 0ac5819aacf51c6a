"""What is queued waits, whatever becomes of the broker and however late a worker comes.

A real scheduler sends it. No api-server is there: no task can begin, and what counts is what the
scheduler makes of those that have not.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest

from scripts.repository import ROOT
from tests.airflow.harmattan.test_executor import Servers, wait_for, worker
from tests.mail_server import mail_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.programs

TASKS = 30  # as many as the scheduler has with the executor at a time, nearly
TIMES = 4  # that each is sent again: by Airflow's own settings it has failed by then
SEED = """
import sys
from pathlib import Path
from airflow.api.common.trigger_dag import trigger_dag
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.utils.types import DagRunTriggeredByType
folder, tasks = Path(sys.argv[1]), sys.argv[2]
(folder / "waits.py").write_text(f'''
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator
with DAG("waits", schedule=None, max_active_tasks={tasks}):
    for number in range({tasks}):
        BashOperator(task_id=f"t{{number}}", bash_command="true")
''')
DagBundlesManager().sync_bundles_to_db()
bag = BundleDagBag(dag_folder=str(folder), bundle_path=folder, bundle_name="dags-folder")
sync_bag_to_db(bag, "dags-folder", None)
trigger_dag("waits", triggered_by=DagRunTriggeredByType.TEST)
"""

# The template's example of a deadline, and a run that missed it long ago.
LATE = """
import sys
from datetime import datetime, timezone
from airflow.api.common.trigger_dag import trigger_dag
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.utils.types import DagRunTriggeredByType
DagBundlesManager().sync_bundles_to_db()
bag = BundleDagBag(dag_folder=sys.argv[1], bundle_path=sys.argv[1], bundle_name="dags-folder")
sync_bag_to_db(bag, "dags-folder", None)
trigger_dag("deadline", run_id="late", triggered_by=DagRunTriggeredByType.TEST,
            logical_date=datetime(2026, 10, 5, 4, tzinfo=timezone.utc))
"""


@dataclass
class Waiting:
    """A run of a DAG of TASKS tasks, and what its scheduler's processes need."""

    servers: Servers
    metadata: str
    settings: dict[str, str]

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.metadata) as connection:
            return connection.execute(query.encode()).fetchall()

    def states(self) -> set[object]:
        return {state for (state,) in self.rows("SELECT state FROM task_instance")}

    def waits(self) -> bool:
        """Return whether the broker has a message."""
        return bool(self.servers.as_user("scheduler", "broker").llen("analysts"))

    def taken(self) -> set[str]:
        """Take all messages, as workers that are then lost, and return which tasks they are of."""
        lost_worker, names = self.servers.as_user("worker-analysts", "broker"), set()
        while message := lost_worker.brpop("analysts", 1):
            names.add(_task(json.loads(message[1])["body"]))
        return names

    @property
    def log(self) -> Path:
        return self.servers.home / "airflow.log"

    @contextmanager
    def scheduler(self) -> Iterator[None]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "airflow", "scheduler", "--skip-serve-logs"],
                env=self.settings, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def _task(body: str) -> str:
    """Return the name of the task that a message of Celery's is of."""
    (workload,), *_ = json.loads(base64.b64decode(body))
    return str(json.loads(workload)["ti"]["task_id"])


def made(uri: str, tmp_path: Path, code: str, *words: str) -> Waiting:
    """Return what the processes need, with a database and a run that ``code`` made."""
    dags = tmp_path / "dags"
    dags.mkdir(exist_ok=True)
    servers = Servers(tmp_path)
    settings = servers.settings(
        "scheduler",
        AIRFLOW__CORE__DAGS_FOLDER=str(dags),
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=uri.replace("postgresql:", "postgresql+psycopg2:"),
        AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT="2",
        AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL="1",
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(dags), *words],
        env=settings, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return Waiting(servers, uri, settings)


@pytest.fixture
def waiting(metadata_database: Callable[[], str], tmp_path: Path) -> Waiting:
    return made(metadata_database(), tmp_path, SEED, str(TASKS))


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.soak)])
def test_a_task_waits_for_a_broker_and_for_a_worker_as_long_as_there_is_none(
    waiting: Waiting, seconds: int
) -> None:
    """The broker is lost while tasks are sent, with those that it had."""
    names = {f"t{number}" for number in range(TASKS)}
    with ExitStack() as stack:
        stack.enter_context(waiting.servers.running("results"))
        with waiting.servers.running("broker"):
            stack.enter_context(waiting.scheduler())
            wait_for(waiting.waits, 120)
        later = "are sent later: the broker did not take them"
        wait_for(lambda: later in waiting.log.read_text(), 120)
        time.sleep(seconds)
        assert waiting.states() <= {"queued", "scheduled"}
        stack.enter_context(waiting.servers.running("broker"))
        # It is empty: the scheduler sends again what was in it, and what workers were lost with.
        taken: set[str] = set()
        wait_for(lambda: taken.update(waiting.taken()) or taken == names, 120)
        again = (
            "SELECT count(*) FROM (SELECT task_id FROM log WHERE event = 'stuck in queued"
            f" reschedule' GROUP BY task_id HAVING count(*) >= {TIMES}) AS often"
        )
        wait_for(lambda: waiting.rows(again) == [(TASKS,)], 240)
        assert waiting.states() <= {"queued", "scheduled"}
        said = stack.enter_context(worker(waiting.servers))
        wait_for(lambda: "received" in said.read_text(), 60)


def test_a_worker_mails_that_a_run_is_late(
    metadata_database: Callable[[], str], tmp_path: Path
) -> None:
    """The scheduler sends the callback to the queue of all workers; no token of a task is in it."""
    (tmp_path / "dags").mkdir()
    shutil.copy(ROOT / "airflow/analysts-template/examples/deadline.py", tmp_path / "dags")
    late = made(metadata_database(), tmp_path, LATE)
    with ExitStack() as stack, mail_server() as mails:
        stack.enter_context(late.servers.running("results"))
        stack.enter_context(late.servers.running("broker"))
        options = "from_email=airflow%40school.example&disable_ssl=true&disable_tls=true"
        smtp = f"smtp://127.0.0.1:{mails.port}/?{options}"
        more = {"AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags")}
        stack.enter_context(worker(late.servers, AIRFLOW_CONN_SMTP_DEFAULT=smtp, **more))
        stack.enter_context(late.scheduler())
        wait_for(lambda: mails.mails, 90)
        (mail,) = mails.mails
        assert mail["Subject"] == "deadline is late"
        state = "SELECT state FROM callback"
        wait_for(lambda: late.rows(state) == [("success",)], 30)
