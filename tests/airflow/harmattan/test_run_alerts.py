"""Failed runs of a real scheduler, posted to a receiver that may be well, away, slow or broken."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.airflow.harmattan.runs.cluster import until
from tests.airflow.harmattan.stack import Stack, stack
from tests.http_server import Answer, http_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.programs

DAGS = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator
for dag_id in ("report", "ingest_hr"):
    with DAG(dag_id, schedule=None, default_args={"owner": "it\\u202e\\n" + "y" * 600}) as dag:
        for name in ("load", "check"):
            PythonOperator(task_id=name, python_callable=print, pool="nobody")
    globals()[dag_id] = dag
"""
RUNS = ("a", "b", "c", "again", "broken", "silent", "last", "well")
# Makes runs: no worker takes a task of a pool without slots, so the test says how each ended.
TRIGGER = f"""
from airflow.api.common.trigger_dag import trigger_dag
from airflow.utils.types import DagRunTriggeredByType
for dag_id in ("ingest_hr", "report"):
    for run_id in {RUNS}:
        trigger_dag(dag_id, run_id=run_id, triggered_by=DagRunTriggeredByType.TEST)
"""
# A request goes on for as long as nobody answers it, and is tried again for a second.
SCHEDULER = """
from frame import posting
from harmattan import run_alerts, scheduler
posting._TIMEOUT, run_alerts._PATIENCE = 600.0, 1.0
scheduler.main()
"""


@dataclass
class World:
    """A scheduler with runs of the DAGs ``report`` and ``ingest_hr``, all of which wait."""

    airflow: Stack
    url: Path
    path: str  # a secret, as in the URLs of most services

    def tell(self, address: str) -> None:
        """Name the receiver."""
        aside = self.url.with_suffix(".new")
        aside.write_text(f"{address}/{self.path}")
        aside.replace(self.url)

    def start_scheduler(self) -> None:
        self.airflow.start("scheduler", "-c", SCHEDULER, "--skip-serve-logs")

    def end(self, run_id: str, *, state: str = "failed", dag_id: str = "report") -> None:
        """Have a run's task ``load`` end so, and wait until the run has."""
        self.airflow.change(
            "UPDATE task_instance SET state = CASE WHEN task_id = 'load' THEN %s ELSE 'success' END"
            " WHERE dag_id = %s AND run_id = %s", state, dag_id, run_id,
        )  # fmt: skip
        assert self.airflow.ended(dag_id, run_id) == state


@pytest.fixture(scope="module")
def world(
    metadata_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    home, dags = tmp_path_factory.mktemp("airflow"), tmp_path_factory.mktemp("dags")
    (dags / "dags.py").write_text(DAGS)
    url = home / "url"
    url.write_text("")
    more = {"FAILURE_WEBHOOK_FILE": str(url), "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG"}
    with stack(home, dags, metadata_database(), seed=TRIGGER, **more) as airflow:
        airflow.change(
            "INSERT INTO slot_pool (pool, slots, include_deferred) VALUES (%s, 0, false)", "nobody"
        )
        made = World(airflow, url, secrets.token_urlsafe(16))
        made.start_scheduler()
        waiting = "SELECT 1 FROM task_instance WHERE run_id = 'well' AND state = 'scheduled'"
        until(lambda: len(airflow.rows(waiting)) == 4)
        yield made


def test_a_failed_run_is_posted_once_and_so_is_the_one_that_is_well_again(world: World) -> None:
    with http_server() as receiver:
        world.tell(receiver.url)
        world.end("a", dag_id="ingest_hr")
        world.end("a")
        (body,) = until(lambda: receiver.posts)
        run = f"{world.airflow.address}/dags/report/runs/a"
        assert body.pop("at")
        assert body == {
            "status": "failed", "dag": "report", "run_id": "a", "tasks": ["load"],
            "owner": ("it" + "y" * 600)[:250], "log_url": run,
        }  # fmt: skip
        assert world.path in receiver.requests[0].path
        world.end("b", state="success")
        world.end("c", state="success")
        world.end("again")
        until(lambda: len(receiver.posts) == 3)
        said = [(each["status"], each["run_id"], each["tasks"]) for each in receiver.posts]
        assert said[1:] == [("recovered", "b", []), ("failed", "again", ["load"])]


@pytest.mark.parametrize("run_id", ["broken", "silent"])
def test_a_receiver_that_does_not_take_it_costs_the_scheduler_nothing(
    world: World, run_id: str
) -> None:
    """A silent one has the request for as long as its block: what waited for it would not end."""
    with http_server(Answer(500 if run_id == "broken" else 0)) as receiver:
        world.tell(receiver.url)
        world.end(run_id)
        until(lambda: receiver.requests)
        world.end(run_id, dag_id="ingest_hr")


def test_the_next_failure_is_posted_and_no_log_shows_the_url(world: World) -> None:
    with http_server() as receiver:
        world.tell(receiver.url)
        world.end("last")
        until(lambda: [each for each in receiver.posts if each["run_id"] == "last"], 180)
    said = world.airflow.log("scheduler")
    assert "alert of a run not delivered" in said
    assert world.path not in said


def test_after_a_restart_the_database_says_what_was_failing(world: World) -> None:
    world.airflow.stop("scheduler")
    with http_server() as receiver:
        world.tell(receiver.url)
        world.start_scheduler()
        world.end("well", state="success")
        (body,) = until(lambda: receiver.posts)
        assert (body["status"], body["run_id"]) == ("recovered", "well")
