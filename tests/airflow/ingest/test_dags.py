"""The DAGs that pipeline files become, in a real Airflow of a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.airflow.ingest.conftest import World

LOADER = '''"""Airflow DAGs of the pipelines."""

from pathlib import Path

from ingest.dags import pipeline_dags

globals().update(pipeline_dags(Path(__file__).parent / "pipelines"))
'''
PARSE = """
import json, sys
from pathlib import Path
found = []
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization
for root in map(Path, sys.argv[1:]):
    bag = BundleDagBag(dag_folder=str(root), bundle_path=root, bundle_name="pipelines")
    dags = {dag.dag_id: DagSerialization.to_dict(dag)["dag"] for dag in bag.dags.values()}
    found.append({"dags": dags, "errors": bag.import_errors})
print("RESULT" + json.dumps(found))
"""
# Runs the task's own function as a worker does, but for Airflow's supervisor around it.
RUN = """
import json, os, sys
from pathlib import Path
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied
from ingest import dags
dags.get_current_context = lambda: {"run_id": "scheduled__2026-01-01"}
load = dags.pipeline_dag(Path(sys.argv[1])).get_task("load").python_callable
try:
    load()
except Exception as error:
    failed = f"{type(error).__name__}: {error}"
def deny(connection_id):
    raise AirflowSecretsBackendAccessDenied("Vault denies it. HINT: Ask whether it is yours.")
get, Connection.get = Connection.get, deny
try:
    load()
except Exception as error:
    denied = str(error)
Connection.get = get
os.environ["AIRFLOW_CONN_HR"], os.environ["AIRFLOW_CONN_WAREHOUSE"] = sys.argv[2:]
print("RESULT" + json.dumps([failed, denied, load()]))
"""


def airflow(code: str, *arguments: object, home: Path) -> Any:
    """Run ``code`` in a fresh interpreter that has no database and no home but ``home``."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=home,
        env={name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
        | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return json.loads(line.removeprefix("RESULT"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("airflow")


def bundle(root: Path, *names: str) -> Path:
    (root / "pipelines").mkdir(parents=True)
    (root / "dags.py").write_text(LOADER)
    for name in names:
        (root / "pipelines" / f"{name}.yaml").write_text(
            f"source: {name}\nschema: raw_{name}\nschedule: '0 2 * * *'\nowner: people\n"
            "tables:\n  - name: public.*\n"
        )
    return root


@pytest.fixture(scope="module")
def parsed(home: Path) -> tuple[Any, Any]:
    """What Airflow makes of a sound bundle and of one with a broken file."""
    sound, broken = bundle(home / "sound", "hr", "records"), bundle(home / "broken", "hr")
    (broken / "pipelines" / "bad.yaml").write_text("source: hr\nload: full\n")
    first, second = airflow(PARSE, sound, broken, home=home)
    return first, second


def test_each_pipeline_file_becomes_a_dag_that_serialises(parsed: tuple[Any, Any]) -> None:
    found, _ = parsed
    assert found["errors"] == {}
    assert sorted(found["dags"]) == ["ingest_hr", "ingest_records"]
    dag = found["dags"]["ingest_hr"]
    assert dag["timetable"]["__type"] == "airflow.timetables.trigger.CronTriggerTimetable"
    assert dag["timetable"]["__var"]["expression"] == "0 2 * * *"
    assert dag["timetable"]["__var"]["timezone"] == "UTC"
    assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)
    assert dag["is_paused_upon_creation"] is False
    assert sorted(dag["tags"]) == ["hr", "ingest"]
    (load,) = [task["__var"] for task in dag["tasks"]]
    assert (load["task_id"], load["owner"]) == ("load", "people")
    assert (load["retries"], load["retry_delay"], load["max_retry_delay"]) == (3, 30, 900)
    assert load["retry_exponential_backoff"] == 2
    assert load["execution_timeout"] == 4 * 3600


def test_a_broken_file_is_named_with_its_line(parsed: tuple[Any, Any], home: Path) -> None:
    _, found = parsed
    assert list(found["errors"]) == ["dags.py"]
    where = home / "broken" / "pipelines" / "bad.yaml"
    assert f"{where}:2: load: expected one of the keys source," in found["errors"]["dags.py"]


def test_the_task_loads_every_table_or_names_the_connection_it_lacks(
    world: World, home: Path
) -> None:
    world.at_source("CREATE TABLE a (id int)", "CREATE TABLE b ()", "INSERT INTO a VALUES (1), (2)")
    failed, denied, rows = airflow(RUN, world.file(), world.source, world.warehouse, home=home)
    assert failed.startswith("UnknownConnectionError: connection warehouse: expected it in")
    assert "HINT: Ask the platform team" in failed
    assert denied == (
        "connection warehouse: expected it in the secrets backend, found: Vault denies it.\n"
        "HINT: Ask whether it is yours."
    )
    assert rows == {"raw_hr.a": 2, "raw_hr.b": 0}
    assert world.rows("SELECT DISTINCT pipeline, run_id FROM ops.loads") == [
        ("hr", "scheduled__2026-01-01")
    ]
