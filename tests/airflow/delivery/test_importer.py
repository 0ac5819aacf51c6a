"""What the gate asks of DAGs, by Airflow's own import; test_judge.py has the hostile files."""

from __future__ import annotations

import json
import os
import secrets
import string
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from scripts.repository import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SAFE = '"owner": "it", "retries": 3, "retry_exponential_backoff": 2.0'
DAG = """
from airflow.sdk import DAG, task
from airflow.providers.standard.operators.python import PythonOperator
from include.rows import rows, pure
with DAG("{name}", schedule={schedule}, {more}, default_args={{{defaults}}}):
    {body}
"""
CALL = "PythonOperator(task_id='call', python_callable={})"
HTTP = (
    "from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator as Ask; "
    "Ask(task_id='ask', sql='select 1')"
)
# Name: what is otherwise than in a sound DAG, and the rules that it breaks.
FILES: dict[str, tuple[dict[str, str], set[str]]] = {
    "sound": ({}, set()),
    "no_tags": ({"more": "catchup=False"}, {"tags"}),
    "empty_tags": ({"more": "tags=[]"}, {"tags"}),
    "no_owner": ({"defaults": ""}, {"owner"}),
    "default_owner": ({"defaults": '"owner": "airflow"'}, {"owner"}),
    "blank_owner": ({"defaults": '"owner": " "'}, {"owner"}),
    "owner_of_a_task": ({"defaults": "", "body": "PythonOperator(task_id='a', owner='me', "
                         "python_callable=pure)"}, set()),
    "pure_without_retries": ({"defaults": '"owner": "it"'}, set()),
    "reaches_without_retries": ({"defaults": '"owner": "it"', "body": CALL.format("rows")},
                                {"retries"}),
    "reaches_with_two": ({"defaults": SAFE.replace("3", "2"), "body": CALL.format("rows")},
                         {"retries"}),
    "reaches_without_growth": ({"defaults": '"owner": "it", "retries": 5',
                                "body": CALL.format("rows")}, {"retries"}),
    "reaches_safely": ({"body": CALL.format("rows")}, set()),
    "lambda_without_retries": ({"defaults": '"owner": "it"',
                                "body": CALL.format("lambda: rows()")}, {"retries"}),
    "operator_without_retries": ({"defaults": '"owner": "it"', "body": HTTP}, {"retries"}),
    "operator_safely": ({"body": HTTP}, set()),
    "mapped_without_retries": (
        {"defaults": '"owner": "it"', "body": "task(rows).expand(n=[1, 2])"}, {"retries"}),
    "mapped_safely": ({"body": "task(rows).expand(n=[1, 2])"}, set()),
    "own_retries_of_a_mapped": (
        {"defaults": '"owner": "it"', "body": "task(retries=3, retry_exponential_backoff=2.0)"
         "(rows).expand(n=[1, 2])"}, set()),
    "queue": ({"body": "PythonOperator(task_id='a', queue='heavy', python_callable=pure)"}, set()),
    "no_such_queue": ({"body": "PythonOperator(task_id='a', queue='fast', python_callable=pure)"},
                      {"queue"}),
    "access": ({"more": "tags=['x'], access_control={'Public': {'can_read'}}"}, {"access"}),
    "often": ({"schedule": '"* * * * *"'}, {"schedule"}),
    "often_by_hand": ({"schedule": '"0,3 4 * * *"'}, {"schedule"}),
    "five_minutes": ({"schedule": '"*/5 * * * *"'}, set()),
    "delta": ({"schedule": "__import__('datetime').timedelta(minutes=3)"}, {"schedule"}),
    "no_schedule": ({"schedule": '"@dayly"'}, {"schedule", "import"}),
    "ingest_hr": ({"name": "ingest_hr"}, {"id"}),
    "twice_here": ({"body": "again = DAG('twice_here', schedule=None, tags=['x'])"}, {"id"}),
    "taken_a": ({"name": "taken"}, {"id"}),
    "taken_b": ({"name": "taken"}, {"id"}),
    "look_up": ({"body": "from airflow.sdk import Variable; Variable.get('x', default=None)"},
                {"lookup"}),
}  # fmt: skip


ASSETS = """
from airflow.sdk import asset, task
@asset(schedule="@daily", tags=["x"])
@task(owner="it")
def pure():
    return 1
@asset(schedule="@daily", tags=["x"])
def ownerless():
    return 1
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
        "AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH": "20",
        "_AIRFLOW_PROCESS_CONTEXT": "client",
        "PYTHONPATH": f"{ROOT}/airflow:{ROOT}",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "delivery.importer", tree, "60", queues,
         "production,staging", "meltano,r"],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Return the findings of all files, by the file: Airflow is imported once for them."""
    tree = tmp_path_factory.mktemp("push")
    (tree / "dags").mkdir()
    (tree / "include").mkdir()
    (tree / "include/rows.py").write_text(
        "import httpx\ndef rows(n=0):\n    return httpx.get('http://x')\n"
        "def pure():\n    return 1\n"
    )
    sound = {"schedule": '"@daily"', "more": "tags=['x']", "defaults": SAFE,
             "body": CALL.format("pure")}  # fmt: skip
    for name, (changes, _) in FILES.items():
        text = DAG.format(**{"name": name, **sound, **changes})
        (tree / f"dags/{name}.py").write_text(text)
    (tree / "dags/assets.py").write_text(ASSETS)
    with zipfile.ZipFile(tree / "dags/packed.zip", "w") as packed:
        packed.writestr("packed.py", DAG.format(**sound, name="packed"))
    token = "ghp_" + "".join(secrets.choice(string.ascii_letters) for _ in range(36))
    (tree / "notes.md").write_text(f"# Notes\n\nThe token is {token}\n")
    (tree / "pipelines").mkdir()
    (tree / "pipelines/often.yaml").write_text('source: hr\nschedule: "*/2 * * * *"  # UTC\n')
    (tree / "pipelines/quoted.yaml").write_text("source: hr\n'schedule': '*/2 * * * *'\n")
    (tree / "pipelines/below.yaml").write_text("source: hr\nschedule:\n  '*/2 * * * *'\n")
    (tree / "pipelines/flow.yaml").write_text("{source: hr,\n schedule: '*/2 * * * *'}\n")
    (tree / "pipelines/sound.yaml").write_text("source: hr\nschedule: '@daily'\n")
    (tree / "containers").mkdir()
    (tree / "containers/sound.yaml").write_text(
        (ROOT / "airflow/analysts-template/examples/desk.yaml").read_text()
    )
    (tree / "containers/wrong.yaml").write_text(
        "container: Meltano\nschedule: '*/2 * * * *'\nowner: x\n"
        "meta: {job: '{{ conn.warehouse }}', run_id: x}\nimage: evil\n"
    )
    (tree / "containers/unknown.yaml").write_text(
        "schedule: '@daily'\nowner: x\ncontainer: metlano\n"
    )
    (tree / "environments.toml").write_text(
        "[staging]\noff = ['ingest_*', 'sound', 'reaches_safly']\n[prodution]\noff = ['x']\n"
    )
    said = examined(tree, "analysts,heavy")
    assert said[-1] == {"complete": {"files": len(FILES) + 2, "dags": len(FILES)}}
    by_file: dict[str, list[dict[str, Any]]] = {}
    for each in said:
        if "finding" in each:
            by_file.setdefault(each["finding"]["file"], []).append(each["finding"])
    return by_file


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_told_all_rules_that_it_breaks_and_no_other(
    found: dict[str, list[dict[str, Any]]], name: str
) -> None:
    said = found.get(f"dags/{name}.py", [])
    assert {each["rule"] for each in said} == FILES[name][1], said
    # Of a schedule that is none Airflow keeps a sentence only; our own reading has the line.
    assert all(each["how"] and (each["line"] or each["rule"] == "import") for each in said), said


@pytest.mark.parametrize("name", ["often", "quoted", "below", "flow"])
def test_a_pipeline_leaves_time_between_its_runs_however_it_is_written(
    found: dict[str, list[dict[str, Any]]], name: str
) -> None:
    (said,) = found[f"pipelines/{name}.yaml"]
    assert (said["rule"], said["line"]) == ("schedule", 2)
    assert "pipelines/sound.yaml" not in found


def test_a_container_says_what_runs_when_and_no_template(
    found: dict[str, list[dict[str, Any]]],
) -> None:
    assert "containers/sound.yaml" not in found
    said = {(each["line"], each["rule"], each["what"].partition(":")[0])
            for each in found["containers/wrong.yaml"]}  # fmt: skip
    assert said == {
        (1, "container", "container"), (4, "container", "meta.job"), (5, "container", "image"),
        (2, "schedule", "it runs at 00"),
    }  # fmt: skip
    (unknown,) = found["containers/unknown.yaml"]
    assert (unknown["line"], unknown["rule"]) == (3, "container")
    assert unknown["what"] == "no container 'metlano' runs here: there are meltano, r"


def test_what_is_switched_off_must_be_there(found: dict[str, list[dict[str, Any]]]) -> None:
    said = [(each["line"], each["rule"], each["what"]) for each in found["environments.toml"]]
    assert said == [
        (2, "environments",
         "[staging] off: no DAG has the id 'reaches_safly': did you mean 'reaches_safely'?"),
        (3, "environments",
         "there is no environment 'prodution': did you mean 'production'?"),
        (4, "environments", "[prodution] off: no DAG has the id 'x'"),
    ]  # fmt: skip


def test_a_token_in_any_text_is_named_by_its_line(found: dict[str, list[dict[str, Any]]]) -> None:
    (said,) = found["notes.md"]
    assert (said["rule"], said["line"]) == ("credential", 3)
    assert "ghp_" not in json.dumps(said)


def test_both_files_of_an_id_name_each_other(found: dict[str, list[dict[str, Any]]]) -> None:
    (a,), (b,) = found["dags/taken_a.py"], found["dags/taken_b.py"]
    assert "dags/taken_b.py" in a["what"]
    assert "dags/taken_a.py" in b["what"]


def test_of_an_asset_as_a_dag_the_owner_is_asked_as_of_any(
    found: dict[str, list[dict[str, Any]]],
) -> None:
    (said,) = found["dags/assets.py"]
    assert (said["rule"], "'ownerless'" in said["what"]) == ("owner", True)


def test_an_archive_is_not_taken_unread(found: dict[str, list[dict[str, Any]]]) -> None:
    (said,) = found["dags/packed.zip"]
    assert "it is no text" in said["what"]


def test_a_queue_that_no_worker_serves_is_named_with_those_that_there_are(
    found: dict[str, list[dict[str, Any]]],
) -> None:
    (said,) = found["dags/no_such_queue.py"]
    assert "'fast', which no worker serves: there are analysts, heavy" in said["what"]
