"""A process that is killed comes back and the work goes on; tests/soak/test_kills.py kills each."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.e2e.rounds import kill

if TYPE_CHECKING:
    from scripts.access import Access

# What a killed worker, Redis or web server had in hand is only missed after minutes: for the soak.
QUICK = ("airflow-scheduler", "airflow-triggerer")


def test_a_killed_process_comes_back_and_the_run_succeeds(platform: Access, seed: int) -> None:
    kill(platform, random.Random(seed).choice(QUICK))
