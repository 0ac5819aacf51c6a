"""A task that no worker takes waits, whatever a real scheduler makes of its age."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.airflow.harmattan.test_executor import Servers, wait_for, worker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import PostgresServer

pytestmark = pytest.mark.programs

TIMES = 4  # that it is sent again: by Airflow's own settings it has failed by then
SEED = """
import sys
from pathlib import Path
from airflow.api.common.trigger_dag import trigger_dag
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.utils import db
from airflow.utils.types import DagRunTriggeredByType
folder = Path(sys.argv[1])
(folder / "waits.py").write_text('''
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator
with DAG("waits", schedule=None):
    BashOperator(task_id="t", bash_command="true")
''')
db.initdb()
DagBundlesManager().sync_bundles_to_db()
bag = BundleDagBag(dag_folder=str(folder), bundle_path=folder, bundle_name="dags-folder")
sync_bag_to_db(bag, "dags-folder", None)
trigger_dag("waits", triggered_by=DagRunTriggeredByType.TEST)
"""


def test_a_task_waits_for_a_worker_for_as_long_as_there_is_none(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    uri, dags = postgres.create_database(), tmp_path / "dags"
    dags.mkdir()
    servers = Servers(tmp_path)
    settings = servers.settings(
        "scheduler",
        AIRFLOW__CORE__DAGS_FOLDER=str(dags),
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=uri.replace("postgresql:", "postgresql+psycopg2:"),
        AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT="2",
        AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL="1",
    )
    python = [sys.executable, "-W", "ignore"]
    subprocess.run(
        [*python, "-c", SEED, str(dags)], env=settings, check=True, capture_output=True, timeout=120
    )

    def rows(query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(uri) as connection:
            return connection.execute(query).fetchall()

    with ExitStack() as stack:
        for name in ("broker", "results"):
            stack.enter_context(servers.running(name))
        log = stack.enter_context((tmp_path / "airflow.log").open("wb"))
        scheduler = stack.enter_context(
            subprocess.Popen(
                [*python, "-m", "airflow", "scheduler"],
                env=settings, stdout=log, stderr=log, start_new_session=True,
            )
        )  # fmt: skip
        stack.callback(os.killpg, scheduler.pid, signal.SIGKILL)
        again = "SELECT count(*) FROM log WHERE event = 'stuck in queued reschedule'"
        wait_for(lambda: rows(again)[0][0] >= TIMES, 90)
        ((state,),) = rows("SELECT state FROM task_instance")
        assert state in {"queued", "scheduled"}
        # No api-server is there: what counts is that a worker is given it at last.
        said = stack.enter_context(worker(servers))
        wait_for(lambda: "received" in said.read_text(), 30)
