"""A real DAG processor that follows a real repository: what is live is what runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from tests.airflow.harmattan.runs.cluster import until
from tests.airflow.harmattan.service import AIRFLOW, service
from tests.airflow.harmattan.stack import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.programs

FILES = 12
SECONDS = 150
DAG = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
from include.names import SCHOOL
with DAG("{dag_id}", schedule=None, description=SCHOOL):
    EmptyOperator(task_id="t")
"""

SCHEDULES = {"nightly": '"0 4 * * *"', "after": 'Asset("raw_hr")'}
SCHEDULED = {
    f"dags/{name}.py": f"""
from airflow.sdk import DAG, Asset
from airflow.providers.standard.operators.empty import EmptyOperator
with DAG({name!r}, schedule={schedule}, catchup=False, description="none"):
    EmptyOperator(task_id="t")
"""
    for name, schedule in SCHEDULES.items()
}

# Its run waits until the test lets it go on.
FLIGHT = """
import time
from datetime import timedelta
from pathlib import Path
from airflow.sdk import dag, task

@dag(schedule=timedelta(seconds=2), catchup=False, max_active_runs=1, tags=["on"])
def flight():
    @task
    def fly(run_id=None):
        while not Path("FOLDER", run_id).exists():
            time.sleep(0.1)

    @task
    def land():
        pass

    fly() >> land()

flight()
"""


@dataclass
class Branch:
    """The mirror as analysts' pushes make it, and what Airflow's database has of it."""

    work: Path
    bare: Path
    uri: str
    environment: dict[str, str]
    output: Path
    services: dict[str, str]  # the environment of Airflow's processes
    processor: subprocess.Popen[bytes] | None = None

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=Ama", "-c", "user.email=ama@school.example",
             "-C", str(self.work), *words],
            env=self.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def push(self, files: dict[str, str]) -> str:
        """Let ``live`` move to a commit with ``files`` changed; return it."""
        for name, text in files.items():
            (self.work / name).parent.mkdir(exist_ok=True)
            (self.work / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "A push")
        self.git("push", "--quiet", str(self.bare), "live")
        for path in (self.bare, *self.bare.rglob("*")):
            shutil.chown(path, AIRFLOW, AIRFLOW)
        return self.git("rev-parse", "HEAD")

    def dags(self) -> dict[str, tuple[str, str, str]]:
        """Return description, commit and file of each DAG that is there, by its id."""
        with psycopg.connect(self.uri) as connection:
            rows = connection.execute(
                "SELECT dag_id, description, bundle_version, relative_fileloc FROM dag"
                " WHERE NOT is_stale"
            ).fetchall()
        return {row[0]: row[1:] for row in rows}

    def errors(self) -> dict[str, str]:
        with psycopg.connect(self.uri) as connection:
            return dict(
                connection.execute("SELECT filename, stacktrace FROM import_error").fetchall()
            )

    def wait(self, commit: str, wanted: dict[str, tuple[str, str]]) -> None:
        """Wait until these DAGs, with description and file, are what ``commit`` brought."""
        expected = {name: (said, commit, file) for name, (said, file) in wanted.items()}
        deadline = time.monotonic() + SECONDS
        while (found := self.dags()) != expected:
            assert time.monotonic() < deadline, (found, expected, self.errors())
            time.sleep(0.3)


@pytest.fixture(scope="module")
def branch(metadata_database: Callable[[], str]) -> Iterator[Branch]:
    with service(metadata_database(), "", ["analysts"]) as airflow:
        place = airflow.place
        # Git takes a repository of another user for a trap, unless it is told otherwise.
        (place / "gitconfig").write_text("[safe]\n  directory = *\n")
        git = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": str(place / "gitconfig")}
        found = Branch(place / "work", place / "mirror.git", airflow.uri, git, place / "output",
                       airflow.environment)  # fmt: skip
        for words in (["--initial-branch=live", str(found.work)], ["--bare", str(found.bare)]):
            subprocess.run(["git", "init", "--quiet", *words], check=True)
        bundle = {
            "name": "analysts",
            "classpath": "airflow.providers.git.bundles.git.GitDagBundle",
            "kwargs": {"repo_url": str(found.bare), "tracking_ref": "live", "refresh_interval": 1},
        }
        airflow.environment.update(
            {
                "GIT_CONFIG_GLOBAL": git["GIT_CONFIG_GLOBAL"],
                "DAG_ENVIRONMENT": "staging",
                "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
                "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(place / "home/bundles"),
                "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "2",
                # So long that nothing here can wait for it.
                "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
                "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            }
        )
        files = {f"dags/d{n}.py": DAG.format(dag_id=f"d{n}") for n in range(FILES)}
        found.push(files | {"include/names.py": 'SCHOOL = "Cape Coast"\n'})
        with found.output.open("w") as output:
            found.processor = airflow.start(
                output, "harmattan.dag_processor", "--bundle-name", "analysts"
            )
            try:
                yield found
            finally:
                found.processor.kill()
                found.processor.wait(30)


def of_all(school: str) -> dict[str, tuple[str, str]]:
    return {f"d{n}": (school, f"dags/d{n}.py") for n in range(FILES)}


def test_a_shared_module_that_changed_alone_is_in_force_for_every_dag(branch: Branch) -> None:
    branch.wait(branch.git("rev-parse", "HEAD"), of_all("Cape Coast"))
    commit = branch.push({"include/names.py": 'SCHOOL = "Accra"\n'})
    branch.wait(commit, of_all("Accra"))


def test_an_id_is_its_first_files_until_that_lets_it_go(branch: Branch) -> None:
    branch.push({"include/names.py": 'SCHOOL = "Tamale"\n'})
    claims = branch.push({"dags/later.py": DAG.format(dag_id="d3")})
    branch.wait(claims, of_all("Tamale"))
    said = branch.errors()
    assert set(said) == {"dags/later.py"}
    assert "'d3'" in said["dags/later.py"]
    assert "dags/d3.py" in said["dags/later.py"]
    given = branch.push({"dags/d3.py": DAG.format(dag_id="other")})
    expected = of_all("Tamale") | {"d3": ("Tamale", "dags/later.py")}
    branch.wait(given, expected | {"other": ("Tamale", "dags/d3.py")})
    assert branch.errors() == {}
    back = branch.push(
        {"dags/d3.py": DAG.format(dag_id="d3"), "dags/later.py": DAG.format(dag_id="other")}
    )
    branch.wait(back, of_all("Tamale") | {"other": ("Tamale", "dags/later.py")})
    assert branch.errors() == {}


def test_what_environments_toml_switches_off_is_there_and_not_scheduled(branch: Branch) -> None:
    """A run that has begun goes on, as the DAG is neither paused nor gone."""
    query = (
        "SELECT d.dag_id, timetable_summary, next_dagrun_create_after IS NOT NULL, is_paused,"
        " (SELECT count(*) FROM dag_schedule_asset_reference r WHERE r.dag_id = d.dag_id),"
        " (SELECT count(*) FROM dag_tag t WHERE t.dag_id = d.dag_id AND name = 'off')"
        " FROM dag d WHERE d.dag_id IN ('nightly', 'after') AND NOT is_stale"
    )

    def after(*off: str) -> dict[str, tuple[object, ...]]:
        lists = {"staging": list(off), "production": ["*"]}
        text = "".join(f"[{name}]\noff = {ids}\n" for name, ids in lists.items())
        commit = branch.push(SCHEDULED | {"environments.toml": text})
        branch.wait(commit, others | {name: ("none", f"dags/{name}.py") for name in SCHEDULES})
        with psycopg.connect(branch.uri) as connection:
            return {name: row for name, *row in connection.execute(query).fetchall()}  # type: ignore[misc]

    others = {name: (said, file) for name, (said, _, file) in branch.dags().items()}
    on = {"nightly": ["0 4 * * *", True, False, 0, 0], "after": ["Asset", False, False, 1, 0]}
    switched = ["None", False, False, 0, 1]
    assert after("night*") == on | {"nightly": switched}
    assert after("after", "nightly") == {"nightly": switched, "after": switched}
    assert after() == on


@pytest.mark.soak
def test_a_run_in_flight_ends_after_a_switch_off_and_none_begins_until_it_is_on_again(
    branch: Branch, tmp_path: Path
) -> None:
    """A real scheduler runs what the processor read; the tasks' processes fetch the commit."""

    def runs(state: str) -> list[str]:
        with psycopg.connect(branch.uri) as connection:
            query = "SELECT run_id FROM dag_run WHERE dag_id = 'flight' AND state = %s ORDER BY id"
            return [run_id for (run_id,) in connection.execute(query, [state])]

    def is_off() -> bool:
        with psycopg.connect(branch.uri) as connection:
            query = "SELECT FROM dag_tag WHERE dag_id = 'flight' AND name = 'off'"
            return connection.execute(query).fetchone() is not None

    def flying() -> list[str]:
        with psycopg.connect(branch.uri) as connection:
            query = "SELECT run_id FROM task_instance WHERE task_id = 'fly' AND state = 'running'"
            return [run_id for (run_id,) in connection.execute(query)]

    off, on = "[staging]\noff = ['flight']\n", "[staging]\noff = []\n"
    flight = FLIGHT.replace("FOLDER", str(tmp_path))
    branch.push({"dags/flight.py": flight, "environments.toml": on})
    (tmp_path / "home").mkdir()
    env = branch.services | {
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(tmp_path / "bundles"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path / "logs"),
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # a task's end is seen sooner
    }
    with processes(tmp_path / "home", branch.uri, env) as airflow:
        airflow.start_api()
        airflow.start_scheduler()
        (first,) = until(flying)
        (tmp_path / first).touch()
        (second,) = until(lambda: [each for each in flying() if each != first])
        branch.push({"environments.toml": off})
        until(is_off)
        (tmp_path / second).touch()
        until(lambda: runs("success") == [first, second])
        time.sleep(6)  # three of its intervals
        assert runs("success") == [first, second]
        assert runs("running") == runs("queued") == []
        branch.push({"environments.toml": on})
        until(lambda: runs("running"))


def test_without_its_fork_server_the_processor_ends_and_says_so(branch: Branch) -> None:
    assert branch.processor is not None
    below = psutil.Process(branch.processor.pid).children(recursive=True)
    forked = [each for each in below if "harmattan.fork_server" in each.cmdline()]
    server = min(forked, key=psutil.Process.create_time)  # what parses is forked from it
    server.kill()
    branch.push({"include/names.py": 'SCHOOL = "Kumasi"\n'})
    assert branch.processor.wait(SECONDS) == 1
    said = branch.output.read_text()
    assert "the fork server of the DAG processor: expected it to run" in said
    assert "HINT: Nomad starts the DAG processor again" in said
