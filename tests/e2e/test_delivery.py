"""The analysts' push: broken or malicious it changes nothing, sound it goes live and runs."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import requests

from scripts.health.observing import health
from scripts.launches import force
from scripts.local import databases
from scripts.local.first_run import TEMPLATE, Checkout, is_parsed, live
from scripts.local.home import VOLUMES
from scripts.repository import read_secret
from tests.e2e.rounds import allocations, ended, logs, task_log, trigger, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.access import Access

VERDICT = VOLUMES / "dag-mirror/verdict.json"

BROKEN = '''"""Needs what is not there."""

import a_module_that_nobody_has
from airflow.sdk import dag
'''

# A DAG that wants a connection of the analysts, and one of a source.
GREEDY = '''"""Wants to be where it may not be."""

from datetime import datetime

from airflow.sdk import Connection, dag, task


# gate: allow retries because it is to fail at once
@dag(
    "{dag_id}", schedule=None, start_date=datetime(2026, 1, 1), tags=["e2e"],
    default_args={{"owner": "e2e"}},
)
def greedy():
    @task
    def look(connection):
        print("GIVEN", connection, Connection.get(connection).login)

    look.override(task_id="given")("warehouse")
    look.override(task_id="not_given")("hr")


greedy()
'''

SLOW = '''"""Takes its time."""

import time
from datetime import datetime

from airflow.sdk import dag, task


@dag(
    "{dag_id}", schedule=None, start_date=datetime(2026, 1, 1), tags=["e2e"],
    default_args={{"owner": "e2e"}},
)
def slow():
    @task
    def sleep():
        for second in range(20):
            print("SLEPT", second, flush=True)
            time.sleep(1)

    sleep()


slow()
'''

# Its first task ends when the test says so; both read a module that a push changes meanwhile.
SPANNING = '''"""Takes longer than a push."""

import time
from datetime import datetime

from airflow.sdk import Variable, dag, task

from include.e2e_said import SAID


@dag(
    "{dag_id}", schedule=None, start_date=datetime(2026, 1, 1), tags=["e2e"],
    default_args={{"owner": "e2e", "retries": 3, "retry_exponential_backoff": 2.0}},
)
def spanning():
    @task
    def wait():
        for _ in range(240):
            if Variable.get("{dag_id}", default=None):
                return
            time.sleep(1)
        raise TimeoutError

    @task
    def say():
        print("SAID", SAID)

    wait() >> say()


spanning()
'''
SAID = "../include/e2e_said.py"

# Imported by the judge; what it tried and how that ended is the message of its error. Without
# TELL it keeps quiet, and is a file like any other.
MALICIOUS = '''"""Looks for everything that a stranger might want."""

import os
import signal
import socket
from pathlib import Path

from airflow.sdk import DAG

OWN = ("AIRFLOW_HOME", "AIRFLOW_CONFIG", "AIRFLOW__CORE__", "AIRFLOW__LOGGING__BASE_LOG_FOLDER",
       "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "PATH", "LANG", "HOME", "TMPDIR", "PWD", "LC_CTYPE",
       "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX", "_AIRFLOW_PROCESS_CONTEXT")


def socket_of_nomad():
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect("/secrets/api.sock")
        client.sendall(b"GET /v1/jobs HTTP/1.0\\r\\nHost: nomad\\r\\n\\r\\n")
        answer = client.recv(4000).decode(errors="replace")
    if " 200 " not in answer.splitlines()[0]:
        raise OSError(answer.splitlines()[0])


def secrets():
    found = [path for path in Path("/secrets").rglob("*") if path.is_file() and path.read_bytes()]
    if not found:
        raise OSError("nothing but Nomad's empty marker of the mount")
    raise SystemError(",".join(str(path) for path in found))


def environment():
    found = [name for name in os.environ if not name.startswith(OWN)]
    if not found:
        raise OSError("none")
    raise SystemError(",".join(sorted(found)))


TRIES = {{
    "network": lambda: socket.create_connection(("{address}", {port}), timeout=5),
    "nomad": socket_of_nomad,
    "incoming": lambda: Path("/incoming/stranger").write_text("was here"),
    "tree": lambda: (Path(__file__).parent / "school_report.py").write_text("was here"),
    "alloc": lambda: Path("/alloc/data/findings.json").read_text(),
    "kill": lambda: os.kill(1, signal.SIGKILL),
    "init": lambda: Path("/proc/1/environ").read_bytes(),
    "root": lambda: os.setuid(0),
    "secrets": secrets,
    "environment": environment,
}}


def outcome(attempt):
    try:
        attempt()
    except SystemError as error:
        return f"GOT {{error}}"
    except Exception as error:
        return "no"
    return "GOT"


told = " ".join(f"{{name}}={{outcome(attempt)}}" for name, attempt in TRIES.items())
if {tell}:
    raise RuntimeError(told)
'''


# Sound where it is judged; where Airflow parses it, it takes all memory that there is.
BOMB = '''"""Looks like a file of an airflow dag."""

taken = []
while "/incoming/" not in __file__:
    taken.append(b"x" * (len(taken) + 1))
'''
BOMB_FILE = "e2e_bomb.py"


@dataclass
class Analyst:
    """One of the analysts: pushes files, and knows what the gate said."""

    platform: Access
    checkout: Checkout

    def push(self, files: dict[str, str]) -> str:
        """Push the template with ``files`` in its folder of DAGs, and return the commit."""
        for entry in self.checkout.tree.iterdir():
            if entry.name != ".git":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.copytree(
            TEMPLATE,
            self.checkout.tree,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns(".*_cache", "__pycache__"),
        )
        for name, text in files.items():
            file = self.checkout.tree / "dags" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        if not self.checkout.git("status", "--porcelain"):
            return self.checkout.git("rev-parse", "HEAD")
        return self.checkout.commit_and_push("Push: " + (", ".join(files) or "the template"))

    def sync(self) -> dict[str, str]:
        """Run the gate now and return the last words of its tasks by their names."""
        child = force(self.platform, "dag-sync")

        def over() -> dict[str, Any] | None:
            # An allocation counts as failed as soon as its judge said no; publish comes after.
            made = self.platform.nomad.job.get_allocations(child)
            states = (made[0]["TaskStates"] or {}) if made else {}
            return made[0] if states.get("publish", {}).get("State") == "dead" else None

        allocation = wait_until(over, child, 240)
        return {
            task: logs(self.platform, allocation["ID"], task, "stderr")
            for task in ("fetch", "judge", "publish")
        }

    def call(self) -> None:
        """Do what the git server does after a push: a signed call, and no other."""
        body = b'{"ref": "refs/heads/main"}'
        key = read_secret("push-hook").encode()
        signature = hmac.new(key, body, hashlib.sha256).hexdigest()
        answer = requests.post(
            f"{self.platform.values['AIRFLOW_URL']}/push/", data=body, timeout=30,
            headers={"X-Hub-Signature-256": f"sha256={signature}"},
        )  # fmt: skip
        assert answer.status_code == 202, answer.text

    def verdict(self) -> dict[str, Any]:
        """Return the last verdict, as the mirror keeps it."""
        return dict(json.loads(VERDICT.read_text()))


@pytest.fixture(scope="module")
def analyst(platform: Access) -> Iterator[Analyst]:
    """An analyst with a clone; the repository has the template's content when all is over."""
    with Checkout() as checkout:
        someone = Analyst(platform, checkout)
        try:
            yield someone
        finally:
            last = someone.push({})
            someone.sync()
            wait_until(lambda: live(platform) == last, "the template to be live again", 60)


def test_a_broken_push_changes_nothing_and_is_told_by_file_for_as_long_as_it_stands(
    platform: Access, analyst: Analyst
) -> None:
    before = live(platform)
    name = f"e2e_broken_{secrets.token_hex(4)}.py"
    commit = analyst.push({name: BROKEN})
    said = analyst.sync()
    assert live(platform) == before

    verdict = analyst.verdict()
    assert (verdict["commit"], verdict["verdict"]) == (commit, "refused")
    findings = {finding["file"]: finding["what"] for finding in verdict["findings"]}
    assert list(findings) == [f"dags/{name}"]
    assert "a_module_that_nobody_has" in findings[f"dags/{name}"]
    assert f"dags/{name}" in said["publish"]

    errors = platform.airflow("importErrors", params={"limit": 100})["import_errors"]
    assert not [error for error in errors if name in error["filename"]]
    assert not platform.airflow("dags/school_report")["is_stale"]

    # Judged once, and in view ever after.
    again = analyst.sync()
    # The launch of every five minutes may have come in between the push and the first sync.
    assert {**analyst.verdict(), "time": ""} == {**verdict, "time": ""}
    assert "judged already" in again["judge"]
    assert "judging" not in again["judge"]
    assert f"dags/{name}" in again["publish"]


@dataclass
class Pushed:
    """A sound commit, its files and the ids of its DAGs."""

    commit: str
    verdict: str
    exemptions: list[str]
    live: str
    files: dict[str, str]
    greedy: str
    slow: str
    spanning: str


@pytest.fixture(scope="module")
def pushed(platform: Access, analyst: Analyst) -> Pushed:
    """Push sound DAGs, and wait until Airflow has them."""
    names = ("greedy", "slow", "spanning")
    greedy, slow, spanning = (f"e2e_{name}_{secrets.token_hex(4)}" for name in names)
    files = {
        f"{dag_id}.py": text.format(dag_id=dag_id)
        for dag_id, text in ((greedy, GREEDY), (slow, SLOW), (spanning, SPANNING))
    }
    files[SAID] = 'SAID = "before"\n'
    files["../containers/desk.yaml"] = (TEMPLATE / "examples/desk.yaml").read_text()
    commit = analyst.push(files)
    analyst.call()
    wait_until(lambda: analyst.verdict()["commit"] == commit, "the gate's verdict", 240)
    verdict, now = analyst.verdict(), live(platform)
    assert not verdict["findings"]
    for dag_id in (greedy, slow, spanning, "container_desk"):
        wait_until(partial(is_parsed, platform, dag_id), f"{dag_id} to be shown", 180)
    departs = [each["because"] for each in verdict["exemptions"]]
    return Pushed(commit, verdict["verdict"], departs, now, files, greedy, slow, spanning)


def test_a_sound_push_goes_live_and_runs_where_analysts_run(
    platform: Access, pushed: Pushed
) -> None:
    assert (pushed.verdict, pushed.live) == ("sound", pushed.commit)
    assert pushed.exemptions == ["it is to fail at once"]
    run = trigger(platform, pushed.greedy)
    assert ended(platform, run) == "failed"
    tasks = {
        task["task_id"]: (task["state"], task["queue"])
        for task in platform.airflow(f"{run}/taskInstances")["task_instances"]
    }
    assert tasks == {"given": ("success", "analysts"), "not_given": ("failed", "analysts")}
    assert "GIVEN warehouse warehouse_analyst" in task_log(platform, run, "given")
    refused = task_log(platform, run, "not_given")
    assert "GIVEN hr" not in refused
    assert "The conn_id `hr` isn't defined" in refused
    assert platform.airflow(run)["bundle_version"] == pushed.commit


def test_a_container_runs_by_a_file_with_secrets_of_its_own(
    platform: Access, pushed: Pushed
) -> None:
    assert pushed.verdict == "sound"
    run = trigger(platform, "container_desk")
    assert ended(platform, run) == "success", task_log(platform, run, "run")
    tickets = count("warehouse", "meltano.tickets")
    assert tickets
    assert tickets == count("service_desk", "public.tickets")
    said = task_log(platform, run, "run")
    assert "tap-postgres" in said
    for role in ("warehouse_meltano", "service_desk_meltano"):
        assert read_secret(f"database-{role}") not in said


def count(database: str, table: str) -> int:
    with psycopg.connect(databases.superuser(database), connect_timeout=10) as connection:
        ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()
    return int(rows)


def test_a_stopped_worker_finishes_the_task_that_it_runs(platform: Access, pushed: Pushed) -> None:
    """Celery's warm shutdown, through the health wrapper and Nomad's kill timeout."""
    run = trigger(platform, pushed.slow)
    wait_until(
        lambda: platform.airflow(f"{run}/taskInstances/sleep")["state"] == "running",
        "the task to run",
        60,
    )
    job = "airflow-worker-analysts"
    (allocation,) = [
        each["ID"]
        for each in platform.nomad.job.get_allocations(job)
        if each["ClientStatus"] == "running"
    ]
    platform.nomad.allocation.stop_allocation(allocation)
    assert ended(platform, run) == "success"
    assert platform.airflow(f"{run}/taskInstances/sleep")["try_number"] == 1
    assert "SLEPT" in task_log(platform, run, "sleep")
    wait_until(lambda: health(platform.nomad, job).well, f"{job} to be back", 240)


def test_a_run_ends_on_the_commit_that_it_began_with(
    platform: Access, analyst: Analyst, pushed: Pushed
) -> None:
    dag_id = pushed.spanning
    began = trigger(platform, dag_id)
    wait_until(
        lambda: platform.airflow(f"{began}/taskInstances/wait")["state"] == "running",
        "the first task to run",
        60,
    )
    commit = analyst.push({**pushed.files, SAID: 'SAID = "after"\n'})
    analyst.call()
    wait_until(
        lambda: platform.airflow(f"dags/{dag_id}")["bundle_version"] == commit,
        "the push to be what runs",
        240,
    )
    platform.airflow("variables", method="POST", json={"key": dag_id, "value": "go"})
    try:
        later = trigger(platform, dag_id)
        for run, version, said in ((began, pushed.commit, "before"), (later, commit, "after")):
            assert ended(platform, run) == "success"
            assert f"SAID {said}" in task_log(platform, run, "say")
            assert platform.airflow(run)["bundle_version"] == version
    finally:
        platform.airflow(f"variables/{dag_id}", method="DELETE")


def malicious(platform: Access, *, tell: bool) -> str:
    """Return the malicious file; the address is one that every other task reaches."""
    host, _, port = platform.values["NOMAD_ADDR"].removeprefix("http://").partition(":")
    return MALICIOUS.format(address=host, port=port, tell=tell)


def test_a_malicious_push_gets_nothing(platform: Access, analyst: Analyst) -> None:
    before = live(platform)
    commit = analyst.push({"e2e_malicious.py": malicious(platform, tell=True)})
    said = analyst.sync()
    assert live(platform) == before
    verdict = analyst.verdict()
    assert (verdict["commit"], verdict["verdict"]) == (commit, "refused"), said["judge"]
    (finding,) = verdict["findings"]
    assert finding["file"] == "dags/e2e_malicious.py"
    tried = dict(word.split("=", 1) for word in finding["what"].split() if "=" in word)
    assert len(tried) == 10, finding
    assert set(tried.values()) == {"no"}, finding


def test_the_gate_is_sound_after_a_malicious_push(platform: Access, analyst: Analyst) -> None:
    commit = analyst.push({"e2e_quiet.py": malicious(platform, tell=False)})
    analyst.sync()
    assert (analyst.verdict()["verdict"], live(platform)) == ("sound", commit)
    assert "was here" not in analyst.checkout.git("show", f"{commit}:dags/school_report.py")
    left = {path.name for path in (VOLUMES / "dag-incoming").iterdir()}
    alive = {each["ID"] for each in allocations(platform, {"dag-sync"})}
    assert left <= alive | {".lock"}


def test_a_file_that_takes_all_memory_costs_its_own_parse_alone(
    platform: Access, analyst: Analyst
) -> None:
    job = "airflow-dag-processor-analysts"
    before = allocations(platform, {job})
    commit = analyst.push({BOMB_FILE: BOMB})
    analyst.sync()
    assert live(platform) == commit

    def told() -> str:
        errors = platform.airflow("importErrors", params={"limit": 100})["import_errors"]
        return "".join(each["stack_trace"] for each in errors if BOMB_FILE in each["filename"])

    assert "its process ended with the code -9" in wait_until(told, "its import error", 180)
    after = allocations(platform, {job})
    assert [(each["ID"], restarts(each)) for each in after] == [
        (each["ID"], restarts(each)) for each in before
    ]


def restarts(allocation: dict[str, Any]) -> dict[str, int]:
    return {name: task["Restarts"] for name, task in allocation["TaskStates"].items()}
