"""An Airflow of a test's own that runs the DAGs of a folder in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# What Airflow offers to change tasks without touching their files: retries that do not wait.
SETTINGS = """
from datetime import timedelta
def task_policy(task):
    task.retry_delay, task.retry_exponential_backoff = timedelta(milliseconds=1), 0
"""
# Does what it reads, a line of JSON a command, in one process: importing Airflow takes seconds.
DRIVER = """
import json, os, sys, traceback
from pathlib import Path
from airflow import settings
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

def run(dag_id):
    bag = BundleDagBag(dag_folder=str(bundle), bundle_path=bundle, bundle_name="analysts")
    assert not bag.import_errors, bag.import_errors
    sync_bag_to_db(bag, "analysts", None)
    return bag.dags[dag_id].test().run_id

bundle, answers = Path(sys.argv[1]), os.fdopen(int(sys.argv[2]), "w")
DagBundlesManager().sync_bundles_to_db()
print("READY", file=answers, flush=True)
for line in sys.stdin:
    command = json.loads(line)
    for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
        del os.environ[name]
    os.environ.update(command["environment"])
    try:
        answer = run(command["dag_id"])
    except Exception:
        answer = traceback.format_exc()
    settings.Session.remove()
    print(json.dumps(answer), file=answers, flush=True)
    for name in command["environment"]:
        del os.environ[name]
"""


@dataclass(frozen=True)
class Run:
    """What the metadata database and the process's log have of one DAG run."""

    run_id: str
    state: str
    tasks: dict[str, tuple[str, int]]  # state and tries
    output: str


@dataclass
class Airflow:
    """A process that runs DAGs of ``bundle``, with a metadata database of its own."""

    process: subprocess.Popen[str]
    answers: Any
    log: Path
    metadata: str
    bundle: Path
    secrets: set[str] = field(default_factory=set)

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.metadata) as connection:
            return connection.execute(query, parameters or None).fetchall()

    def run(self, dag_id: str, **environment: str) -> Run:
        before = self.log.stat().st_size
        command = {"dag_id": dag_id, "environment": environment}
        assert self.process.stdin is not None
        print(json.dumps(command), file=self.process.stdin, flush=True)
        run_id = json.loads(self.wait())
        output = self.log.read_bytes()[before:].decode()
        assert "Traceback" not in run_id, run_id
        for secret in self.secrets:
            assert secret not in output
        return self._told(run_id, output)

    def dump(self) -> str:
        """Return all that the metadata database holds."""
        tables = self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        queries = [sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(t)) for (t,) in tables]
        with psycopg.connect(self.metadata) as connection:
            return "\n".join(row for query in queries for (row,) in connection.execute(query))

    def wait(self) -> str:
        """Return the process's next answer."""
        line: str = self.answers.readline()
        assert line, f"Airflow ended:\n{self.log.read_text()[-8000:]}"
        return line

    def _told(self, run_id: str, output: str) -> Run:
        ((state,),) = self.rows("SELECT state FROM dag_run WHERE run_id = %s", run_id)
        tasks = self.rows(
            "SELECT task_id, state, try_number FROM task_instance WHERE run_id = %s", run_id
        )
        return Run(run_id, state, {task: (how, tries) for task, how, tries in tasks}, output)


def environment(home: Path) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if "AIRFLOW" not in name} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }


@contextmanager
def running(
    home: Path, root: Path, metadata: str, secrets: set[str], **more: str
) -> Iterator[Airflow]:
    """Run an Airflow whose bundle ``analysts`` is ``root``, for as long as the block.

    ``metadata`` is the URI of its migrated database, ``more`` goes into its environment. No log of
    a run may show one of the ``secrets``.
    """
    (home / "config").mkdir()
    (home / "config" / "airflow_local_settings.py").write_text(SETTINGS)
    log = home / "log"
    bundles = [
        {
            "name": "analysts",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(root)},
        }
    ]
    reading, writing = os.pipe()
    with log.open("wb") as output, os.fdopen(reading) as answers:
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(root), str(writing)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            text=True,
            pass_fds=[writing],
            cwd=home,
            env=environment(home)
            | {
                "AIRFLOW__API__BASE_URL": "https://airflow.example.org",
                # A leak is to be seen here, not to be hidden by Airflow's masking.
                "AIRFLOW__CORE__HIDE_SENSITIVE_VAR_CONN_FIELDS": "False",
                "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata.replace(
                    "postgresql://", "postgresql+psycopg2://"
                ),
                **more,
            },
        )
        os.close(writing)
        with process:
            found = Airflow(process, answers, log, metadata, root, secrets)
            assert found.wait() == "READY\n"
            yield found
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(120) == 0
