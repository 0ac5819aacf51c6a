"""An upgrade that changes the schema of Airflow's database, and back again, by the runbook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from scripts import deploy, jobs, launches
from scripts.health.waiting import wait
from scripts.local import databases
from scripts.local.home import NOMAD_ADDR
from scripts.local.up import VARIABLE_FILES
from scripts.repository import ROOT, read_secret
from tests.e2e.conftest import models, platform
from tests.e2e.rounds import START_SECONDS, ended, trigger
from tests.e2e.test_backups import home, runbook
from tests.pages import block, filled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scripts.access import Access

__all__ = ["home", "models", "platform"]

OLDER = "3.2.0"  # the newest version with another schema than this one's


def shell(script: str) -> None:
    done = subprocess.run(
        ["bash"], input=f"set -eu\n{script}", cwd=ROOT, capture_output=True, text=True,
        timeout=600, check=False,
        env={
            **os.environ,
            "PATH": f"{ROOT}/.tools:{os.environ['PATH']}",
            "NOMAD_ADDR": NOMAD_ADDR,
            "NOMAD_TOKEN": str(read_secret("nomad-platform")),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def downgrade() -> None:
    """Give Airflow's database the schema of the older version, with what is in it."""
    uri = databases.owner("airflow").uri.replace("postgresql://", "postgresql+psycopg2://")
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "downgrade", "--to-version", OLDER, "--yes"],
        check=True, timeout=300,
        env={**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": uri},
    )  # fmt: skip


def deployed(platform: Access, files: Sequence[Path]) -> None:
    """Do what the runbook's step 3 does: migrate, then the rest."""
    environment = {name: platform.values[name] for name in ("NOMAD_ADDR", "NOMAD_TOKEN")}
    first, rest = [jobs.job("airflow-migrate")], list(jobs.platform())
    for each in (first, rest):
        for deployment in each:
            deploy.run(deployment, files, environment)
        wait(platform.nomad, [one.id for one in each], timeout=START_SECONDS)
    platform.__dict__.pop("_airflow_token", None)


def main_image(job: Mapping[str, Any]) -> str:
    """Return the image of a job's main task."""
    return str(job["TaskGroups"][0]["Tasks"][-1]["Config"]["image"])


def image(platform: Access, job_id: str) -> str:
    return main_image(platform.nomad.job.get_job(job_id))


def works(platform: Access) -> None:
    for dag_id in ("ingest_hr", "school_report"):
        assert ended(platform, trigger(platform, dag_id)) == "success"


@pytest.mark.soak
def test_an_upgrade_with_another_schema_and_back_by_the_backup(
    platform: Access, models: None, home: Path, tmp_path: Path
) -> None:
    before = image(platform, "airflow-scheduler")
    after = f"{before}-next"
    subprocess.run(["docker", "tag", before, after], check=True, timeout=60)
    newer = tmp_path / "newer.hcl"
    newer.write_text(f'airflow_image = "{after}"\n')
    stop = block("Roll back", 1)

    shell(stop)
    downgrade()
    launches.finish(platform, launches.force(platform, "backup-airflow"), timeout=300)
    deployed(platform, [*VARIABLE_FILES, newer])
    assert image(platform, "airflow-scheduler") == after
    works(platform)
    runs = platform.airflow("dags/~/dagRuns")["total_entries"]

    # One job by Nomad's own history.
    versions = platform.nomad.job.get_versions("airflow-webserver")["Versions"]
    older = next(each for each in versions if not each["Stop"] and main_image(each) == before)
    one = block("Roll back", 0)
    shell(
        filled(one, {"revert airflow-webserver 3": f"revert airflow-webserver {older['Version']}"})
    )
    wait(platform.nomad, ["airflow-webserver"], timeout=START_SECONDS)
    assert image(platform, "airflow-webserver") == before

    # All, with the database of before.
    shell(stop)
    shell(runbook(home, "airflow", "airflow_restored"))
    swap = block("Restore a database", 5)
    with psycopg.connect(databases.superuser("postgres"), autocommit=True) as connection:
        for statement in filter(None, map(str.strip, re.sub(r"\bhr", "airflow", swap).split(";"))):
            connection.execute(statement.encode())
    deployed(platform, VARIABLE_FILES)
    assert image(platform, "airflow-scheduler") == before
    assert 0 < platform.airflow("dags/~/dagRuns")["total_entries"] < runs
    works(platform)
    with psycopg.connect(databases.superuser("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE airflow_broken")
