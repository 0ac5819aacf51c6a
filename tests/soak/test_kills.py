"""Every service killed once while a pipeline runs, workers among them; and down and up again."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts import jobs
from scripts.repository import ROOT
from tests.e2e.conftest import platform
from tests.e2e.rounds import kill

if TYPE_CHECKING:
    from scripts.access import Access

__all__ = ["platform"]

# airflow-logs has three tasks, and none of them takes part in a run.
SERVICES = [
    each.id
    for each in jobs.platform()
    if each.id.startswith(("airflow-", "redis", "dag-mirror", "superset"))
    and each.id
    not in {"airflow-migrate", "airflow-logs", "superset-migrate", "superset-dashboards"}
]


@pytest.mark.soak
@pytest.mark.parametrize("job", SERVICES)
def test_a_killed_service_comes_back_and_the_run_succeeds(platform: Access, job: str) -> None:
    kill(platform, job)


@pytest.mark.soak
def test_down_keeps_the_data_and_up_finds_it(platform: Access) -> None:
    runs = "dags/~/dagRuns"
    before = platform.airflow(runs)["total_entries"]
    for command in ("down", "up"):
        done = subprocess.run(
            [sys.executable, "-m", f"scripts.local.{command}"],
            cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    platform.__dict__.pop("_airflow_token", None)
    assert platform.airflow(runs)["total_entries"] >= before > 0
