"""The platform as ``make up`` starts it, for tests that drive it from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts import access
from scripts.local import first_run
from scripts.repository import LOGS, ROOT
from tests.e2e.rounds import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.access import Access

HERE = Path(__file__).parent
UP_TIMEOUT = 2400  # s: `make up` with empty caches takes 25 minutes; this is for what hangs
TEST_TIMEOUT = 1200  # s: longer than each wait within
FIRST_TIMEOUT = UP_TIMEOUT + 300  # s: the first test waits for the platform


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder as e2e and bound each; a timeout of a test's own stays."""
    mine = [item for item in items if item.path.is_relative_to(HERE)]
    for number, item in enumerate(mine):
        item.add_marker(pytest.mark.e2e)
        if number == 0:
            item.add_marker(pytest.mark.timeout(FIRST_TIMEOUT), append=False)
        elif item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT))


def pause_models(platform: Access, *, paused: bool) -> None:
    platform.airflow(
        "dags/models",
        method="PATCH",
        params={"update_mask": "is_paused"},
        json={"is_paused": paused},
    )


@pytest.fixture(scope="session")
def platform() -> Iterator[Access]:
    """Bring the platform up, or find it up, and yield the access to it.

    Models are built for those who ask for the fixture :func:`models`: as each pipeline starts them,
    they would take a fifth of the time of all tests.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / "up-test.log"
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, "-m", "scripts.local.up"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=UP_TIMEOUT,
            check=False,
        )
    assert done.returncode == 0, (
        f"scripts.local.up ended with {done.returncode}:\n{log.read_text()}"
    )
    found = access.of_this_machine()
    wait_until(lambda: not first_run.is_at_work(found, "models"), "the models to end", 300)
    pause_models(found, paused=True)
    yield found
    pause_models(found, paused=False)


@pytest.fixture(scope="module")
def models(platform: Access) -> Iterator[None]:
    """Have a pipeline that published start the models, as it does."""
    pause_models(platform, paused=False)
    yield
    wait_until(lambda: not first_run.is_at_work(platform, "models"), "the models to end", 300)
    pause_models(platform, paused=True)
