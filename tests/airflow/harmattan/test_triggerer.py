"""Triggers of strangers, in real triggerers: what they reach, and whose events are believed."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
from cryptography.fernet import Fernet

from harmattan.strangers import STRANGER
from tests.airflow.harmattan.service import service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.programs

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
import asyncio, gc, os
from pathlib import Path
from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

def tried(action):
    try:
        return action()
    except BaseException as error:
        return f"{type(error).__name__}"

def holds(text, backwards):
    # What is looked for is never spelt out here, or it would find itself.
    start, at = backwards[:-7:-1], -1
    while (at := text.find(start, at + 1)) >= 0:
        if text[at : at + len(backwards)][::-1] == backwards:
            return True
    return False

def objects_hold(backwards):
    found = set()
    for part in gc.get_objects():
        if isinstance(part, (list, dict, tuple)) and len(part) < 1000:
            text = repr(part)
            found |= {each for each in backwards if holds(text, each)}
    return [each in found for each in backwards]

def own_memory_holds(backwards):
    found = set()
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if "r" in rights and "[v" not in line:
                start, end = (int(each, 16) for each in span.split("-"))
                memory.seek(start)
                part = tried(lambda: memory.read(end - start))
                if isinstance(part, bytes):
                    found |= {each for each in backwards if holds(part, each.encode())}
    return [each in found for each in backwards]

class Trigger(BaseTrigger):
    def __init__(self, **given):
        super().__init__()
        self.given = given
    def serialize(self):
        return f"strangers_code.{type(self).__name__}", self.given

class Watch(BaseEventTrigger):
    def __init__(self, touched):
        super().__init__()
        self.touched = touched
    def serialize(self):
        return "strangers_code.Watch", {"touched": self.touched}
    async def run(self):
        Path(self.touched).touch()
        await asyncio.sleep(600)
        yield TriggerEvent("never")

async def called_back(touched):
    Path(touched).touch()

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
            "objects": objects_hold(given["backwards"]),
            "memory": own_memory_holds(given["backwards"]),
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
        from airflow.sdk.execution_time.comms import DeleteXCom
        from airflow.sdk.execution_time.xcom import XCom
        written = []
        for dag_id in ("ingest_hr", "forge"):
            where = {"dag_id": dag_id, "run_id": "r", "task_id": "t", "map_index": -1}
            try:
                await XCom.aset(key="log_read", value={"by": "a stranger"}, **where)
                written.append("written")
                await task_runner.SUPERVISOR_COMMS.asend(DeleteXCom(key="other", **where))
                written.append("deleted")
            except Exception as error:
                written.append(str(error))
        try:
            where["dag_id"] = "ingest_hr"
            await task_runner.SUPERVISOR_COMMS.asend(DeleteXCom(key="log_read", **where))
        except Exception as error:
            written.append(str(error))
        yield TriggerEvent(written)

class Wait(Trigger):
    async def run(self):
        while not os.path.exists(self.given["until"]):
            await asyncio.sleep(0.1)
        yield TriggerEvent({"parent": os.getppid()})
"""
# Makes a run of each DAG whose task has deferred to its trigger. A
# stranger names a queue as it likes.
SEED = """
import json, sys
from airflow import settings
from airflow.models import Connection
from airflow.models.callback import Callback
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.api.common.trigger_dag import trigger_dag
from airflow.utils.types import DagRunTriggeredByType

DagBundlesManager().sync_bundles_to_db()
given = json.loads(sys.argv[1])
for bundle in {each["bundle"] for each in given["dags"].values()}:
    root = f"{given['root']}/{bundle}"
    bag = BundleDagBag(dag_folder=root, bundle_path=root, bundle_name=bundle)
    assert not bag.import_errors, bag.import_errors
    sync_bag_to_db(bag, bundle, None)
session = settings.Session()
callback = Callback.create_from_sdk_def(
    AsyncCallback("strangers_code.called_back", kwargs={"touched": given["called_back"]}))
session.add(callback)
callback.queue(session=session)
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
    ti.next_kwargs, ti.try_number = {}, 1
    ti.hostname = "10.0.0.1" if dag_id == "look" else ""  # the others started from their trigger
session.commit()
"""
WATCHED = """
import strangers_code
from airflow.sdk import DAG, Asset, AssetWatcher
from airflow.providers.standard.operators.empty import EmptyOperator
watcher = AssetWatcher(name="w", trigger=strangers_code.Watch({touched!r}))
with DAG("watched", schedule=[Asset("a", watchers=[watcher])]):
    EmptyOperator(task_id="t")
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
    xcoms: set[tuple[str, str]]  # their DAGs and keys
    hosts: dict[str, str]  # where the log of a DAG's task is asked for
    touched: dict[str, int]  # the users that files belong to
    output: str
    secrets: tuple[str, str]


def rows(uri: str) -> dict[str, tuple[str, str, Any]]:
    with psycopg.connect(uri) as connection:
        return {
            dag_id: (state, method, kwargs)
            for dag_id, state, method, kwargs in connection.execute(
                "SELECT dag_id, state, next_method, next_kwargs FROM task_instance"
            )
        }


def xcoms(uri: str) -> set[tuple[str, str]]:
    with psycopg.connect(uri) as connection:
        return set(connection.execute("SELECT dag_id, key FROM xcom").fetchall())


def hosts(uri: str) -> dict[str, str]:
    with psycopg.connect(uri) as connection:
        tasks = connection.execute("SELECT dag_id, hostname FROM task_instance").fetchall()
        jobs = connection.execute("SELECT job_type, hostname FROM job").fetchall()
        return dict(tasks + jobs)


@pytest.fixture(scope="module")
def triggered(metadata_database: Callable[[], str]) -> Iterator[Triggered]:
    """Run both triggerers, as the job file does, until each task has its event or its failure."""
    bundles = sorted(set(DAGS.values()))
    with service(metadata_database(), STRANGERS_CODE, bundles) as airflow, ExitStack() as stack:
        place, free = airflow.place, airflow.place / "free"
        for bundle in bundles:
            ids = [dag_id for dag_id, its in DAGS.items() if its == bundle]
            (place / bundle / "dags.py").write_text(DAG_FILE.format(ids=ids))
        made = {name: free / name for name in ("by-popen", "by-watcher", "by-callback")}
        watched = WATCHED.format(touched=str(made["by-watcher"]))
        (place / "analysts/watched.py").write_text(watched)
        go_on = free / "go-on"
        searched = [each[::-1] for each in (*airflow.secrets, PLANTED)]
        look = {"file": str(place / "database_uri"), "planted": PLANTED, "backwards": searched}
        triggers: dict[str, tuple[str, dict[str, Any], str | None]] = {
            "ingest_hr": ("strangers_code.Wait", {"until": str(go_on)}, None),
            "look": ("strangers_code.Look", look, None),
            # The way of the report: any class, with any arguments.
            "popen": ("subprocess.Popen", {"args": ["touch", str(made["by-popen"])]}, None),
            "forge": ("strangers_code.Forge", {}, "pipelines"),
            "undecryptable": ("strangers_code.Wait", {}, None),
        }
        given = {
            "root": str(place),
            "dags": {
                dag_id: {"bundle": DAGS[dag_id], "classpath": where, "kwargs": kw, "queue": queue}
                for dag_id, (where, kw, queue) in triggers.items()
            },
            "called_back": str(made["by-callback"]),
            "foreign": Fernet(Fernet.generate_key()).encrypt(b"{}").decode(),
        }
        airflow.seed(SEED, json.dumps(given))
        uri, processes = airflow.uri, {}
        output = stack.enter_context((place / "output").open("w"))
        for bundle in bundles:
            words = ("harmattan.triggerer", bundle, str(free / bundle))
            processes[bundle] = airflow.start(output, *words)
            stack.callback(processes[bundle].wait, 30)
            stack.callback(processes[bundle].kill)
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            states = {dag_id: state for dag_id, (state, _, _) in rows(uri).items()}
            waiting = {dag_id for dag_id, state in states.items() if state == "deferred"}
            if waiting == {"ingest_hr"} and all(path.exists() for path in made.values()):
                go_on.touch()
            elif not waiting or any(each.poll() is not None for each in processes.values()):
                break
            time.sleep(0.2)
        found = rows(uri)
        shown = (place / "output").read_text()
        assert not waiting, f"{waiting}\n{shown[-6000:]}"
        beats = {bundle: (free / bundle).exists() for bundle in bundles}
        assert all(beats.values()), beats
        pids = {bundle: process.pid for bundle, process in processes.items()}
        touched = {name: path.stat().st_uid for name, path in made.items()}
        yield Triggered(found, pids, xcoms(uri), hosts(uri), touched, shown, airflow.secrets)
        children = [each for pid in pids.values() for each in psutil.Process(pid).children()]
        assert {each.uids().real for each in children} == {STRANGER}
        stack.close()
        assert psutil.wait_procs(children, timeout=20)[1] == []  # they end with their parents


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
    assert triggered.touched["by-popen"] == STRANGER
    assert triggered.tasks["popen"][1] == "__fail__"


@pytest.mark.parametrize("made", ["by-watcher", "by-callback"])
def test_asset_watchers_and_callbacks_run_as_the_stranger_too(
    triggered: Triggered, made: str
) -> None:
    assert triggered.touched[made] == STRANGER


def test_pipelines_have_a_triggerer_of_their_own_whatever_a_stranger_asks_for(
    triggered: Triggered, seen: dict[str, Any]
) -> None:
    """`forge` asked for the queue of pipelines before it was deferred."""
    assert triggered.tasks["ingest_hr"][2]["event"]["parent"] == triggered.processes["pipelines"]
    assert seen["parent"] == triggered.processes["analysts"]


def test_an_event_of_anothers_trigger_is_not_believed(triggered: Triggered) -> None:
    assert len(triggered.tasks["forge"][2]["event"]) == 4, "all were sent"
    state, method, kwargs = triggered.tasks["ingest_hr"]
    assert (state, method) == ("scheduled", "execute_complete")
    assert kwargs["event"] != "forged"


def test_a_strangers_trigger_writes_no_xcom_of_a_pipelines_run(triggered: Triggered) -> None:
    refused, *own, not_deleted = triggered.tasks["forge"][2]["event"]
    for said in (refused, not_deleted):
        assert said.startswith("PERMISSION_DENIED")
        assert "XComs of ingest_hr are written by the pipelines' triggerer" in said
    assert own == ["written", "deleted"]
    assert triggered.xcoms == {("forge", "log_read")}


def test_arguments_of_a_lost_key_fail_their_own_task_alone(triggered: Triggered) -> None:
    state, method, kwargs = triggered.tasks["undecryptable"]
    assert (state, method) == ("scheduled", "__fail__")
    assert "cannot be decrypted with this Fernet key" in str(kwargs)


def test_the_log_of_a_task_without_a_worker_is_asked_for_at_its_triggerer(
    triggered: Triggered,
) -> None:
    assert triggered.hosts["ingest_hr"] == triggered.hosts["TriggererJob"]
    assert triggered.hosts["look"] == "10.0.0.1"


def test_no_secret_is_printed(triggered: Triggered) -> None:
    assert not any(each in triggered.output for each in triggered.secrets)
