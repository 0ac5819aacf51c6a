"""The platform as ``make up`` starts it, for tests that drive it from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts import access
from scripts.repository import LOGS, ROOT

if TYPE_CHECKING:
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


@pytest.fixture(scope="session")
def platform() -> Access:
    """Bring the platform up, or find it up, and return the access to it."""
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
    return access.of_this_machine()
