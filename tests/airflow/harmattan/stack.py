"""An Airflow of a test's own: api-server, scheduler and triggerer, with the DAGs of a folder."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import requests
from cryptography.fernet import Fernet

from scripts.repository import ROOT
from tests.airflow.harmattan.running import SETTINGS, environment
from tests.airflow.harmattan.runs.cluster import until
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Keeps the DAGs of the folder as a DAG processor does.
SEED = """
import sys
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
DagBundlesManager().sync_bundles_to_db()
bag = BundleDagBag(dag_folder=sys.argv[1], bundle_path=sys.argv[1], bundle_name="analysts")
assert not bag.import_errors, bag.import_errors
sync_bag_to_db(bag, "analysts", None)
"""
# The analysts' triggerer, but for the other user of its child, which test_triggerer.py tries.
TRIGGERER = """
import os, sys
from pathlib import Path
from airflow.__main__ import main
from airflow.jobs import triggerer_job_runner as runner
from harmattan.triggerer import BundleTriggers
BundleTriggers.heartbeat_file = Path("heartbeat")
os.environ["AIRFLOW__TRIGGERER__QUEUES_ENABLED"] = "True"
runner.TriggerRunnerSupervisor = BundleTriggers
sys.argv = ["airflow", "triggerer", "--skip-serve-logs", "--queues", "analysts"]
main()
"""


@dataclass
class Stack:
    """Processes of Airflow, each with a log of its name in ``home``."""

    home: Path
    metadata: str
    address: str
    env: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    token: str = ""

    def start(self, name: str, *words: str) -> None:
        """Start Python with ``words``."""
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-W", "ignore", *words], cwd=self.home, env=self.env,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def run(self, *words: str) -> None:
        """Run Python with ``words`` to its end."""
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *words], env=self.env, cwd=self.home,
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]

    def stop(self, name: str) -> None:
        """Kill a process with its children."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def start_api(self) -> None:
        """Start the api-server, which tasks need."""
        port = self.address.rpartition(":")[2]
        words = ("api-server", "--host", "127.0.0.1", "--port", port)
        self.start("api-server", "-m", "airflow", *words)

    def start_scheduler(self) -> None:
        """Start the scheduler, as its job does."""
        self.start("scheduler", "-m", "harmattan.scheduler", "--skip-serve-logs")

    def start_triggerer(self) -> None:
        """Start the triggerer of the analysts."""
        self.start("triggerer", "-c", TRIGGERER)

    def log(self, name: str) -> str:
        """Return what a process has said."""
        return (self.home / f"{name}.log").read_text()

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the metadata database."""
        with psycopg.connect(self.metadata) as connection:
            return connection.execute(query.encode(), parameters or None).fetchall()

    def change(self, statement: str, *parameters: object) -> None:
        """Change the metadata database behind Airflow's back."""
        with psycopg.connect(self.metadata) as connection:
            connection.execute(statement.encode(), parameters or None)

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Ask Airflow's API as its administrator, and return the answer."""
        if not self.token:
            self.token = until(self._login)
        answer = requests.request(
            method, f"{self.address}/api/v2/{path}", json=body, timeout=30,
            headers={"Authorization": f"Bearer {self.token}"},
        )  # fmt: skip
        assert answer.ok, answer.text
        return answer.json()

    def _login(self) -> str:
        try:
            answer = requests.get(f"{self.address}/auth/token", timeout=10)
        except (requests.ConnectionError, requests.Timeout):
            assert self.processes["api-server"].poll() is None, self.log("api-server")
            return ""
        return str(answer.json()["access_token"])

    def trigger(self, dag_id: str, run_id: str, logical_date: str | None = None) -> None:
        """Ask for a run, as people do."""
        asked = {"dag_run_id": run_id, "logical_date": logical_date}
        self.api("POST", f"dags/{dag_id}/dagRuns", asked)

    def ended(self, dag_id: str, run_id: str) -> str:
        """Wait until a run has ended; return its state."""
        query = (
            "SELECT state FROM dag_run WHERE dag_id = %s AND run_id = %s"
            " AND state IN ('success', 'failed')"
        )
        ((state,),) = until(lambda: self.rows(query, dag_id, run_id))
        return str(state)


@contextmanager
def processes(home: Path, metadata: str, env: dict[str, str]) -> Iterator[Stack]:
    """Let a test start Airflow's processes, with ``env`` besides how they know each other.

    All of them end with the block.
    """
    (home / "config").mkdir()
    (home / "config" / "airflow_local_settings.py").write_text(SETTINGS)
    address = f"http://127.0.0.1:{free_port()}"
    made = Stack(
        home,
        metadata,
        address,
        {
            "AIRFLOW__API__BASE_URL": address,
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(32),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            **env,
        },
    )
    try:
        yield made
    finally:
        for name in list(made.processes):
            made.stop(name)


@contextmanager
def stack(home: Path, dags: Path, metadata: str, *, seed: str = "", **more: str) -> Iterator[Stack]:
    """Make an Airflow whose bundle ``analysts`` is ``dags``; a test starts its processes.

    ``metadata`` is the URI of a migrated database; ``seed`` is run once the DAGs are in it, and
    ``more`` goes into their environment.
    """
    bundle = {
        "name": "analysts",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(dags)},
    }
    env = environment(home) | {
        "HOME": str(home),
        "PYTHONPATH": f"{ROOT}/airflow:{ROOT}",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata.replace(
            "postgresql:", "postgresql+psycopg2:"
        ),
        **more,
    }
    with processes(home, metadata, env) as made:
        made.run("-c", SEED + seed, str(dags))
        yield made
