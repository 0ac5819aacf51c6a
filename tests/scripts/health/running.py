"""Jobs of plain processes on a real Nomad."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from scripts.health.observing import health
from scripts.health.waiting import wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scripts.cluster import Nomad

SECOND = 1_000_000_000
ONCE = {"Attempts": 0, "Mode": "fail", "Interval": 5 * SECOND, "Delay": SECOND}
AGAIN = {"Attempts": 100, "Mode": "delay", "Interval": 600 * SECOND, "Delay": 2 * SECOND}
NEVER_ELSEWHERE = {"Attempts": 0, "Unlimited": False}
FOREVER = {
    "Attempts": 0,
    "Unlimited": True,
    "DelayFunction": "exponential",
    "Delay": 5 * SECOND,
    "MaxDelay": 10 * SECOND,
}


def run(client: Nomad, job_id: str, script: str, kind: str = "service", **group: Any) -> None:
    """Run a job of one task, which is ``script``, with what ``group`` says otherwise."""
    # As small as can be: nodes of tests have small disks.
    task = {
        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
        "Name": "task", "Driver": "raw_exec", "KillTimeout": SECOND,
        "Config": {"command": "/bin/sh", "args": ["-c", script]},
        "Resources": {"CPU": 20, "MemoryMB": 16},
        **group.pop("task", {}),
    }  # fmt: skip
    made = {
        "Name": "group", "Count": 1, "EphemeralDisk": {"SizeMB": 10},
        "Tasks": [task], "RestartPolicy": ONCE,
        **({} if kind == "system" else {"ReschedulePolicy": NEVER_ELSEWHERE}), **group,
    }  # fmt: skip
    update = {"MinHealthyTime": 0, "HealthyDeadline": 5 * SECOND, "ProgressDeadline": 3600 * SECOND}
    job = {"ID": job_id, "Name": job_id, "Type": kind, "Datacenters": ["*"], "TaskGroups": [made]}
    client.job.register_job(job_id, {"Job": job | ({"Update": update} if kind != "batch" else {})})


def tcp_check(port: int) -> dict[str, Any]:
    """Return a service with a check, and its port, as a group names them."""
    check = {"Type": "tcp", "Name": "port", "Interval": SECOND, "Timeout": SECOND}
    service = {"Name": "checked", "Provider": "nomad", "PortLabel": "port", "Checks": [check]}
    ports = [{"Label": "port", "Value": port}]
    return {"Services": [service], "Networks": [{"Mode": "host", "ReservedPorts": ports}]}


def until(done: Callable[[], object], what: Callable[[], object], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


def ends_well(
    client: Nomad, job_id: str, mend: Callable[[], object], *causes: str, seconds: float = 30
) -> None:
    """Wait for a job as `deploy` does: the causes are told, and after ``mend`` it is well."""
    all_end_well(client, {job_id: causes}, mend, seconds=seconds)


def all_end_well(
    client: Nomad,
    causes: Mapping[str, Sequence[str]],
    mend: Callable[[], object],
    *,
    seconds: float = 30,
) -> None:
    """Wait for jobs as `deploy` does: the causes of each are told, and after ``mend`` all are well.

    Each is told beside its job, whatever is told of the others.
    """
    told: list[str] = []
    unnamed = dict(causes)

    def named() -> bool:
        for line in (line for text in told for line in text.split("\n    ")):
            for job_id, wanted in list(unnamed.items()):
                if job_id in line and all(cause in line for cause in wanted):
                    del unnamed[job_id]
        return not unnamed

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(
            wait, client, list(causes), timeout=2 * seconds, lasting=1, say=told.append
        )
        try:
            until(named, lambda: (unnamed, told[-1:]), seconds=seconds)
        finally:
            mend()
        waiting.result()
    assert all(health(client, job_id).well for job_id in causes)
