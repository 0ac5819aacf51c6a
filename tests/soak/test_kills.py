"""Every service killed once while a pipeline runs; the whole of it; and down and up again."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from scripts import deploy, jobs, launches, status
from scripts.local import databases, processes
from scripts.local.up import VARIABLE_FILES
from scripts.repository import ROOT
from tests.e2e.conftest import models, platform
from tests.e2e.rounds import ended, kill, trigger, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.access import Access

__all__ = ["models", "platform"]

RUNS = "dags/~/dagRuns"

# airflow-logs has several tasks, and none of them takes part in a run; airflow-clean runs by night.
SERVICES = [
    each.id
    for each in jobs.platform()
    if each.id.startswith(("airflow-", "redis", "dag-mirror", "superset"))
    and each.id
    not in {
        "airflow-migrate",
        "airflow-clean",
        "airflow-logs",
        "superset-migrate",
        "superset-dashboards",
    }
]


@pytest.mark.soak
@pytest.mark.parametrize("job", SERVICES)
def test_a_killed_service_comes_back_and_the_run_succeeds(platform: Access, job: str) -> None:
    kill(platform, job)


@contextmanager
def superset_away(platform: Access) -> Iterator[None]:
    """Stop Superset, and let nobody into its database."""
    superset = jobs.job("superset")
    with psycopg.connect(databases.superuser("postgres"), autocommit=True) as connection:
        platform.nomad.job.deregister_job(superset.id)
        connection.execute("ALTER DATABASE superset ALLOW_CONNECTIONS false")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'superset'"
        )
        try:
            yield
        finally:
            connection.execute("ALTER DATABASE superset ALLOW_CONNECTIONS true")
            deploy.run(superset, VARIABLE_FILES, dict(platform.values))
            deploy.wait(platform.nomad, [superset.id])


@pytest.mark.soak
def test_without_superset_and_its_database_all_else_goes_on(platform: Access, models: None) -> None:
    with superset_away(platform):
        for dag_id in ("ingest_hr", "models", "school_report"):
            assert ended(platform, trigger(platform, dag_id)) == "success"
        launches.finish(platform, launches.force(platform, "backup-hr"), timeout=300)
        found = status.gather(platform)
        # Its import of dashboards, every five minutes, fails meanwhile.
        assert {row.name for _, row in found.unwell} - {"superset-dashboards"} == {"superset"}
    launches.finish(platform, launches.force(platform, "superset-dashboards"), timeout=300)


def local(command: str) -> None:
    """Run ``make up`` or ``make down``."""
    done = subprocess.run(
        [sys.executable, "-m", f"scripts.local.{command}"],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def cut_the_power() -> None:
    """Kill what `make up` started, the engine and every process of a container with it."""
    dead = []
    for name in ("nomad", "vault", "dockerd"):
        if process := processes.find(name):
            dead += [process, *process.children(recursive=True)]
    # Each container's parent outlives the engine.
    for process in psutil.process_iter():
        if process.name().startswith("containerd-shim"):
            dead += [process, *process.children(recursive=True)]
    for process in dead:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(dead, timeout=60)


@pytest.mark.soak
def test_down_keeps_the_data_and_up_finds_it(platform: Access) -> None:
    before = platform.airflow(RUNS)["total_entries"]
    local("down")
    local("up")
    platform.__dict__.pop("_airflow_token", None)
    assert platform.airflow(RUNS)["total_entries"] >= before > 0


@pytest.mark.soak
def test_up_finds_all_again_after_a_power_cut_and_the_run_succeeds(platform: Access) -> None:
    run = trigger(platform, "ingest_records")
    wait_until(lambda: platform.airflow(run)["state"] == "running", "the run to begin", 60)
    before = platform.airflow(RUNS)["total_entries"]
    cut_the_power()
    local("up")
    platform.__dict__.pop("_airflow_token", None)
    assert platform.airflow(RUNS)["total_entries"] >= before
    assert ended(platform, run) == "success"
