"""The DAGs that pipeline files become, as a real Airflow parses and renders them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.airflow.harmattan.running import environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

LOADER = '''"""Airflow DAGs of the pipelines."""

from pathlib import Path

from harmattan.pipelines import pipeline_dags

globals().update(pipeline_dags(Path(__file__).parent / "pipelines"))
'''
# Also renders what a run is asked for, as the triggerer does from what the scheduler has.
PARSE = """
import copy, json, sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.sdk.definitions._internal.templater import SandboxedEnvironment
from airflow.serialization.serialized_objects import DagSerialization

RUNS = {
    "scheduled": ({}, "scheduled", 1),
    "form": ({"tables": ["public.a", "b"], "full_refresh": True}, "manual", 2),
    "interval": ({"since": "2026-01-01", "until": "2026-02-01"}, "manual", 1),
    "backfill": ({}, "backfill", 4),
}

def meta(task, params, kind, try_number):
    given = copy.deepcopy(task.dag.params)
    given.update(params)
    given.validate()
    values = given.dump()
    context = {
        "run_id": "a run's", "params": values,
        "dag_run": SimpleNamespace(run_type=kind, logical_date=datetime(2026, 3, 1, 2, tzinfo=UTC)),
        "ti": SimpleNamespace(try_number=try_number, log_url="http://airflow/log"), "task": task,
    }
    return task.render_template(task.meta, context, SandboxedEnvironment())

found = []
for root in map(Path, sys.argv[1:]):
    bag = BundleDagBag(dag_folder=str(root), bundle_path=root, bundle_name="pipelines")
    dags = {dag.dag_id: DagSerialization.to_dict(dag)["dag"] for dag in bag.dags.values()}
    asked = {dag.dag_id: {name: meta(dag.tasks[0], *run) for name, run in RUNS.items()}
             for dag in bag.dags.values()}
    found.append({"dags": dags, "errors": bag.import_errors, "asked": asked})
print("RESULT" + json.dumps(found))
"""


def parse(*roots: Path, home: Path) -> Any:
    """Return what a fresh interpreter finds, without any database or connection."""
    done = subprocess.run(
        [sys.executable, "-c", PARSE, *map(str, roots)],
        check=False,
        capture_output=True,
        text=True,
        cwd=home,
        env=environment(home),
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return json.loads(line.removeprefix("RESULT"))


def bundle(root: Path, *names: str) -> Path:
    (root / "pipelines").mkdir(parents=True)
    (root / "dags.py").write_text(LOADER)
    for name in names:
        (root / "pipelines" / f"{name}.yaml").write_text(
            f"source: {name}\nschema: raw_{name}\nschedule: '0 2 * * *'\nowner: people\n"
            "tables:\n  - name: public.*\n  - name: public.a\n  - name: 'other.\"B c\"'\n"
        )
    return root


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """What Airflow makes of a sound bundle and of one with broken files."""
    home = tmp_path_factory.mktemp("airflow")
    sound, broken = bundle(home / "sound", "hr", "records"), bundle(home / "broken", "hr")
    (broken / "pipelines" / "same.yaml").write_text((broken / "pipelines" / "hr.yaml").read_text())
    (broken / "pipelines" / "bad.yaml").write_text("source: hr\nload: full\n")
    first, second = parse(sound, broken, home=home)
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


def test_a_pipeline_is_one_task_that_asks_for_its_sources_job(parsed: tuple[Any, Any]) -> None:
    (task,) = (task["__var"] for task in parsed[0]["dags"]["ingest_hr"]["tasks"])
    assert (task["task_id"], task["owner"], task["start_from_trigger"]) == ("load", "people", True)
    assert task["start_trigger_args"]["trigger_kwargs"]["__var"]["job"] == "ingest-hr"
    assert (task["retries"], task["retry_delay"], task["max_retry_delay"]) == (3, 30, 900)
    assert task["retry_exponential_backoff"] == 2
    # It waits for readers, too; the trigger ends it a minute before Airflow would.
    assert task["execution_timeout"] == (4 + 6) * 3600 + 60
    outlets = {each["__var"]["name"]: each["__var"]["uri"] for each in task["outlets"]}
    assert outlets == {
        "raw_hr": "harmattan://warehouse/raw_hr",
        "raw_hr.a": "harmattan://warehouse/raw_hr/a",
        "raw_hr.B c": "harmattan://warehouse/raw_hr/B%20c",
    }


ALWAYS = {"pipeline": "hr", "run_id": "a run's", "log_url": "http://airflow/log"}
NOTHING = {"tables": "", "full_refresh": "", "interval_start": "", "interval_end": ""}


@pytest.mark.parametrize(
    ("run", "asked"),
    [
        ("scheduled", {"tries_left": "3"}),
        ("form", {"tables": "public.a,b", "full_refresh": "true", "tries_left": "2"}),
        (
            "interval",
            {"interval_start": "2026-01-01", "interval_end": "2026-02-01", "tries_left": "3"},
        ),
        ("backfill", {"interval_end": "2026-03-01T02:00:00+00:00", "tries_left": "0"}),
    ],
)
def test_a_run_is_asked_for_what_its_owner_wants(
    parsed: tuple[Any, Any], run: str, asked: dict[str, str]
) -> None:
    assert parsed[0]["asked"]["ingest_hr"][run] == {**ALWAYS, **NOTHING, **asked}


def test_a_broken_file_is_named_with_its_line(parsed: tuple[Any, Any]) -> None:
    _, found = parsed
    assert list(found["errors"]) == ["dags.py"]
    assert (
        "/broken/pipelines/bad.yaml:2: load: expected one of the keys source,"
        in (found["errors"]["dags.py"])
    )


def test_two_files_that_publish_into_one_schema_are_named(parsed: tuple[Any, Any]) -> None:
    _, found = parsed
    assert (
        "/broken/pipelines/same.yaml:2: schema: expected a schema of the pipeline's own, found"
        " raw_hr, as in " in (found["errors"]["dags.py"])
    )
