"""The brief of coverage, from the job's own identity to the web server's file, by a real Nomad."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from backup.proof.brief import MOST_BYTES, brief
from backup.proof.coverage import Row
from scripts import nomad_setup
from scripts.cluster import connect
from scripts.jobs import Namespaces
from scripts.repository import ROOT
from tests.nomad.agent import running_cluster
from tests.nomad.rendering import tasks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scripts.cluster import Nomad

LEAVE = """
import os, sys
from datetime import UTC, datetime
from backup.proof import brief
from backup.proof.coverage import Row
from backup.settings import Settings
settings = Settings.from_environment(os.environ)
brief.leave(settings, [Row(name=sys.argv[1], size=1)], datetime.now(UTC))
"""


def test_a_brief_is_bounded_and_what_is_not_well_comes_first() -> None:
    rows = [Row(name=f"database_{n:05}", size=n) for n in range(700)]
    rows.append(Row(name="lost", states=("stale",)))
    text = brief(rows, datetime.now(UTC))
    told = json.loads(text)
    assert len(text) <= MOST_BYTES
    assert told["rows"][0]["name"] == "lost"
    assert len(told["rows"]) + told["left"] == len(rows)


def job(name: str, group: str, task: str, **how: Any) -> dict[str, Any]:
    """Return a job of one plain process, which is not started again."""
    kind = how.pop("kind")
    never = {"Attempts": 0, "Mode": "fail"}
    return {"Job": {
        "ID": name, "Name": name, "Type": kind, "Datacenters": ["*"], "Namespace": "default",
        "TaskGroups": [{
            "Name": group, "RestartPolicy": never,
            "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
            "Tasks": [{
                "Name": task, "Driver": "raw_exec", "User": "root",
                "Resources": {"CPU": 50, "MemoryMB": 128}, **how,
            }],
        }],
    }}  # fmt: skip


def leaves(name: str, address: str, what: str) -> dict[str, Any]:
    """Return a job that leaves a brief of ``what`` as the job file of coverage says."""
    (coverage,) = tasks("backup-coverage")
    return job(
        name, "coverage", "coverage", kind="batch",
        Config={"command": sys.executable, "args": ["-c", LEAVE, what]},
        Identities=coverage["Identities"], Identity=coverage["Identity"],
        Env={
            "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "BACKUP_NOMAD_ADDRESS": address,
            "BACKUP_BRIEF": coverage["Env"]["BACKUP_BRIEF"], "BACKUP_PREFIX": "local",
            "BACKUP_SECRETS_DIR": "${NOMAD_SECRETS_DIR}", "BACKUP_BUCKET": "bucket",
            "BACKUP_B2_REALM": "production",
        },
    )  # fmt: skip


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (value := found()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.2)
    return value


def allocation(nomad: Nomad, name: str, *states: str) -> dict[str, Any]:
    return until(
        lambda: next(
            (a for a in nomad.job.get_allocations(name) if a["ClientStatus"] in states), None
        )
    )  # type: ignore[no-any-return]


@pytest.mark.programs
def test_coverage_alone_leaves_what_the_web_server_reads_as_it_comes(tmp_path: Path) -> None:
    (template,) = [
        each["EmbeddedTmpl"]
        for task in tasks("airflow-webserver")
        for each in task["Templates"] or []
        if each["DestPath"].endswith("/backups.json")
    ]
    with running_cluster(tmp_path) as (server, node):
        nomad = connect(server.address, server.token)
        nomad_setup.set_up(nomad, environment="local", namespaces=Namespaces())
        web = job(
            "airflow-webserver", "webserver", "webserver", kind="service",
            Config={"command": "/bin/sleep", "args": ["600"]},
            Templates=[{"DestPath": "${NOMAD_SECRETS_DIR}/read", "EmbeddedTmpl": template,
                        "ChangeMode": "noop"}],
        )  # fmt: skip
        nomad.job.register_job("airflow-webserver", web)
        running = allocation(nomad, "airflow-webserver", "running")
        allocations = node.data / "alloc"
        file = allocations / running["ID"] / "webserver/secrets/read"
        assert file.read_text() == ""
        for name, what, ended in (
            ("backup-coverage", "hr", "complete"),
            ("backup-monthly", "forged", "failed"),
        ):
            nomad.job.register_job(name, leaves(name, server.address, what))
            done = allocation(nomad, name, "complete", "failed")
            logs = allocations / done["ID"] / "alloc/logs"
            said = "".join(each.read_text() for each in sorted(logs.glob("*std*.0")))
            assert done["ClientStatus"] == ended, said
            assert ("takes no brief" in said) == (ended == "failed"), said
        text = until(file.read_text)
        assert [row["name"] for row in json.loads(text)["rows"]] == ["hr"]
