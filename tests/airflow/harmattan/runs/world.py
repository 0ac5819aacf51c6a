"""Airflow's own scheduler and triggerer beside a Nomad, with DAGs that run its job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from cryptography.fernet import Fernet

from scripts.repository import ROOT
from tests.airflow.harmattan.running import environment
from tests.airflow.harmattan.runs.cluster import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.airflow.harmattan.runs.cluster import Cluster

DAGS = """
from datetime import timedelta
from airflow.sdk import DAG, Asset, Param
from airflow.providers.standard.operators.empty import EmptyOperator
from harmattan.pipelines import META
from harmattan.runs.operator import NomadJobOperator

# As a pipeline's.
FORM = {"tables": Param([], type="array"), "full_refresh": False, "since": None, "until": None}

def run(dag_id, job="script", **arguments):
    with DAG(dag_id, schedule=None, catchup=False,
             params={"script": Param("", type="string"), **FORM}):
        NomadJobOperator(
            task_id="run", job=job, retry_delay=timedelta(seconds=1),
            meta={**META, "script": "{{ params.script }}", "name": "{{ run_id }}/"},
            outlets=[Asset("raw.staff"), Asset("raw.pay")], **arguments,
        )

run("once")
run("twice", retries=1)
run("short", execution_timeout=timedelta(seconds=15))
run("unknown", job="nowhere", retries=1)
with DAG("after", schedule=[Asset("raw.staff")], catchup=False):
    EmptyOperator(task_id="nothing")
"""
# Does what it reads, a line of JSON a command: importing Airflow takes seconds.
DRIVER = """
import json, os, sys, traceback
from pathlib import Path
from airflow import settings
from airflow.api.common.trigger_dag import trigger_dag
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.models.dagbag import DBDagBag
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select

def trigger(dag_id, conf):
    made = trigger_dag(dag_id, triggered_by=DagRunTriggeredByType.TEST, conf=conf)
    return made.run_id

def clear(run_id):
    with create_session() as session:
        found = session.scalars(select(TaskInstance).where(TaskInstance.run_id == run_id)).all()
        clear_task_instances(found, session)

def fail(run_id):
    with create_session() as session:
        ti = session.scalars(select(TaskInstance).where(TaskInstance.run_id == run_id)).one()
        dag = DBDagBag().get_dag_for_run(ti.dag_run, session=session)
        dag.set_task_instance_state(task_id="run", run_id=run_id, state="failed", session=session)

bundle, answers = Path(sys.argv[1]), os.fdopen(int(sys.argv[2]), "w")
DagBundlesManager().sync_bundles_to_db()
bag = BundleDagBag(dag_folder=str(bundle), bundle_path=bundle, bundle_name="pipelines")
assert not bag.import_errors, bag.import_errors
sync_bag_to_db(bag, "pipelines", None)
print(json.dumps("READY"), file=answers, flush=True)
for line in sys.stdin:
    name, *arguments = json.loads(line)
    try:
        answer = {"trigger": trigger, "clear": clear, "fail": fail}[name](*arguments)
    except Exception:
        answer = {"error": traceback.format_exc()}
    settings.Session.remove()
    print(json.dumps(answer), file=answers, flush=True)
"""
# The pipelines' triggerer, but for the other user of its child, which test_triggerer.py tries.
TRIGGERER = """
import os, sys
from pathlib import Path
from airflow.__main__ import main
from airflow.jobs import triggerer_job_runner as runner
from harmattan.triggerer import BundleTriggers, PipelineTriggers
BundleTriggers.heartbeat_file = Path("heartbeat")
os.environ["AIRFLOW__TRIGGERER__QUEUES_ENABLED"] = "True"
runner.TriggerRunnerSupervisor = PipelineTriggers
sys.argv = ["airflow", "triggerer", "--skip-serve-logs", "--queues", "pipelines"]
main()
"""


@dataclass
class World:
    """A running Airflow; ``token_file`` is where its triggerer has Nomad's token from."""

    cluster: Cluster
    home: Path
    metadata: str
    token_file: Path
    env: dict[str, str]
    answers: Any = None
    processes: dict[str, subprocess.Popen[Any]] = field(default_factory=dict)

    def start(self, name: str, *words: str) -> subprocess.Popen[Any]:
        """Start a process of Airflow's, with a log of its name."""
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", *words], cwd=self.home, env=self.env,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.processes[name] = process
        return process

    def start_triggerer(self) -> subprocess.Popen[Any]:
        return self.start("triggerer", "-c", TRIGGERER)

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.metadata) as connection:
            return connection.execute(query, parameters or None).fetchall()

    def change(self, statement: str, *parameters: object) -> None:
        """Change the metadata database behind Airflow's back."""
        with psycopg.connect(self.metadata) as connection:
            connection.execute(statement, parameters)

    def wait(self) -> Any:
        """Return the driver's next answer."""
        line = self.answers.readline()
        assert line, self.log("driver")
        answer = json.loads(line)
        assert not isinstance(answer, dict), answer
        return answer

    def ask(self, *words: Any) -> Any:
        """Have the driver do something."""
        stdin = self.processes["driver"].stdin
        assert stdin is not None
        stdin.write(json.dumps(words).encode() + b"\n")
        stdin.flush()
        return self.wait()

    def run(self, dag_id: str, script: str, **conf: str) -> str:
        """Begin a run of a DAG and return its id."""
        return str(self.ask("trigger", dag_id, {"script": script, **conf}))

    def state(self, run_id: str) -> tuple[str, int]:
        """Return the state of the run's task, and its tries."""
        ((state, tries),) = self.rows(
            "SELECT coalesce(state, 'none'), try_number FROM task_instance WHERE run_id = %s",
            run_id,
        )
        return state, tries

    def ended(self, run_id: str, seconds: float = 240) -> tuple[str, int]:
        """Return the state and tries of the run's task, when its DAG run has ended."""
        query = "SELECT 1 FROM dag_run WHERE run_id = %s AND state IN ('success', 'failed')"
        until(lambda: self.rows(query, run_id), seconds)
        return self.state(run_id)

    def children(self, run_id: str) -> list[dict[str, Any]]:
        """Return what Nomad ran for it."""
        wanted = f"{run_id}/"
        children = self.cluster.children()  # others of this Nomad's tests have no name
        return [each for each in children if each["Meta"].get("name", "").startswith(wanted)]

    def lines(self, run_id: str) -> list[dict[str, Any]]:
        """Return the events of the task's log, of all triggerers, by their time."""
        logs = self.home.glob(f"logs/*/run_id={run_id}/task_id=run/*")
        events = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
        return sorted(events, key=lambda event: event["timestamp"])

    def log(self, name: str) -> str:
        """Return the end of a process's log."""
        return (self.home / f"{name}.log").read_text()[-8000:]

    def kill(self, name: str) -> None:
        """Kill a process with its children, as a lost node does."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def new_token(cluster: Cluster) -> str:
    """Return a token of the triggerer's that nobody else has."""
    asked = {"Type": "client", "Policies": ["runs"]}
    return str(cluster.api("PUT", "acl/token", asked).json()["SecretID"])


@contextmanager
def running(home: Path, cluster: Cluster, metadata: str) -> Iterator[World]:
    """Run a scheduler and a triggerer for as long as the block."""
    folder, token = home / "dags", home / "token"
    folder.mkdir()
    (folder / "runs.py").write_text(DAGS)
    token.write_text(new_token(cluster))
    bundle = {
        "name": "pipelines",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(folder)},
    }
    connection = {"address": cluster.address, "token_file": str(token), "namespace": "runs"}
    env = environment(home) | {
        "HOME": str(home),
        "PYTHONPATH": f"{ROOT}/airflow:{ROOT}",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata.replace(
            "postgresql://", "postgresql+psycopg2://"
        ),
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW__SECRETS__BACKEND": "harmattan.runs.connection.NomadConnection",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(connection),
        # A lost triggerer is noticed at once.
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
    }
    world = World(cluster, home, metadata, token, env)
    reading, writing = os.pipe()
    with os.fdopen(reading) as world.answers, (home / "driver.log").open("wb") as log:
        world.processes["driver"] = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", DRIVER, str(folder), str(writing)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=[writing], cwd=home, env=env,
            start_new_session=True,
        )  # fmt: skip
        os.close(writing)
        try:
            assert world.wait() == "READY"
            world.start("scheduler", "-m", "airflow", "scheduler", "--skip-serve-logs")
            world.start_triggerer()
            until((home / "heartbeat").exists, 300)  # from here on its runs' time counts
            yield world
        finally:
            stdin = world.processes["driver"].stdin
            assert stdin is not None
            stdin.close()
            for name in list(world.processes):
                world.kill(name)
