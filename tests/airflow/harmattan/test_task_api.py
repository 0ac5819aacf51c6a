"""A stranger's task at a real api-server, with a token that is its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import requests
from cryptography.fernet import Fernet

from scripts.repository import ROOT
from tests.airflow.harmattan.running import environment
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.programs

DAGS = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
for dag_id in ("ingest_hr", "mine"):
    with DAG(dag_id, schedule=None) as dag:
        EmptyOperator(task_id="t")
    globals()[dag_id] = dag
"""
# Makes a run of each DAG, ended, and prints a token of the task of `mine`.
SEED = """
import sys
from airflow import settings
from airflow.api.common.trigger_dag import trigger_dag
from airflow.api_fastapi.execution_api.app import _jwt_generator
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.models.taskinstance import TaskInstance
from airflow.utils.types import DagRunTriggeredByType
DagBundlesManager().sync_bundles_to_db()
bag = BundleDagBag(dag_folder=sys.argv[1], bundle_path=sys.argv[1], bundle_name="pipelines")
assert not bag.import_errors, bag.import_errors
sync_bag_to_db(bag, "pipelines", None)
session = settings.Session()
for dag_id in bag.dags:
    run = trigger_dag(dag_id, run_id="r", triggered_by=DagRunTriggeredByType.TEST, session=session)
    run.state = "success"
    (ti,) = session.query(TaskInstance).where(TaskInstance.dag_id == dag_id)
    ti.state, token_of = "success", str(ti.id)
    if dag_id == "mine":
        print("TOKEN", _jwt_generator().generate({"sub": token_of, "scope": "execution"}))
session.commit()
"""


@pytest.fixture(scope="module")
def metadata(metadata_database: Callable[[], str]) -> str:
    return metadata_database()


@pytest.fixture(scope="module")
def ask(
    metadata: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., requests.Response]]:
    """Ask the API for tasks with the token of a stranger's task."""
    home, port = tmp_path_factory.mktemp("airflow"), free_port()
    folder = home / "dags"
    folder.mkdir()
    (folder / "dags.py").write_text(DAGS)
    bundle = {
        "name": "pipelines",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(folder)},
    }
    env = environment(home) | {
        "HOME": str(home),
        "PYTHONPATH": f"{ROOT}/airflow:{ROOT}",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "airflow/plugins"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(32),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata.replace(
            "postgresql:", "postgresql+psycopg2:"
        ),
    }
    python = [sys.executable, "-W", "ignore"]
    seeded = subprocess.run(
        [*python, "-c", SEED, str(folder)], env=env, cwd=home, capture_output=True, text=True,
        timeout=180, check=False,
    )  # fmt: skip
    assert seeded.returncode == 0, seeded.stderr[-3000:]
    token = seeded.stdout.partition("TOKEN ")[2].split()[0]
    log = home / "log"
    words = ["-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port)]

    def asked(method: str, path: str, body: Any = None) -> requests.Response:
        return requests.request(
            method, f"http://127.0.0.1:{port}/execution/{path}", json=body, timeout=30,
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip

    with (
        log.open("wb") as output,
        subprocess.Popen([*python, *words], env=env, cwd=home, stdout=output, stderr=output,
                         start_new_session=True) as server,
    ):  # fmt: skip
        try:
            deadline = time.monotonic() + 240
            while True:
                assert server.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                try:
                    if asked("GET", "health").ok:
                        break
                except (requests.ConnectionError, requests.Timeout):
                    time.sleep(0.2)
            yield asked
        finally:
            os.killpg(server.pid, signal.SIGKILL)


WRITES = [
    ("POST", "xcoms/{}/r/t/log_read", {"try": "x"}),
    ("DELETE", "xcoms/{}/r/t/log_read", None),
    ("POST", "dag-runs/{}/another", {"conf": {"full_refresh": True}}),
    ("POST", "dag-runs/{}/r/clear", None),
]


def state(metadata: str, dag_id: str) -> list[tuple[Any, ...]]:
    query = (
        "SELECT run_id, dag_run.state, task_instance.state, try_number, (SELECT count(*) FROM xcom"
        " WHERE xcom.dag_id = %(id)s) FROM dag_run JOIN task_instance USING (dag_id, run_id)"
        " WHERE dag_id = %(id)s"
    )
    with psycopg.connect(metadata) as connection:
        return connection.execute(query, {"id": dag_id}).fetchall()


@pytest.mark.parametrize("spelt", ["ingest_hr", "ingest%5Fhr", "%69ngest_hr"])
@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_task_writes_no_xcom_of_a_pipelines_and_starts_or_clears_no_run(
    ask: Callable[..., requests.Response],
    metadata: str,
    method: str,
    path: str,
    body: Any,
    spelt: str,
) -> None:
    before = state(metadata, "ingest_hr")
    answer = ask(method, path.format(spelt), body)
    assert answer.status_code == 403, answer.text
    assert "XComs and runs of ingest_hr, a pipeline," in answer.json()["detail"]["message"]
    assert state(metadata, "ingest_hr") == before
    assert before == [("r", "success", "success", 0, 0)]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_of_other_dags_it_does_as_before(
    ask: Callable[..., requests.Response], method: str, path: str, body: Any
) -> None:
    answer = ask(method, path.format("mine"), body)
    assert answer.ok, answer.text


def test_what_a_pipelines_run_gave_can_be_read(ask: Callable[..., requests.Response]) -> None:
    assert ask("GET", "dag-runs/ingest_hr/r/state").json() == {"state": "success"}
    assert ask("GET", "xcoms/ingest_hr/r/t/return_value").status_code == 404
