"""Every secret is rotated as docs/runbook.md says, and no task fails of it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography.fernet import Fernet

from scripts import jobs, launches
from scripts.local.home import NOMAD_ADDR
from scripts.repository import ROOT, SECRETS, read_secret, write_private
from scripts.tools import NOMAD, ensure
from tests.e2e.conftest import models, platform
from tests.e2e.rounds import ended, task_log, trigger, wait_until

if TYPE_CHECKING:
    from scripts.access import Access

__all__ = ["models", "platform"]

# Those that open what is there already - the runbook names them - and people's own.
OPENS = ("vault", "nomad-", "postgres", "b2-master", "airflow-admin", "airflow-fernet", "gpg-")
# Those that read secrets when they start. Redis first: it lets the others in.
SERVICES = [
    each.id
    for each in jobs.platform()
    if each.id.startswith(("redis", "airflow-", "superset")) and not each.id.endswith("migrate")
    and each.id != "superset-dashboards"
]  # fmt: skip


def up() -> None:
    """Do what `make up` does but for its look at all, which the test's own connection reddens."""
    program = "from scripts.local import up; up.bring_up(600); up.keep_access()"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=1200)


def nomad(*words: str, as_whom: str = "nomad-platform") -> str:
    return subprocess.run(
        [ensure(NOMAD), *words], check=True, capture_output=True, text=True, timeout=600,
        env={"NOMAD_ADDR": NOMAD_ADDR, "NOMAD_TOKEN": str(read_secret(as_whom))},
    ).stdout  # fmt: skip


def restart(job_ids: list[str]) -> None:
    for job_id in job_ids:
        nomad("job", "restart", "-yes", "-reschedule", job_id)


def at_work(found: Access) -> int:
    listed = found.airflow(
        "dags/~/dagRuns/~/taskInstances", params={"state": ["running", "queued"], "limit": 1}
    )
    return int(listed["total_entries"])


def failed(found: Access) -> set[tuple[str, str, str]]:
    listed = found.airflow(
        "dags/~/dagRuns/~/taskInstances", params={"state": ["failed", "up_for_retry"]}
    )
    return {
        (each["dag_id"], each["dag_run_id"], each["task_id"]) for each in listed["task_instances"]
    }


def encrypted(found: Access) -> Any:
    return (
        found.airflow("connections/kept")["login"],
        found.airflow("variables/kept")["value"],
    )


@pytest.mark.soak
def test_every_secret_is_rotated_and_no_task_fails(platform: Access) -> None:
    platform.airflow(
        "connections", method="POST",
        json={"connection_id": "kept", "conn_type": "generic", "login": "l", "password": "old"},
    )  # fmt: skip
    platform.airflow("variables", method="POST", json={"key": "kept", "value": "old"})
    before = failed(platform)
    try:
        names = {
            path.stem: path.read_text()
            for path in SECRETS.glob("*.json")
            if not path.stem.startswith(OPENS)
        }
        old_key = read_secret("airflow-fernet")
        # Tokens of tasks that run or wait end with the JWT secret: none is there while it changes.
        nomad("job", "stop", "airflow-scheduler")
        wait_until(lambda: at_work(platform) == 0, "what runs and waits to end", 600)
        for name in names:
            (SECRETS / f"{name}.json").unlink()
        new_key = Fernet.generate_key().decode()
        write_private(SECRETS / "airflow-fernet.json", json.dumps(f"{new_key},{old_key}"))
        up()
        restart(SERVICES)
        platform.__dict__.pop("_airflow_token")  # it was signed with the old secret
        said = nomad(
            "alloc", "exec", "-job", "-task", "webserver", "airflow-webserver",
            "python", "-m", "harmattan.fernet", as_whom="nomad-bootstrap",
        )  # fmt: skip
        assert "it reads each of them" in said
        write_private(SECRETS / "airflow-fernet.json", json.dumps(new_key))
        up()
        restart([each for each in SERVICES if each.startswith("airflow-")])
        assert encrypted(platform) == ("l", "old")
        changed = {
            name for name, text in names.items() if (SECRETS / f"{name}.json").read_text() != text
        }
        assert changed == set(names)
        for dag_id in ("ingest_hr", "ingest_records", "ingest_service_desk", "school_report"):
            run = trigger(platform, dag_id)
            assert ended(platform, run) == "success"
        (task, *_) = platform.airflow(f"{run}/taskInstances")["task_instances"]
        assert task_log(platform, run, task["task_id"])
        for job_id in ("dag-sync", "backup-hr", "backup-airflow", "superset-dashboards"):
            launches.finish(platform, launches.force(platform, job_id), timeout=600)
        assert failed(platform) - before == set()
    finally:
        platform.__dict__.pop("_airflow_token", None)
        for path in ("connections/kept", "variables/kept"):
            with suppress(requests.exceptions.JSONDecodeError):  # there is no body
                platform.airflow(path, method="DELETE")
