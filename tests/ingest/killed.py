"""A run that is killed, and the end of what it had begun in the warehouse."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess

    from tests.forked import Forked
    from tests.ingest.world import World


def kill(process: subprocess.Popen[bytes] | Forked) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def no_sessions(world: World) -> bool:
    return not world.rows("SELECT FROM pg_stat_activity WHERE application_name LIKE 'ingest%'")


def settle(world: World) -> None:
    """Wait until the warehouse has ended the sessions of killed runs."""
    for _ in range(100):
        if no_sessions(world):
            return
        time.sleep(0.1)
    pytest.fail("a killed run's sessions are still there")
