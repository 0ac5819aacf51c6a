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
from redis.exceptions import AuthenticationError, NoPermissionError

from harmattan.dag_processor import STRANGER
from scripts import deploy, jobs, launches
from scripts.local.home import ADDRESS, PORTS, VAULT_ADDR, kept
from scripts.local.up import VARIABLE_FILES
from scripts.repository import HOME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripts.access import Access

    Reads = tuple[set[str], list[str]]
    Tried = dict[str, Reads]

# A component is a job and the task whose token is used; then what it reads. All else is denied.
TABLE = """
airflow-migrate/migrate      airflow/database/migrate airflow/fernet airflow/admin
airflow-webserver/webserver  airflow/database/webserver airflow/fernet airflow/jwt airflow/api
airflow-scheduler/scheduler  airflow/database/scheduler airflow/fernet airflow/jwt redis/scheduler
airflow-dag-processor-pipelines/dag-processor  airflow/database/dag-processor airflow/fernet
airflow-dag-processor-analysts/dag-processor   airflow/database/dag-processor airflow/fernet
airflow-triggerer/triggerer  airflow/database/triggerer airflow/fernet
airflow-worker-ingest/worker    redis/worker-ingest connections/ingest/hr connections/ingest/records
airflow-worker-ingest/worker    connections/ingest/hash_key connections/ingest/warehouse_checks
airflow-worker-ingest/worker    connections/ingest/service_desk connections/ingest/warehouse
airflow-worker-analysts/worker  redis/worker-analysts connections/analysts/warehouse
airflow-logs/serve           airflow/api
redis/redis                  redis/scheduler redis/worker-ingest redis/worker-analysts
dag-sync/fetch               delivery/remote
superset-migrate/migrate     superset/database/migrate superset/secret-key superset/warehouse
superset-migrate/migrate     superset/admin superset/oidc
superset/superset            superset/database/web superset/secret-key superset/warehouse
superset/superset            superset/oidc
superset-dashboards/deliver  superset/database/dashboards superset/secret-key superset/warehouse
backup-hr/backup             backup/databases/hr backup/signing/hr
backup-records/backup        backup/databases/records backup/signing/records
backup-service_desk/backup   backup/databases/service_desk backup/signing/service_desk
backup-airflow/backup        backup/databases/airflow backup/signing/airflow
backup-superset/backup       backup/databases/superset backup/signing/superset
backup-warehouse/backup      backup/databases/warehouse backup/signing/warehouse
backup-postgres_globals/backup  backup/servers/postgres backup/signing/postgres_globals
backup-nomad/backup          backup/signing/nomad
backup-vault/backup          backup/signing/vault
backup-coverage/coverage     backup/servers/postgres backup/b2/drill backup/recipients
backup-coverage/coverage     backup/signers backup/alerts backup/manifest-recipient
backup-coverage/coverage     backup/manifest-key
backup-monthly/copy          backup/b2/copier backup/signers backup/alerts backup/manifest-key
restore-drill/drill          backup/b2/drill backup/b2/drill-results backup/drill-key
restore-drill/drill          backup/signers backup/alerts backup/signing/restore-drill
restore-drill-now/drill      backup/b2/drill backup/b2/drill-results backup/drill-key
restore-drill-now/drill      backup/signers backup/alerts backup/signing/restore-drill
local-postgres/postgres      local/postgres
local-b2/b2                  local/b2
local-git/sshd               local/git
"""
MAY_READ: dict[str, set[str]] = {}
for component, *readable in map(str.split, TABLE.strip().splitlines()):
    MAY_READ.setdefault(component, set()).update(readable)
for component, readable in MAY_READ.items():
    if component.endswith("/backup"):
        readable |= {"backup/b2/writer", "backup/recipients", "backup/alerts"}
        readable |= {"backup/manifest-recipient"}
PATHS = set().union(*MAY_READ.values())
MOUNT, PREFIX = "secret", "local"
# Nomad does not renew the token of a task that ended, so each of these is run for the test.
PERIODIC = ("dag-sync", "superset-dashboards", "restore-drill", "backup-")
AT_ONCE = 3  # all of them together leave the node neither memory nor processor for the platform
# Redis user: what it must not write, at the broker and at the results.
REFUSED = {
    "scheduler": ("LPUSH other e2e", "SET celery-task-meta-e2e e2e"),
    "worker-analysts": ("LPUSH analysts e2e", "LPUSH ingest e2e", "BRPOP ingest 1"),
    "worker-ingest": ("LPUSH ingest e2e", "LPUSH analysts e2e", "BRPOP analysts 1"),
}
KEPT_FROM_STRANGERS = (
    *("/secrets/database_uri", "/secrets/fernet_key", "/secrets/vault_token", "/secrets/api.sock"),
    *("/run/airflow/database_uri", "/run/airflow/fernet_key", "/proc/1/environ", "/proc/1/mem"),
)
# Each, and a DAG of its bundle.
DAG_PROCESSORS = {
    "airflow-dag-processor-pipelines": "ingest_hr",
    "airflow-dag-processor-analysts": "school_report",
}


def secrets_folder(allocation: str, task: str) -> Path:
    return HOME / "nomad/alloc" / allocation / task / "secrets"


def newest_allocation(platform: Access, job_id: str) -> str | None:
    found = platform.nomad.job.get_allocations(job_id)
    return max(found, key=lambda each: each["CreateIndex"])["ID"] if found else None


def allowed(call: Any, *arguments: Any, **keywords: Any) -> bool:
    try:
        call(*arguments, mount_point=MOUNT, **keywords)
    except hvac.exceptions.Forbidden:
        return False
    except hvac.exceptions.InvalidRequest:
        pass  # the write was let through to the check of its version
    return True


def try_everything(token: str) -> Reads:
    """Return what ``token`` reads, and what else it may that no job should; nothing is changed."""
    kv = hvac.Client(url=VAULT_ADDR, token=token, timeout=30).secrets.kv.v2
    read = {
        path
        for path in PATHS
        if allowed(kv.read_secret_version, f"{PREFIX}/{path}", raise_on_deleted_version=True)
    }
    folders = {f"{PREFIX}/{path.rpartition('/')[0]}" for path in PATHS} | {PREFIX}
    beyond = [f"list {path}" for path in sorted(folders) if allowed(kv.list_secrets, path)]
    for path in sorted(PATHS):
        name = f"{PREFIX}/{path}"
        if allowed(kv.read_secret_metadata, name):
            beyond.append(f"read the metadata of {path}")
        # No version has this number, so not even an allowed write would come to pass.
        if allowed(kv.create_or_update_secret, name, {"value": "e2e"}, cas=2**30):
            beyond.append(f"write {path}")
    return read, beyond


def try_as(platform: Access, job_id: str, task: str) -> Reads:
    """Wait for the token of the newest allocation of ``job_id`` and use it while it lives."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if allocation := newest_allocation(platform, job_id):
            # Nomad's own copy, which no task sees: jobs may have no file of it in their secrets.
            file = secrets_folder(allocation, task).with_name("private") / "vault_token"
            if file.exists() and (token := file.read_text().strip()):
                return try_everything(token)
        time.sleep(0.1)
    raise AssertionError(f"{job_id} was given no Vault token for its task {task}")


MIGRATIONS = ("airflow-migrate", "superset-migrate")


def migrate_again(platform: Access, job_id: str) -> None:
    """Run a migration once more, its own specification but for a meta key."""
    found = platform.nomad.job.get_job(job_id)
    found["Meta"] = {"e2e": str(time.time_ns())}
    before = newest_allocation(platform, job_id)
    platform.nomad.jobs.register_job({"Job": found})
    while newest_allocation(platform, job_id) == before:
        time.sleep(0.1)


@pytest.fixture(scope="module")
def tried(platform: Access) -> Tried:
    """Every component's reads, by component; batch jobs are run for it, a few at a time."""

    def try_component(component: str) -> Reads:
        job_id, task = component.split("/")
        if job_id == "restore-drill-now":
            child = launches.dispatch(platform, job_id, {"databases": "hr"})
        elif job_id.startswith(PERIODIC):
            child = launches.force(platform, job_id)
        else:
            return try_as(platform, job_id, task)
        try:
            return try_as(platform, child, task)
        finally:
            launches.finish(platform, child, timeout=300)

    for job_id in MIGRATIONS:
        migrate_again(platform, job_id)
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return dict(zip(MAY_READ, pool.map(try_component, MAY_READ), strict=True))
    finally:
        for migrate in (each for each in jobs.platform() if each.id in MIGRATIONS):
            deploy.wait(platform.nomad, [migrate.id])
            deploy.run(migrate, VARIABLE_FILES, dict(platform.values))
            deploy.wait(platform.nomad, [migrate.id])


@pytest.mark.parametrize("component", MAY_READ)
def test_each_component_reads_its_own_secrets_and_no_other(component: str, tried: Tried) -> None:
    assert tried[component][0] == MAY_READ[component]


@pytest.mark.parametrize("component", MAY_READ)
def test_no_component_lists_or_writes_secrets_or_reads_metadata(
    component: str, tried: Tried
) -> None:
    assert tried[component][1] == []


def test_the_table_names_every_secret_of_the_vault(platform: Access) -> None:
    kv = hvac.Client(url=VAULT_ADDR, token=kept("vault")["root_token"], timeout=30).secrets.kv.v2

    def walk(folder: str) -> Iterator[str]:
        for key in kv.list_secrets(folder, mount_point=MOUNT)["data"]["keys"]:
            yield from walk(folder + key) if key.endswith("/") else [folder + key]

    assert {path.removeprefix(f"{PREFIX}/") for path in walk(f"{PREFIX}/")} == PATHS


def test_the_table_names_every_job_that_vault_knows_and_no_job_takes_anothers_role(
    platform: Access,
) -> None:
    roles = {}
    for each in [*jobs.stand_ins(), *jobs.platform()]:
        for group in platform.nomad.job.get_job(each.id)["TaskGroups"]:
            for task in group["Tasks"]:
                if task["Vault"]:
                    roles[f"{each.id}/{task['Name']}"] = task["Vault"]["Role"]
    # The tasks that wait for the migration have their job's role and nothing of their own.
    assert {name for name in roles if not name.endswith("/wait-for-migration")} == set(MAY_READ)
    assert all(role == name.split("/")[0] for name, role in roles.items())


@pytest.mark.parametrize("queue", ["analysts", "ingest"])
def test_a_workers_identity_logs_in_to_its_own_role_only(platform: Access, queue: str) -> None:
    allocation = newest_allocation(platform, f"airflow-worker-{queue}")
    assert allocation
    jwt = (secrets_folder(allocation, "worker") / "nomad_vault_default.jwt").read_text()
    taken = []
    for role in sorted({component.split("/")[0] for component in MAY_READ}):
        client = hvac.Client(url=VAULT_ADDR, timeout=30)
        try:
            client.auth.jwt.jwt_login(role, jwt, path="jwt-nomad")
        except (hvac.exceptions.InvalidRequest, hvac.exceptions.Forbidden):
            continue
        taken.append(role)
    assert taken == [f"airflow-worker-{queue}"]


def test_the_judge_of_strangers_code_has_no_token_and_no_identity(
    platform: Access, tried: Tried
) -> None:
    children = platform.nomad.jobs.get_jobs(prefix="dag-sync/periodic-")
    ended = [child["ID"] for child in children if child["Status"] == "dead"]
    newest = newest_allocation(platform, max(ended))
    assert newest
    judge = secrets_folder(newest, "judge")
    # The socket is there while the task runs; it asks for a token like Nomad's port.
    found = {
        file.name for folder in (judge, judge.with_name("private")) for file in folder.iterdir()
    }
    assert found <= {"api.sock", ".nomad-mount"}


def container(platform: Access, job_id: str, task: str) -> str:
    return f"{task}-{newest_allocation(platform, job_id)}"


def execute(name: str, user: int, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = ["docker", "exec", "--user", str(user), name, *words]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("job_id", DAG_PROCESSORS)
@pytest.mark.parametrize("file", KEPT_FROM_STRANGERS)
def test_the_user_that_parses_dag_files_reads_no_secret(
    platform: Access, job_id: str, file: str
) -> None:
    name = container(platform, job_id, "dag-processor")
    read = ["head", "-c1", file]
    denied = execute(name, STRANGER, *read)
    assert denied.returncode != 0
    # With `disable_file` Nomad gives the task no file of its token at all.
    there = execute(name, 0, "test", "-e", file).returncode == 0
    assert (b"denied" if there else b"No such file") in denied.stderr
    if there and not file.endswith(("/mem", ".sock")):
        assert execute(name, 0, *read).returncode == 0


@pytest.mark.parametrize("job_id", DAG_PROCESSORS)
def test_dag_files_are_parsed_by_that_user_without_the_way_to_a_secret(
    platform: Access, job_id: str
) -> None:
    inspect = ["docker", "inspect", "--format", "{{.State.Pid}}"]
    top = int(subprocess.check_output([*inspect, container(platform, job_id, "dag-processor")]))
    token = platform.airflow(f"dags/{DAG_PROCESSORS[job_id]}")["file_token"]
    platform.airflow(f"parseDagFile/{token}", method="PUT")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in psutil.Process(top).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                # Before its new interpreter starts it is still a copy of its parent.
                if "from harmattan.dag_processor import child" in " ".join(process.cmdline()):
                    environment = process.environ()
                    assert set(process.uids()) == set(process.gids()) == {STRANGER}
                    assert not [key for key in environment if key.endswith(("_CMD", "_SECRET"))]
                    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "sqlite://"
                    return
        time.sleep(0.05)
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
