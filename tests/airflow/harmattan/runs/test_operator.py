"""The operator where no triggerer ends its tasks: in one process, as ``dag.test()`` does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.airflow.harmattan.running import Airflow, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.airflow.harmattan.runs.cluster import Cluster

DAGS = """
from datetime import timedelta
from airflow.sdk import DAG, Asset, task
from harmattan.runs.operator import NomadJobOperator
def make(name, script):
    with DAG(name, schedule=None, catchup=False):
        run = NomadJobOperator(
            task_id="run", job="script", meta={"script": script, "name": ""}, retries=1,
            outlets=[Asset("raw.staff"), Asset("raw.pay")], execution_timeout=timedelta(hours=1),
        )
        @task
        def after(summary):
            print("rows:", summary["rows"])
        after(run.output)
make("good", '''echo line; echo '{"rows": 3, "assets": {"raw.pay": {"rows": 3}}}' ''')
make("lasting", "exit 1")
make("passing", "exit 75")
"""


@pytest.fixture(scope="module")
def airflow(
    nomad_agent: Cluster,
    metadata_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Airflow]:
    home, root = tmp_path_factory.mktemp("airflow"), tmp_path_factory.mktemp("dags")
    (root / "dags.py").write_text(DAGS)
    with running(home, root, metadata_database(), {nomad_agent.token}) as started:
        yield started


def connection(cluster: Cluster) -> str:
    host, _, port = cluster.address.removeprefix("http://").partition(":")
    return json.dumps(
        {
            "conn_type": "nomad", "schema": "http", "host": host, "port": int(port),
            "password": cluster.token, "extra": {"namespace": "runs"},
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dag_id", "state", "tasks"),
    [
        ("good", "success", {"run": ("success", 1), "after": ("success", 1)}),
        ("lasting", "failed", {"run": ("failed", 1), "after": ("upstream_failed", 0)}),
        ("passing", "failed", {"run": ("failed", 2), "after": ("upstream_failed", 0)}),
    ],
)
def test_a_worker_ends_the_task_by_the_same_rules(
    airflow: Airflow,
    nomad_agent: Cluster,
    dag_id: str,
    state: str,
    tasks: dict[str, tuple[str, int]],
) -> None:
    run = airflow.run(dag_id, AIRFLOW_CONN_NOMAD_RUNS=connection(nomad_agent))
    assert run.state == state
    assert {name: how for name, (how, _) in run.tasks.items()} == {
        name: how for name, (how, _) in tasks.items()
    }
    if dag_id != "good":  # a busy Nomad may cost a try
        assert run.tasks == tasks or "expected an answer" in run.output
    else:
        assert "rows: 3" in run.output
        query = "SELECT name, asset_event.extra FROM asset_event JOIN asset ON asset.id = asset_id"
        assert airflow.rows(query) == [("raw.pay", {"rows": 3})]
