"""What is found in DAG files that do no harm; test_judge.py has the others, in the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from scripts.repository import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

FILE = """
from airflow.sdk import dag, task

@dag(schedule=None)
def report():
    @task
    def read() -> list[int]:
        return [1]

    @task(queue="heavy")
    def build(n: int) -> None:
        print(n)

    build.expand(n=read())

report()
"""


def examined(tree: Path, queues: str) -> list[Any]:
    """Return what the importer says of a tree, line by line."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tree),
        "AIRFLOW_HOME": str(tree / "home"),
        "AIRFLOW_CONFIG": f"{ROOT}/airflow/config/airflow.cfg",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tree / "home/logs"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////nonexistent/airflow.db",
        "_AIRFLOW_PROCESS_CONTEXT": "client",
        "PYTHONPATH": f"{ROOT}/airflow:{ROOT}",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "delivery.importer", tree / "dags", "60", queues],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("queues", ["analysts,heavy", ""])
def test_a_task_may_name_a_queue_that_a_worker_serves(tmp_path: Path, queues: str) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/report.py").write_text(FILE)
    assert examined(tmp_path, queues) == [
        {"importing": "report.py"},
        {"complete": {"files": 1, "dags": 1}},
    ]


def test_a_task_that_names_another_queue_is_refused_with_those_that_there_are(
    tmp_path: Path,
) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/report.py").write_text(FILE)
    problem = (
        "DAG 'report': task 'build' asks for the queue 'heavy', which no worker serves:"
        " there are analysts, other"
    )
    assert examined(tmp_path, "analysts,other") == [
        {"importing": "report.py"},
        {"finding": {"file": "report.py", "message": problem, "trace": []}},
        {"complete": {"files": 1, "dags": 1}},
    ]
