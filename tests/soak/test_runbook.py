"""The blocks of docs/runbook.md that no other test types, as they stand there, on the platform.

An example's names and addresses are replaced by this machine's: see HERE.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import requests

from scripts import jobs, launches, status
from scripts.health.waiting import wait
from scripts.local import agents, backblaze, credentials, databases
from scripts.local.home import ADDRESS, ENVIRONMENT, NOMAD_ADDR, VAULT_ADDR, VOLUMES
from scripts.local.up import VARIABLE_FILES
from scripts.repository import ROOT, SECRETS, read_secret
from tests.e2e.conftest import models, platform
from tests.e2e.rounds import START_SECONDS, wait_until
from tests.pages import block, desk, filled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripts.access import Access
    from tests.pages import Desk

__all__ = ["models", "platform"]

pytestmark = [pytest.mark.soak, pytest.mark.usefixtures("models")]

# What the page's examples call a cluster's, and this machine's.
HERE = {
    "production/": f"{ENVIRONMENT}/",
    "--environment production": f"--environment {ENVIRONMENT}",
    "production-": f"{ENVIRONMENT}-",
    "https://nomad.example.org:4646": NOMAD_ADDR,
    "https://vault.example.org:8200": VAULT_ADDR,
    "-var-file=nomad/vars/production.hcl": " ".join(f"-var-file={each}" for each in VARIABLE_FILES),
    "--var-file nomad/vars/production.hcl": " ".join(
        f"--var-file {each}" for each in VARIABLE_FILES
    ),
    "VARS=nomad/vars/production.hcl": f"VARS='{' '.join(map(str, VARIABLE_FILES))}'",
    "BACKUP_B2_REALM=production": f"BACKUP_B2_REALM={backblaze.REALM}",
    "BACKUP_BUCKET=example-harmattan-backups": f"BACKUP_BUCKET={backblaze.BUCKET}",
    "BACKUP_PREFIX=production": f"BACKUP_PREFIX={ENVIRONMENT}",
}
LAUNCH_SECONDS = 600


def here(text: str, **values: str) -> str:
    """Return ``text`` with this machine's names, and with ``values``, all of which it has."""
    text = filled(text, values)
    return filled(text, {example: own for example, own in HERE.items() if example in text})


@pytest.fixture
def typing(tmp_path: Path) -> Iterator[Desk]:
    """A desk of the platform team on this machine, with the management tokens of Vault's owner."""
    start, cluster = block("Runbook", 0).split("# A cluster")
    _, newest = cluster.split("\n\n")
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "VAULT_ADDR": VAULT_ADDR,
        "VAULT_TOKEN": read_secret("vault")["root_token"],
        "AIRFLOW_URL": f"http://{ADDRESS}:8080",
    }  # fmt: skip
    with desk(ROOT, tmp_path, environment) as made:
        made.type(start)
        made.type(newest)
        yield made


def manage(typing: Desk) -> None:
    """Take the management token, where the page asks for one."""
    typing.type("export NOMAD_TOKEN=$(scripts/show.py nomad-bootstrap)")


def is_well(platform: Access) -> None:
    """Wait until all jobs are well, and see that the rest is."""
    wait(platform.nomad, [each.id for each in jobs.platform()], timeout=START_SECONDS)
    platform.__dict__.pop("_airflow_token", None)
    wait_until(lambda: status.gather(platform).well, "everything to be well", 300)


def launch(platform: Access, typing: Desk, text: str, *, may_fail: bool = False) -> str:
    """Type ``text`` line by line, wait after each for what it launched, and return what is shown.

    A launch that fails fails the test, unless it may.
    """
    said = ""
    for line in text.splitlines():
        before = launched(platform)
        said += typing.type(line)
        for child in launched(platform) - before:
            try:
                launches.finish(platform, child, timeout=LAUNCH_SECONDS)
            except launches.Failure:
                if not may_fail:
                    raise
    return said


def launched(platform: Access) -> set[str]:
    """Return the launches of periodic and parameterised jobs that Nomad knows."""
    return {each["ID"] for each in platform.nomad.jobs.get_jobs() if "/" in each["ID"]}


def allocation(platform: Access, job: str) -> str:
    (running,) = (
        each["ID"]
        for each in platform.nomad.job.get_allocations(job)
        if each["ClientStatus"] == "running"
    )
    return str(running)


def vault(path: str) -> dict[str, str]:
    """Return what Vault holds for this platform."""
    answer = agents.vault_client().secrets.kv.v2.read_secret_version(
        f"{ENVIRONMENT}/{path}", mount_point=credentials.MOUNT, raise_on_deleted_version=True
    )
    return dict(answer["data"]["data"])


def forget(*paths: str) -> None:
    for path in paths:
        agents.vault_client().secrets.kv.v2.delete_metadata_and_all_versions(
            f"{ENVIRONMENT}/{path}", mount_point=credentials.MOUNT
        )


# -- Looking


def test_how_it_is_is_seen(platform: Access, typing: Desk) -> None:
    is_well(platform)
    text = block("See how it is", 0)
    said = typing.type(filled(text, {"ALLOC": allocation(platform, "airflow-scheduler")}))
    assert "✗" not in said
    assert '"well": true' in said
    for part in ("dag-sync/periodic-", "Recent Events", "Task Group"):
        assert part in said


def test_a_cluster_is_asked_by_its_addresses(platform: Access, typing: Desk) -> None:
    is_well(platform)
    # Another address of the same Nomad, so that it is not this machine's own platform.
    typing.type("export NOMAD_ADDR=http://127.0.0.1:4646")
    said = typing.type(
        here(
            block("See how it is", 1),
            **{
                " VAULT_CACERT=…": "",
                "https://airflow.example.org": f"http://{ADDRESS}:8080",
                "AIRFLOW_USERNAME=…": "AIRFLOW_USERNAME=admin",
                "AIRFLOW_PASSWORD=…": "AIRFLOW_PASSWORD=$(scripts/show.py airflow-admin)",
                "git://node-1.example.org:9418": str(platform.values["DAG_MIRROR_URL"]),
                "BACKUP_SECRETS_DIR=…": f"BACKUP_SECRETS_DIR={SECRETS / 'backups'}",
            },
        )
    )
    assert "airflow-scheduler" in said
    assert "✗" not in said


def test_old_rows_of_airflows_database_are_deleted_now(platform: Access, typing: Desk) -> None:
    with psycopg.connect(databases.superuser("airflow"), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO log (dttm, event) VALUES (now() - interval '100 days', 'old')"
        )
    said = launch(platform, typing, block("What Airflow's database keeps", 0))
    assert re.search(r"\blog\b.* 1\b", said), said


def test_a_secret_of_airflows_own_database_moves_to_vault(platform: Access, typing: Desk) -> None:
    made: dict[str, Any] = {"connection_id": "moved_api_key", "conn_type": "http", "host": "h"}
    platform.airflow("connections", method="POST", json=made)
    platform.airflow("variables", method="POST", json={"key": "moved_api_key", "value": "v"})
    assert [row.well for row in status.secrets(platform)] == [False, False]
    try:
        typing.type(
            """
            account='{"username": "admin", "password": "'$(scripts/show.py airflow-admin)'"}'
            TOKEN=$(curl -fsS -H 'Content-Type: application/json' -d "$account" \\
              "$AIRFLOW_URL/auth/token" | jq -r .access_token)
            """
        )
        text = here(block("A secret in Airflow's own database", 0), **{"/NAME": "/moved_api_key"})
        typing.type(text, given="http://moved.example.org")
        assert vault("connections/analysts/moved_api_key") == {
            "conn_uri": "http://moved.example.org"
        }
        assert all(row.well for row in status.secrets(platform))
    finally:
        forget("connections/analysts/moved_api_key")
        for path in ("connections/moved_api_key", "variables/moved_api_key"):
            with suppress(requests.RequestException):  # deleted already, as it should be
                platform.airflow(path, method="DELETE")


def test_what_is_covered_is_seen(platform: Access, typing: Desk) -> None:
    said = launch(platform, typing, block("See what is covered", 0))
    for name in ("postgres_globals", "hr", "warehouse", "vault"):
        assert name in said


def test_a_push_that_was_judged_is_looked_at_and_judged_again(
    platform: Access, typing: Desk
) -> None:
    again = block("A push that the gate refused", 1)
    verdict = VOLUMES / "dag-mirror/verdict.json"
    launch(platform, typing, again)
    wait_until(verdict.exists, "the verdict", LAUNCH_SECONDS)
    assert json.loads(verdict.read_text())["verdict"] == "sound"
    newest = typing.type("newest dag-sync 2>/dev/null").strip()
    said = typing.type(filled(block("A push that the gate refused", 0), {"LAUNCH": newest}))
    assert newest in said
