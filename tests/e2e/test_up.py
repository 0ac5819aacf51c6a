"""A platform that is up: done again changes nothing, says how it is, gives each role its own."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import requests

from frame.failure import Failure
from scripts import deploy, jobs, launches
from scripts.local import agents, first_run
from scripts.local.home import NOMAD_ADDR, kept
from scripts.local.up import VARIABLE_FILES
from scripts.proofs import backups
from scripts.repository import ROOT
from scripts.tools import NOMAD, ensure
from scripts.vault_setup import LOGIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.access import Access

MOUNT, PREFIX = "secret", "local/"
PERIODIC_TASKS = ("fetch-", "judge-", "publish-", "backup-", "drill-")
WATCHED = "airflow-scheduler"


def run_script(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def versions_in_vault(folder: str = PREFIX) -> Iterator[tuple[str, int]]:
    kv = agents.vault_client().secrets.kv.v2
    for key in kv.list_secrets(folder, mount_point=MOUNT)["data"]["keys"]:
        name = folder + key
        if key.endswith("/"):
            yield from versions_in_vault(name)
        else:
            found = kv.read_secret_metadata(name, mount_point=MOUNT)["data"]
            yield name, found["current_version"]


def state(platform: Access) -> dict[str, Any]:
    """Return all that `make up` could change, but not what goes on by itself every five minutes."""
    vault = agents.vault_client()
    policies = vault.sys.list_policies()["data"]["policies"]
    roles = vault.list(f"auth/{LOGIN}/role")["data"]["keys"]
    shown = subprocess.check_output(
        ["docker", "ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]
    )
    running = dict(line.split() for line in shown.decode().splitlines())
    return {
        "jobs": {
            job["ID"]: job["JobModifyIndex"]
            for job in platform.nomad.jobs.get_jobs()
            if "/periodic-" not in job["ID"]
        },
        "secrets": dict(versions_in_vault()),
        "policies": {name: vault.sys.read_policy(name)["data"]["rules"] for name in policies},
        "roles": {name: vault.read(f"auth/{LOGIN}/role/{name}")["data"] for name in roles},
        "containers": {
            name: found for name, found in running.items() if not name.startswith(PERIODIC_TASKS)
        },
        "backups": [row.details["id"] for row in backups(platform)],
        "delivered": first_run.live(platform),
        "runs": platform.airflow("dags/~/dagRuns", params={"run_type": "manual"})["total_entries"],
    }


def test_a_second_up_changes_nothing(platform: Access) -> None:
    before = state(platform)
    again = run_script("-m", "scripts.local.up")
    assert again.returncode == 0, again.stderr
    assert state(platform) == before


def test_status_of_a_platform_that_is_well_is_json_and_exit_0(platform: Access) -> None:
    told = run_script("scripts/status.py", "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    status = json.loads(told.stdout)
    assert status["well"] is True
    wanted = {each.id for each in [*jobs.stand_ins(), *jobs.platform(), *jobs.runs()]}
    assert {row["name"] for row in status["jobs"]} == wanted


def test_status_names_a_job_that_was_stopped_and_exits_1(platform: Access) -> None:
    job_id = "dag-mirror"
    deployment = next(each for each in jobs.platform() if each.id == job_id)
    platform.nomad.job.deregister_job(job_id)
    try:
        told = run_script("scripts/status.py", "--json")
    finally:
        deploy.run(deployment, VARIABLE_FILES, nomad_environment("platform"))
        deploy.wait(platform.nomad, [job_id])
    assert told.returncode == 1
    status = json.loads(told.stdout)
    assert status["well"] is False
    assert [row["name"] for row in status["jobs"] if not row["well"]] == [job_id]


def nomad_environment(who: str) -> dict[str, str]:
    return {"NOMAD_ADDR": NOMAD_ADDR, "NOMAD_TOKEN": kept(f"nomad-{who}")}


def nomad_as(who: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ensure(NOMAD)), *words],
        env={**os.environ, **nomad_environment(who)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def allocation(platform: Access) -> str:
    """The running allocation of the scheduler."""
    found = platform.nomad.job.get_allocations(WATCHED)
    return str(next(each["ID"] for each in found if each["ClientStatus"] == "running"))


# What is tried with both tokens; ALLOCATION stands for the scheduler's.
READS = (
    "job status",
    f"job status {WATCHED}",
    f"job inspect {WATCHED}",
    "alloc status ALLOCATION",
    "alloc logs -tail -n 1 ALLOCATION scheduler",
)
DENIED_TO_ALL = (
    "alloc exec -t=false -i=false -task scheduler ALLOCATION id",
    "alloc fs ALLOCATION scheduler/secrets/database_uri",
    "acl token list",
    "acl policy info dag-sync-publish",
    "acl token create -name e2e -policy platform",
    "acl policy delete analysts",
)
DENIED_TO_ANALYSTS = (
    "alloc restart ALLOCATION",
    "alloc stop -detach ALLOCATION",
    "job stop -detach airflow-triggerer",
    "job periodic force dag-sync",
    "job scale airflow-worker-analysts worker 2",
    "system gc",
    "node status",
)


def words(command: str, allocation: str) -> list[str]:
    return [allocation if word == "ALLOCATION" else word for word in command.split()]


@pytest.mark.parametrize("command", READS)
@pytest.mark.parametrize("who", ["analysts", "platform"])
def test_analysts_and_platform_team_read_jobs_and_logs(
    who: str, command: str, allocation: str
) -> None:
    done = nomad_as(who, *words(command, allocation))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("who", "command"),
    [
        *[(who, command) for who in ("analysts", "platform") for command in DENIED_TO_ALL],
        *[("analysts", command) for command in DENIED_TO_ANALYSTS],
    ],
)
def test_nomad_denies(who: str, command: str, allocation: str) -> None:
    done = nomad_as(who, *words(command, allocation))
    assert done.returncode != 0, done.stdout
    assert "Permission denied" in done.stdout + done.stderr


def test_the_platform_team_runs_and_forces_jobs_and_analysts_do_not(platform: Access) -> None:
    mirror = jobs.job("dag-mirror")
    with pytest.raises(Failure, match="Permission denied"):
        deploy.run(mirror, VARIABLE_FILES, nomad_environment("analysts"))
    before = platform.nomad.job.get_job(mirror.id)["JobModifyIndex"]
    deploy.run(mirror, VARIABLE_FILES, nomad_environment("platform"))
    assert platform.nomad.job.get_job(mirror.id)["JobModifyIndex"] == before
    files = [f"-var-file={file}" for file in VARIABLE_FILES]
    plan = ["job", "plan", "-hcl2-strict=false", *files, str(mirror.file)]
    assert nomad_as("platform", *plan).returncode == 0  # 0: allowed, and nothing would change
    assert "Permission denied" in nomad_as("analysts", *plan).stderr
    launches.finish(platform, launches.force(platform, "dag-sync"), timeout=240)


def airflow_command(platform: Access, *arguments: str) -> str:
    found = platform.nomad.job.get_allocations("airflow-webserver")
    running = next(each["ID"] for each in found if each["ClientStatus"] == "running")
    done = subprocess.run(
        ["docker", "exec", f"webserver-{running}", "airflow", *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Account(requests.Session):
    """An Airflow account, logged in to the API."""

    def __init__(self, url: str, username: str, password: str) -> None:
        super().__init__()
        self.url = url
        login = {"username": username, "password": password}
        answer = self.post(f"{url}/auth/token", json=login, timeout=30)
        answer.raise_for_status()
        self.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def status(self, method: str, path: str, body: dict[str, Any] | None = None) -> int:
        return self.request(method, self.url + path, json=body, timeout=60).status_code


@contextmanager
def account(platform: Access, role: str) -> Iterator[Account]:
    """Make an Airflow account, and remove it afterwards."""
    name, password = f"e2e-{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    airflow_command(
        platform, "users", "create", "--role", role, "--username", name, "--password",
        password, "--firstname", "An", "--lastname", "Analyst", "--email", f"{name}@localhost",
    )  # fmt: skip
    try:
        with Account(platform.values["AIRFLOW_URL"], name, password) as made:
            yield made
    finally:
        airflow_command(platform, "users", "delete", "--username", name)


@pytest.fixture(scope="module")
def analyst(platform: Access) -> Iterator[Account]:
    """An account of the role Analyst for this module."""
    with account(platform, "Analyst") as made:
        yield made


def test_airflow_has_the_roles_platform_and_analyst(platform: Access) -> None:
    told = airflow_command(platform, "roles", "list", "--output", "json")
    roles = json.loads(told[told.index("[{") :])  # log lines come before it
    assert {"Admin", "Platform", "Analyst"} <= {role["name"] for role in roles}


def test_a_member_of_the_platform_team_has_pools_and_no_accounts(platform: Access) -> None:
    with account(platform, "Platform") as member:
        for path in ("/api/v2/pools", "/api/v2/variables", "/api/v2/dags", "/api/v2/connections"):
            assert member.status("GET", path) == requests.codes.ok
        for path in ("/auth/fab/v1/users", "/auth/fab/v1/roles"):
            assert member.status("GET", path) == requests.codes.forbidden
        # It sees and deletes what an administrator put there, and puts nothing there itself.
        lent = {"connection_id": "e2e", "conn_type": "http"}
        assert member.status("POST", "/api/v2/connections", lent) == requests.codes.forbidden


def test_an_analyst_reads_dags_and_triggers_a_run(analyst: Account) -> None:
    assert analyst.status("GET", "/api/v2/dags") == requests.codes.ok
    assert analyst.status("GET", "/api/v2/dags/school_report/dagRuns") == requests.codes.ok
    runs = "/api/v2/dags/school_report/dagRuns"
    assert analyst.status("POST", runs, {"logical_date": None}) == requests.codes.ok


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v2/connections", None),
        ("POST", "/api/v2/connections", {"connection_id": "e2e", "conn_type": "http"}),
        ("GET", "/api/v2/variables", None),
        ("POST", "/api/v2/variables", {"key": "e2e", "value": "e2e"}),
        ("GET", "/api/v2/config", None),
        ("GET", "/api/v2/pools", None),
        ("DELETE", "/api/v2/dags/school_report", None),
        ("GET", "/auth/fab/v1/users", None),
        ("GET", "/auth/fab/v1/roles", None),
    ],
)
def test_an_analyst_is_denied(
    analyst: Account, method: str, path: str, body: dict[str, str] | None
) -> None:
    assert analyst.status(method, path, body) == requests.codes.forbidden
