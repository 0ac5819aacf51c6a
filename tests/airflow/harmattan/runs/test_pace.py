"""How often the triggerer looks for work. That its loop still works so: test_trigger.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

PROGRAM = """
import asyncio, time
from airflow.jobs import triggerer_job_runner as runner
from harmattan.runs.pace import PACE, quicken

quicken()
assert "anyio" in runner.TriggerRunner.arun.__code__.co_names

async def rest():
    begun = time.monotonic()
    with runner.anyio.move_on_after(600):
        await runner.anyio.Event().wait()
    return time.monotonic() - begun

assert PACE <= asyncio.run(rest()) < 60
"""


def test_it_rests_for_less_than_a_second(
    airflow_program: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = airflow_program(PROGRAM)
    assert done.returncode == 0, done.stderr
