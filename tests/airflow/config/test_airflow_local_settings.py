from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from scripts.jobs import platform
from scripts.repository import ROOT

if TYPE_CHECKING:
    from types import ModuleType

    from tests.conftest import PostgresServer

DAGS = """
from datetime import datetime
from airflow.sdk import DAG, task

for dag_id, pool in {pools!r}.items():
    with DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1)) as globals()[dag_id]:
        @task(pool=pool, queue="ingest")
        def work():
            pass
        work()
"""
# Stores the task instances of each DAG twice, as the scheduler and the API server do.
STORE = """
from datetime import datetime, timezone
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.models.pool import Pool
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils import db
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType

db.upgradedb()
Pool.create_or_update_pool(
    "source_records", slots=7, description="larger", include_deferred=True
)
manager = DagBundlesManager()
manager.sync_bundles_to_db()
dag_ids = []
for bundle in manager.get_all_dag_bundles():
    bundle.initialize()
    bag = BundleDagBag(
        dag_folder=str(bundle.path), bundle_path=bundle.path, bundle_name=bundle.name
    )
    assert not bag.import_errors, bag.import_errors
    sync_bag_to_db(bag, bundle.name, None)
    dag_ids += bag.dag_ids
for day in (1, 2):
    for dag_id in dag_ids:
        with create_session() as session:
            date = datetime(2026, 1, day, tzinfo=timezone.utc)
            SerializedDagModel.get_dag(dag_id, session=session).create_dagrun(
                run_id=f"day_{day}", logical_date=date, data_interval=(date, date),
                run_after=date, run_type="manual", state="queued",
                triggered_by=DagRunTriggeredByType.TEST, session=session,
            )
"""


@pytest.fixture(scope="module")
def settings() -> ModuleType:
    """The module as Airflow finds it, from a folder that is on the path in the image only."""
    path = ROOT / "airflow/config/airflow_local_settings.py"
    spec = importlib.util.spec_from_file_location("airflow_local_settings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("bundles", "queue"),
    [
        ({"pipelines"}, "ingest"),
        ({"analysts"}, "analysts"),
        # Whatever cannot be placed goes to the pool with fewer rights.
        (set(), "analysts"),
        ({None}, "analysts"),
        ({""}, "analysts"),
        ({"unknown"}, "analysts"),
        ({"Pipelines"}, "analysts"),
        ({"ingest"}, "analysts"),
        # A file of one bundle that took over a name of the other's.
        ({"pipelines", "analysts"}, "analysts"),
        ({"pipelines", None}, "analysts"),
        ({"pipelines", "unknown"}, "analysts"),
    ],
)
def test_a_tasks_queue_follows_from_its_bundle(
    settings: ModuleType, bundles: set[str | None], queue: str
) -> None:
    assert settings.queue_of(bundles) == queue


def test_the_module_gives_airflow_its_hook_and_nothing_else(settings: ModuleType) -> None:
    assert settings.__all__ == ["task_instance_mutation_hook"]
    assert callable(settings.task_instance_mutation_hook)


def test_the_queues_are_those_of_the_workers(settings: ModuleType) -> None:
    given = {each.id: each.variables for each in platform()}
    queues = {each["queue"] for each in given.values() if "queue" in each}
    bundles = {each["bundle"] for each in given.values() if "bundle" in each}
    assert set(settings.QUEUES.values()) == queues
    assert set(settings.QUEUES) == bundles
    assert settings.OTHERWISE in queues


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> str:
    """The URI of a database where Airflow stored runs of both bundles' DAGs."""
    home, uri = tmp_path_factory.mktemp("airflow"), postgres.create_database()
    bundles = {
        "pipelines": {
            "ingest_hr": "source_hr",
            "ingest_records": "source_records",
            "ingest_other": "heavy",
            "ingest_none": "default_pool",
        },
        "analysts": {"theirs": "source_payroll"},
    }
    for name, pools in bundles.items():
        (home / name).mkdir()
        (home / name / "dags.py").write_text(DAGS.format(pools=pools))
    given = [
        {
            "name": name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(home / name)},
        }
        for name in bundles
    ]
    done = subprocess.run(
        [sys.executable, "-c", STORE],
        check=False,
        capture_output=True,
        text=True,
        cwd=home,
        env={name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
        | {
            "PYTHONPATH": str(ROOT / "airflow/config"),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(given),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": uri.replace(
                "postgresql://", "postgresql+psycopg2://"
            ),
        },
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return uri


def rows(uri: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(uri) as connection:
        return connection.execute(query).fetchall()


def test_a_stored_task_has_its_bundles_queue_whatever_its_file_says(metadata: str) -> None:
    assert rows(metadata, "SELECT DISTINCT dag_id, queue FROM task_instance ORDER BY 1") == [
        ("ingest_hr", "ingest"),
        ("ingest_none", "ingest"),
        ("ingest_other", "ingest"),
        ("ingest_records", "ingest"),
        ("theirs", "analysts"),
    ]


def test_a_source_that_a_pipeline_names_gets_a_pool_of_two_slots(metadata: str) -> None:
    assert rows(
        metadata, "SELECT slots, include_deferred FROM slot_pool WHERE pool = 'source_hr'"
    ) == [(2, False)]


def test_a_pool_that_is_there_stays_as_it_is(metadata: str) -> None:
    assert rows(
        metadata,
        "SELECT slots, description, include_deferred FROM slot_pool WHERE pool = 'source_records'",
    ) == [(7, "larger", True)]


def test_no_pool_is_made_for_analysts_or_by_any_other_name(metadata: str) -> None:
    stored = rows(metadata, "SELECT DISTINCT pool FROM task_instance")
    assert {("heavy",), ("source_payroll",)} <= set(stored)
    assert rows(metadata, "SELECT pool FROM slot_pool ORDER BY 1") == [
        ("default_pool",),
        ("source_hr",),
        ("source_records",),
    ]
