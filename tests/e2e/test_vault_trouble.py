"""An analyst whose task cannot have its connection is told why: Vault denies, or is down."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from scripts.local import agents, credentials, processes, up
from scripts.local.home import ENVIRONMENT
from scripts.repository import ROOT
from tests.e2e.rounds import ended, task_log, trigger, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.access import Access

POLICY = f"{ENVIRONMENT}-airflow-worker-analysts-connections"
# A denial by name, as an operator would write it, because a policy that merely lacks the path is
# refused by the same rule.
DENIES_CONNECTIONS = f"""
path "{credentials.MOUNT}/data/{ENVIRONMENT}/connections/*" {{ capabilities = ["deny"] }}
"""
UNDEFINED = "conn_id `warehouse` isn't defined"


@contextmanager
def worker_denied() -> Iterator[None]:
    """Let Vault deny every connection to the analysts' worker."""
    agents.vault_client().sys.create_or_update_policy(POLICY, DENIES_CONNECTIONS)
    try:
        yield
    finally:
        up.set_up_vault()


@contextmanager
def vault_away(how: str) -> Iterator[None]:
    """Seal Vault, which then answers everything with 503, or stop it, which refuses connections."""
    if how == "sealed":
        agents.vault_client().sys.seal()
    else:
        processes.stop("vault")
    try:
        yield
    finally:
        # By a process of its own, as an operator would: what it starts outlives this one.
        start = [sys.executable, "-c", "from scripts.local import agents; agents.start_vault()"]
        subprocess.run(start, cwd=ROOT, check=True, timeout=120)


def wait_for_earlier_runs(platform: Access) -> None:
    """Wait until the report does not run: it has one run at a time, and retries take long."""
    runs = "dags/school_report/dagRuns"
    active = {"state": ["queued", "running"]}
    wait_until(
        lambda: not platform.airflow(runs, params=active)["total_entries"], "earlier runs", 300
    )


def log_with(platform: Access, run: str, words: str) -> str:
    """Return the log of the report's first try once it holds ``words``."""
    task = "open_tickets_by_kind"

    def told() -> str | None:
        if platform.airflow(f"{run}/taskInstances/{task}")["try_number"] == 0:
            return None
        text = task_log(platform, run, task, attempt=1)
        return text if words in text else None

    return str(wait_until(told, f"{words!r} in the log of {run}", 60))


@pytest.mark.soak
def test_a_vault_that_denies_is_told_as_that_and_the_retry_succeeds(platform: Access) -> None:
    wait_for_earlier_runs(platform)
    with worker_denied():
        run = trigger(platform, "school_report")
        text = log_with(platform, run, "Vault denies this worker the connection 'warehouse'")
    assert UNDEFINED not in text
    assert ended(platform, run) == "success"


@pytest.mark.parametrize("how", [pytest.param("sealed", marks=pytest.mark.soak), "stopped"])
def test_a_vault_that_is_away_is_told_as_that_and_the_retry_succeeds(
    platform: Access, how: str
) -> None:
    wait_for_earlier_runs(platform)
    with vault_away(how):
        run = trigger(platform, "school_report")
        text = log_with(
            platform, run, "Vault did not answer when asked for the connection 'warehouse'"
        )
    assert UNDEFINED not in text
    assert ended(platform, run) == "success"
