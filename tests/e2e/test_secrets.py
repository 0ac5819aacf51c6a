"""Decision 5: who reads which secret, tried with every job's own identity on the real Vault."""

from __future__ import annotations

import contextlib
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import hvac
import hvac.exceptions
import psutil
import pytest
import redis
import requests
from redis.exceptions import AuthenticationError, NoPermissionError

from harmattan.strangers import PARSERS, STRANGER
from scripts import launches
from scripts.local.home import ADDRESS, PORTS, VAULT_ADDR, kept
from scripts.repository import HOME
from scripts.vault_setup import LOGIN
from tests.nomad.table import ALL_PATHS, BY_VARIABLE, ROLES, TABLE, reads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripts.access import Access
    from scripts.cluster import Nomad

    Reads = tuple[set[str], list[str]]
    Tried = dict[str, Reads]

# Jobs that run anyway, and one of each kind that is launched for it: tests/vault_policies tries
# every role in a Vault of its own. What each reads is in the table of tests/nomad.
LAUNCHED = {"backup-hr", "dag-sync", "ingest-hr"}
COMPONENTS = {
    job_id: task.rpartition("/")[2]
    for job_id, job in TABLE.items()
    for task, facts in job.tasks.items()
    if facts.role and (job_id in LAUNCHED or job.type == "service") and "wait-" not in task
}
MOUNT, PREFIX = "secret", "local"
# Redis user: what it must not write, at the broker and at the results.
REFUSED = {
    "scheduler": ("LPUSH other e2e", "SET celery-task-meta-e2e e2e"),
    "worker-analysts": ("LPUSH analysts e2e", "BRPOP other 1", "SCRIPT LOAD x"),
}
KEPT_FROM_STRANGERS = (
    *("/secrets/database_uri", "/secrets/fernet_key", "/secrets/vault_token", "/secrets/api.sock"),
    *("/proc/1/environ", "/proc/1/mem"),
)
# Each, and a DAG of its bundle.
DAG_PROCESSORS = {
    "airflow-dag-processor-pipelines": "ingest_hr",
    "airflow-dag-processor-analysts": "school_report",
}

RUN_STRANGERS = [
    *((job_id, "dag-processor") for job_id in DAG_PROCESSORS),
    ("airflow-triggerer", "triggerer"),
]
AIRFLOW = 50000


def secrets_folder(allocation: str, task: str) -> Path:
    return HOME / "nomad/alloc" / allocation / task / "secrets"


def newest_allocation(nomad: Nomad, job_id: str) -> str | None:
    found = nomad.job.get_allocations(job_id)
    return max(found, key=lambda each: each["CreateIndex"])["ID"] if found else None


def allowed(call: Any, *arguments: Any, **keywords: Any) -> bool:
    try:
        call(*arguments, mount_point=MOUNT, **keywords)
    except hvac.exceptions.Forbidden:
        return False
    except (hvac.exceptions.InvalidRequest, hvac.exceptions.InvalidPath):
        pass  # it was let through: to the check of a version, or to a path where nothing is
    return True


def try_everything(token: str) -> Reads:
    """Return what ``token`` reads, and what else it may that no job should; nothing is changed."""
    kv = hvac.Client(url=VAULT_ADDR, token=token, timeout=30).secrets.kv.v2
    read = {
        path
        for path in ALL_PATHS
        if allowed(kv.read_secret_version, f"{PREFIX}/{path}", raise_on_deleted_version=True)
    }
    folders = {f"{PREFIX}/{path.rpartition('/')[0]}" for path in ALL_PATHS} | {PREFIX}
    beyond = [f"list {path}" for path in sorted(folders) if allowed(kv.list_secrets, path)]
    for path in ALL_PATHS:
        name = f"{PREFIX}/{path}"
        if allowed(kv.read_secret_metadata, name):
            beyond.append(f"read the metadata of {path}")
        # No version has this number, so not even an allowed write would come to pass.
        if allowed(kv.create_or_update_secret, name, {"value": "e2e"}, cas=2**30):
            beyond.append(f"write {path}")
    return read, beyond


def try_as(nomad: Nomad, job_id: str, task: str) -> Reads:
    """Wait for the token of the newest allocation of ``job_id`` and use it while it lives."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if allocation := newest_allocation(nomad, job_id):
            # Nomad's own copy, which no task sees: jobs may have no file of it in their secrets.
            file = secrets_folder(allocation, task).with_name("private") / "vault_token"
            if file.exists() and (token := file.read_text().strip()):
                return try_everything(token)
        time.sleep(0.1)
    raise AssertionError(f"{job_id} was given no Vault token for its task {task}")


@pytest.fixture(scope="module")
def tried(platform: Access) -> Tried:
    """What every component reads and may besides, by its job."""

    def try_component(job_id: str) -> Reads:
        task = COMPONENTS[job_id]
        if job_id not in LAUNCHED:
            return try_as(platform.nomad, job_id, task)
        if job_id.startswith("ingest-"):
            meta = {"pipeline": "hr", "run_id": f"e2e__{time.time_ns()}"}
            child = platform.runs.job.dispatch_job(job_id, meta=meta)["DispatchedJobID"]
            return try_as(platform.runs, child, task)
        child = launches.force(platform, job_id)
        try:
            return try_as(platform.nomad, child, task)
        finally:
            launches.finish(platform, child, timeout=300)

    with ThreadPoolExecutor(len(LAUNCHED)) as pool:
        return dict(zip(COMPONENTS, pool.map(try_component, COMPONENTS), strict=True))


@pytest.mark.parametrize("job_id", COMPONENTS)
def test_each_component_reads_its_own_secrets_and_no_other(job_id: str, tried: Tried) -> None:
    read, beyond = tried[job_id]
    assert read == reads(job_id)
    assert beyond == []


def test_the_table_names_every_secret_of_the_vault(platform: Access) -> None:
    kv = hvac.Client(url=VAULT_ADDR, token=kept("vault")["root_token"], timeout=30).secrets.kv.v2

    def walk(folder: str) -> Iterator[str]:
        for key in kv.list_secrets(folder, mount_point=MOUNT)["data"]["keys"]:
            yield from walk(folder + key) if key.endswith("/") else [folder + key]

    assert {path.removeprefix(f"{PREFIX}/") for path in walk(f"{PREFIX}/")} == (
        set(ALL_PATHS) - set.union(*BY_VARIABLE.values())
    )


def test_a_workers_identity_logs_in_to_its_own_role_only(platform: Access) -> None:
    allocation = newest_allocation(platform.nomad, "airflow-worker-analysts")
    assert allocation
    jwt = (secrets_folder(allocation, "worker") / "nomad_connections.jwt").read_text()
    taken = []
    for role in sorted(ROLES):
        client = hvac.Client(url=VAULT_ADDR, timeout=30)
        try:
            client.auth.jwt.jwt_login(f"{PREFIX}-{role}", jwt, path=LOGIN)
        except (hvac.exceptions.InvalidRequest, hvac.exceptions.Forbidden):
            continue
        taken.append(role)
    assert taken == ["airflow-worker-analysts-connections"]


def test_the_judge_of_strangers_code_has_no_token_and_no_identity(
    platform: Access, tried: Tried
) -> None:
    children = platform.nomad.jobs.get_jobs(prefix="dag-sync/periodic-")
    ended = [child["ID"] for child in children if child["Status"] == "dead"]
    newest = newest_allocation(platform.nomad, max(ended))
    assert newest
    judge = secrets_folder(newest, "judge")
    # The socket is there while the task runs; it asks for a token like Nomad's port.
    found = {
        file.name for folder in (judge, judge.with_name("private")) for file in folder.iterdir()
    }
    assert found <= {"api.sock", ".nomad-mount"}


def container(platform: Access, job_id: str, task: str) -> str:
    return f"{task}-{newest_allocation(platform.nomad, job_id)}"


def execute(name: str, user: int, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = ["docker", "exec", "--user", str(user), name, *words]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(("job_id", "task"), RUN_STRANGERS)
@pytest.mark.parametrize("file", KEPT_FROM_STRANGERS)
def test_the_user_that_runs_strangers_code_reads_no_secret(
    platform: Access, job_id: str, task: str, file: str
) -> None:
    name = container(platform, job_id, task)
    denied = execute(name, STRANGER, "head", "-c1", file)
    assert denied.returncode != 0
    assert b"denied" in denied.stderr


@pytest.mark.parametrize(("job_id", "task"), RUN_STRANGERS)
def test_the_service_reads_its_secrets(platform: Access, job_id: str, task: str) -> None:
    name = container(platform, job_id, task)
    for file in ("/secrets/database_uri", "/secrets/fernet_key"):
        assert execute(name, AIRFLOW, "head", "-c1", file).returncode == 0, file


@pytest.mark.parametrize("job_id", DAG_PROCESSORS)
def test_dag_files_are_parsed_by_that_user_without_the_way_to_a_secret(
    platform: Access, job_id: str
) -> None:
    inspect = ["docker", "inspect", "--format", "{{.State.Pid}}"]
    top = int(subprocess.check_output([*inspect, container(platform, job_id, "dag-processor")]))
    token = platform.airflow(f"dags/{DAG_PROCESSORS[job_id]}")["file_token"]
    deadline, asked = time.monotonic() + 60, 0.0
    while time.monotonic() < deadline:
        # A parse takes a tenth of a second: it is asked for until one is seen.
        if time.monotonic() > asked + 3:
            with contextlib.suppress(requests.HTTPError):  # the last one is still to be taken up
                platform.airflow(f"parseDagFile/{token}", method="PUT")
            asked = time.monotonic()
        for process in psutil.Process(top).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                # A fork of the server's, as soon as it has its user.
                if process.uids().real in PARSERS:
                    environment = process.environ()
                    assert len(set(process.uids())) == 1
                    assert set(process.gids()) == {STRANGER}
                    assert not [key for key in environment if key.endswith(("_CMD", "_SECRET"))]
                    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "sqlite://"
                    return
    raise AssertionError(f"{job_id} parsed no file as user {STRANGER} in a minute")


@pytest.mark.parametrize("user", REFUSED)
def test_a_redis_user_writes_to_no_queue_of_others(platform: Access, user: str) -> None:
    login = {"username": user, "password": kept(f"redis-{user}")}
    for port in PORTS["Redis"]:
        with redis.Redis(ADDRESS, port, **login) as client:
            assert client.ping()
            for command in (*REFUSED[user], "KEYS *", "CONFIG GET *", "FLUSHALL", "EVAL x 0"):
                with pytest.raises(NoPermissionError):
                    client.execute_command(*command.split())


def test_redis_lets_nobody_in_without_a_password(platform: Access) -> None:
    with redis.Redis(ADDRESS, PORTS["Redis"][0]) as one, pytest.raises(AuthenticationError):
        one.ping()
