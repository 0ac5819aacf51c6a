"""Triggers of strangers, in real triggerers: what they reach, and whose events are believed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from cryptography.fernet import Fernet

from frame.launcher import command_line
from harmattan.strangers import STRANGER
from scripts.repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer

pytestmark = pytest.mark.programs

AIRFLOW = 50000
PLANTED = "planted-for-the-search-91c"
# DAG to its bundle; each has one task, which waits for the trigger of its name below.
DAGS = {
    "ingest_hr": "pipelines",
    "look": "analysts",
    "popen": "analysts",
    "forge": "analysts",
    "undecryptable": "analysts",
}
# A module that strangers' triggers come from: it can be imported, and that is all it takes.
STRANGERS_CODE = """
import asyncio, gc, os, re
from pathlib import Path
from airflow.triggers.base import BaseTrigger, TriggerEvent

def tried(action):
    try:
        return action()
    except BaseException as error:
        return f"{type(error).__name__}"

def pattern(backwards):
    # Neither this nor what it is made of is what it finds.
    return re.compile("".join(f"[{character}]" for character in reversed(backwards)).encode())

def own_memory_holds(needle):
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if "r" in rights and "[v" not in line:
                start, end = (int(each, 16) for each in span.split("-"))
                memory.seek(start)
                part = tried(lambda: memory.read(end - start))
                if isinstance(part, bytes) and needle.search(part):
                    return True
    return False

class Trigger(BaseTrigger):
    def __init__(self, **given):
        super().__init__()
        self.given = given
    def serialize(self):
        return f"strangers_code.{type(self).__name__}", self.given

class Look(Trigger):
    async def run(self):
        from airflow.configuration import conf
        from airflow.sdk import Connection
        parent, given = os.getppid(), self.given
        status = Path("/proc/self/status").read_text()
        connection = await tried(lambda: Connection.async_get("greeting"))
        yield TriggerEvent({
            "parent": parent,
            "users": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
            "status": {line.split(":")[0]: line.split()[1] for line in status.splitlines()
                       if line.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs"))},
            "environment": dict(os.environ),
            "configured": [tried(lambda: conf.get(*option)) for option in (
                ("database", "sql_alchemy_conn"), ("core", "fernet_key"))],
            "file": tried(lambda: Path(given["file"]).read_text()),
            "parents_environment": tried(lambda: Path(f"/proc/{parent}/environ").read_bytes()),
            "parents_memory": tried(lambda: open(f"/proc/{parent}/mem", "rb").close()),
            "first_process": tried(lambda: Path("/proc/1/environ").read_bytes()),
            "back": [tried(lambda: os.setuid(user)) for user in (0, 50000)],
            "signal_parent": tried(lambda: os.kill(parent, 0)),
            "objects": [any(each.search(repr(part).encode()) for part in gc.get_objects()
                            if isinstance(part, (list, dict, tuple)) and len(part) < 1000)
                        for each in map(pattern, given["backwards"])],
            "memory": [own_memory_holds(pattern(each)) for each in given["backwards"]],
            "connection": getattr(connection, "password", str(connection)),
        })

class Forge(Trigger):
    async def run(self):
        from airflow.jobs.triggerer_job_runner import TriggerEventEntry, messages
        from airflow.sdk.execution_time import task_runner
        forged = TriggerEvent("forged")
        for other in self.given["others"]:
            await task_runner.SUPERVISOR_COMMS.asend(messages.TriggerStateChanges(
                events=[TriggerEventEntry(other, forged, None)], failures=[(other, None)],
                finished=None))
        yield TriggerEvent("sent")

class Wait(Trigger):
    async def run(self):
        while not os.path.exists(self.given["until"]):
            await asyncio.sleep(0.1)
        yield TriggerEvent({"parent": os.getppid()})
"""
# Makes the metadata database, and a run of each DAG whose task has deferred to its trigger. A
# stranger names a queue as it likes.
SEED = """
import json, sys
from airflow import settings
from airflow.models import Connection
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils import db, timezone
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.api.common.trigger_dag import trigger_dag
from airflow.utils.types import DagRunTriggeredByType

db.initdb()
DagBundlesManager().sync_bundles_to_db()
given = json.loads(sys.argv[1])
for bundle in {each["bundle"] for each in given["dags"].values()}:
    root = f"{given['root']}/{bundle}"
    bag = BundleDagBag(dag_folder=root, bundle_path=root, bundle_name=bundle)
    assert not bag.import_errors, bag.import_errors
    sync_bag_to_db(bag, bundle, None)
session = settings.Session()
session.add(Connection(conn_id="greeting", conn_type="generic", password="hello"))
ids = {}
for dag_id, each in sorted(given["dags"].items(), key=lambda pair: pair[0] == "forge"):
    trigger_dag(dag_id, run_id="r", triggered_by=DagRunTriggeredByType.TEST, session=session)
    if dag_id == "forge":
        each["kwargs"]["others"] = [ids["ingest_hr"]]
    trigger = Trigger(classpath=each["classpath"], kwargs=each["kwargs"], queue=each["queue"])
    if dag_id == "undecryptable":
        trigger.encrypted_kwargs = given["foreign"]
    session.add(trigger)
    session.flush()
    ids[dag_id] = trigger.id
    (ti,) = session.query(TaskInstance).where(TaskInstance.dag_id == dag_id)
    ti.state, ti.trigger_id, ti.next_method = "deferred", trigger.id, "execute_complete"
    ti.next_kwargs, ti.try_number, ti.hostname = {}, 1, "10.0.0.1"
session.commit()
"""
DAG_FILE = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
for dag_id in {ids}:
    with DAG(dag_id, schedule=None) as dag:
        EmptyOperator(task_id="t")
    globals()[dag_id] = dag
"""


@dataclass
class Triggered:
    """What became of the deferred tasks, by DAG: state, next method and the event or error."""

    tasks: dict[str, tuple[str, str, Any]]
    processes: dict[str, int]
    popen_made: Path
    output: str
    secrets: list[str]


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that other users look into and nobody but root writes."""
    folder = Path(tempfile.mkdtemp(prefix="harmattan-triggerer-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def secret(path: Path, text: str) -> str:
    """Write a secret as Nomad's template does, and return the command that reads it."""
    path.write_text(text)
    path.chmod(0o400)
    os.chown(path, AIRFLOW, AIRFLOW)
    return f"cat {path}"


def writable(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o777)
    return path


def rows(uri: str) -> dict[str, tuple[str, str, Any]]:
    with psycopg.connect(uri) as connection:
        return {
            dag_id: (state, method, kwargs)
            for dag_id, state, method, kwargs in connection.execute(
                "SELECT dag_id, state, next_method, next_kwargs FROM task_instance"
            )
        }


@pytest.fixture(scope="module")
def triggered(postgres: PostgresServer) -> Iterator[Triggered]:
    """Run both triggerers, as the job file does, until each task has its event or its failure."""
    if os.geteuid() != 0:
        pytest.fail("this test changes users for real: run it as root")
    uri = postgres.create_database()
    key, password = Fernet.generate_key().decode(), postgres.password
    with open_folder() as place, ExitStack() as stack:
        (place / "code").mkdir()
        (place / "code/strangers_code.py").write_text(STRANGERS_CODE)
        ids: dict[str, list[str]] = {}
        for dag_id, bundle in DAGS.items():
            ids.setdefault(bundle, []).append(dag_id)
        for bundle, names in ids.items():
            (place / bundle).mkdir()
            (place / bundle / "dags.py").write_text(DAG_FILE.format(ids=names))
        free = writable(place / "free")
        popen_made, go_on = free / "made-by-popen", free / "go-on"
        triggers = {
            "ingest_hr": ("strangers_code.Wait", {"until": str(go_on)}, None),
            "look": (
                "strangers_code.Look",
                {
                    "file": str(place / "database_uri"),
                    "planted": PLANTED,
                    "backwards": [each[::-1] for each in (password, key, PLANTED)],
                },
                None,
            ),
            # The way of the report: any class, with any arguments.
            "popen": ("subprocess.Popen", {"args": ["touch", str(popen_made)]}, None),
            "forge": ("strangers_code.Forge", {}, "pipelines"),
            "undecryptable": ("strangers_code.Wait", {}, None),
        }
        given = {
            "root": str(place),
            "dags": {
                dag_id: {"bundle": DAGS[dag_id], "classpath": where, "kwargs": kw, "queue": queue}
                for dag_id, (where, kw, queue) in triggers.items()
            },
            "foreign": Fernet(Fernet.generate_key()).encrypt(b"{}").decode(),
        }
        bundles = [
            {
                "name": bundle,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(place / bundle)},
            }
            for bundle in ids
        ]
        packages = next(path for path in sys.path if path.endswith("site-packages"))
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(place),
            "LOGNAME": "airflow",  # the image has the user
            "PYTHONPATH": f"{place / 'code'}:{ROOT}/airflow:{ROOT}:{packages}",
            "AIRFLOW_HOME": str(writable(place / "home")),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__FERNET_KEY_CMD": secret(place / "fernet_key", key),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": secret(
                place / "database_uri", uri.replace("postgresql:", "postgresql+psycopg2:")
            ),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(writable(place / "logs")),
        }
        # The tests' own interpreter may stand where only root gets to; Debian's is for everyone.
        python = shutil.which("python3", path="/usr/bin")
        assert python is not None, "apt-get install python3"
        seed = subprocess.run(
            [python, "-W", "ignore", "-c", SEED, json.dumps(given)],
            env=environment, cwd=place, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert seed.returncode == 0, seed.stdout[-3000:] + seed.stderr[-3000:]
        processes = {}
        output = stack.enter_context((place / "output").open("w"))
        for bundle in ids:
            command = [python, "-m", "harmattan.triggerer", bundle, str(free / bundle)]
            words = command_line(f"{AIRFLOW}:{AIRFLOW}", "setuid,setgid,kill", command)
            process = subprocess.Popen(
                # As in the container: these capabilities, and none to get back to.
                ["setpriv", "--bounding-set=-all,+setuid,+setgid,+kill,+setpcap", *words],
                env=environment, cwd=place, stdout=output, stderr=output,
            )  # fmt: skip
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            processes[bundle] = process
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            states = {dag_id: state for dag_id, (state, _, _) in rows(uri).items()}
            waiting = {dag_id for dag_id, state in states.items() if state == "deferred"}
            if waiting == {"ingest_hr"}:
                go_on.touch()
            elif not waiting or any(each.poll() is not None for each in processes.values()):
                break
            time.sleep(0.2)
        found = rows(uri)
        shown = (place / "output").read_text()
        assert not waiting, f"{waiting}\n{shown[-6000:]}"
        beats = {bundle: (free / bundle).exists() for bundle in ids}
        assert all(beats.values()), beats
        pids = {bundle: process.pid for bundle, process in processes.items()}
        yield Triggered(found, pids, popen_made, shown, [key, password])


@pytest.fixture(scope="module")
def seen(triggered: Triggered) -> dict[str, Any]:
    """What the stranger's trigger saw around it."""
    state, method, kwargs = triggered.tasks["look"]
    assert (state, method) == ("scheduled", "execute_complete"), kwargs
    return kwargs["event"]  # type: ignore[no-any-return]


def test_a_trigger_is_another_user_without_a_way_back(seen: dict[str, Any]) -> None:
    assert set(seen["users"]) <= {STRANGER}
    assert len(seen["users"]) == 6
    assert {name: int(value, 16) for name, value in seen["status"].items()} == {
        "CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapAmb": 0, "NoNewPrivs": 1,
    }  # fmt: skip
    assert seen["back"] == ["PermissionError"] * 2


def test_a_trigger_finds_no_secret_in_files_settings_environment_or_memory(
    seen: dict[str, Any], triggered: Triggered
) -> None:
    assert seen["file"] == "PermissionError"
    uri, key = seen["configured"]
    assert not any(each in f"{uri} {key}" for each in triggered.secrets)
    assert not any(each in str(seen["environment"]) for each in triggered.secrets)
    assert not [name for name in seen["environment"] if name.endswith("_CMD")]
    # The third is one that is there: its own argument.
    assert seen["objects"] == seen["memory"] == [False, False, True]


def test_a_trigger_reads_nothing_of_its_parents_and_cannot_signal_them(
    seen: dict[str, Any],
) -> None:
    for what in ("parents_environment", "parents_memory", "first_process", "signal_parent"):
        assert seen[what] == "PermissionError", what


def test_what_a_trigger_needs_comes_from_the_parent(seen: dict[str, Any]) -> None:
    """Its own arguments, which are encrypted in the database, and a connection."""
    assert seen["connection"] == "hello"


def test_any_class_that_a_dag_names_runs_as_the_stranger(triggered: Triggered) -> None:
    assert triggered.popen_made.stat().st_uid == STRANGER
    assert triggered.tasks["popen"][1] == "__fail__"


def test_pipelines_have_a_triggerer_of_their_own_whatever_a_stranger_asks_for(
    triggered: Triggered, seen: dict[str, Any]
) -> None:
    """`forge` asked for the queue of pipelines before it was deferred."""
    assert triggered.tasks["ingest_hr"][2]["event"]["parent"] == triggered.processes["pipelines"]
    assert seen["parent"] == triggered.processes["analysts"]


def test_an_event_of_anothers_trigger_is_not_believed(triggered: Triggered) -> None:
    assert triggered.tasks["forge"][2]["event"] == "sent"
    state, method, kwargs = triggered.tasks["ingest_hr"]
    assert (state, method) == ("scheduled", "execute_complete")
    assert kwargs["event"] != "forged"


def test_arguments_of_a_lost_key_fail_their_own_task_alone(triggered: Triggered) -> None:
    state, method, kwargs = triggered.tasks["undecryptable"]
    assert (state, method) == ("scheduled", "__fail__")
    assert "cannot be decrypted with this Fernet key" in str(kwargs)


def test_no_secret_is_printed(triggered: Triggered) -> None:
    assert not any(each in triggered.output for each in triggered.secrets)
