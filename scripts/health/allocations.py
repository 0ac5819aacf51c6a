"""What one of Nomad's allocations says of itself: whether it is healthy, and what happened last.

Pure: allocations, jobs and check results are the plain values that Nomad's API answers with.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Key = TypeVar("Key")

NANOSECONDS = 1_000_000_000
DOCKER_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")  # shown as Docker shows it, by 12 digits
ALIVE = frozenset({"pending", "running"})
# What every task goes through, or what follows from another event: it says nothing of a cause.
SAYS_NOTHING = frozenset(
    {
        "Received",
        "Task Setup",
        "Started",
        "Restarting",
        "Not Restarting",
        "Alloc Unhealthy",
        "Killing",
        "Killed",
        "Sibling Task Failed",
        "Main Tasks Dead",
    }
)


def newest(
    allocations: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], Key]
) -> dict[Key, dict[str, Any]]:
    """Return the allocation that was made last of each ``key``."""
    ordered = sorted(allocations, key=lambda each: int(each["CreateIndex"]))
    return {key(each): each for each in ordered}


def declared_checks(job: Mapping[str, Any], group_name: str) -> int:
    """Return how many checks Nomad itself runs for an allocation of the group."""
    group = _group(job, group_name)
    services = [*(group.get("Services") or [])]
    for task in group.get("Tasks") or []:
        services += task.get("Services") or []
    return sum(
        len(service["Checks"] or []) for service in services if service["Provider"] == "nomad"
    )


def is_healthy(
    job: Mapping[str, Any],
    allocation: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
    now: float,
) -> bool:
    """Tell whether ``allocation`` runs as its ``job`` wants it.

    Every check that is declared must have a result, and a good one: one without results has not
    been looked at yet. A group without checks is healthy when its tasks have been running for the
    job's ``min_healthy_time``. ``now`` is in seconds since 1970.
    """
    if (allocation["DesiredStatus"], allocation["ClientStatus"]) != ("run", "running"):
        return False
    checks = declared_checks(job, allocation["TaskGroup"])
    if checks:
        good = [each for each in results.values() if each["Status"] == "success"]
        return len(results) >= checks and len(good) == len(results)
    update = _group(job, allocation["TaskGroup"]).get("Update") or job.get("Update") or {}
    return _running_for(allocation, now) >= (update.get("MinHealthyTime") or 0) / NANOSECONDS


def why_unhealthy(
    job: Mapping[str, Any],
    allocation: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
) -> str:
    """Return why an allocation is not healthy: its check's words, or its newest event's."""
    if allocation["ClientStatus"] == "running":
        for result in results.values():
            if result["Status"] != "success":
                output = " ".join(str(result["Output"]).split())
                return f"the check of {result['Service']} says {output or result['Status']}"
        if len(results) < declared_checks(job, allocation["TaskGroup"]):
            return "no result of its checks yet"
    return newest_event([allocation])


def newest_event(allocations: Iterable[Mapping[str, Any]]) -> str:
    """Return the words of the newest task event that says something; "" if there is none."""
    events = [
        event
        for allocation in allocations
        for state in (allocation["TaskStates"] or {}).values()
        for event in state["Events"] or []
    ]
    telling = [event for event in events if event["Type"] not in SAYS_NOTHING] or events
    if not telling:
        return ""
    event = max(telling, key=lambda each: int(each["Time"]))
    words = " ".join(str(event["DisplayMessage"] or event["Type"]).split())
    return DOCKER_ID.sub(r"\1", words)


def failed_tasks(allocations: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the tasks that failed."""
    return [
        task
        for allocation in allocations
        for task, state in (allocation["TaskStates"] or {}).items()
        if state["Failed"]
    ]


def _group(job: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next((group for group in job["TaskGroups"] if group["Name"] == name), {})


def _running_for(allocation: Mapping[str, Any], now: float) -> float:
    """Return for how many seconds all tasks that are to run have been running."""
    states = (allocation["TaskStates"] or {}).values()
    if any(state["State"] == "pending" for state in states):
        return 0
    started = [state["StartedAt"] for state in states if state["State"] == "running"]
    if not started:
        return 0
    return now - max(datetime.fromisoformat(each).timestamp() for each in started)
