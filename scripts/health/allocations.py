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
    results: Mapping[str, Mapping[str, Any]] | None,
    written: Mapping[str, str],
) -> str:
    """Return why an allocation is not healthy: its check's words, or what happened to it.

    ``results`` is ``None`` where its node does not answer for it, ``written`` as for
    :func:`what_happened`.
    """
    if allocation["ClientStatus"] == "running":
        if results is None:
            return f"node {allocation['NodeName']} does not answer for it"
        for result in results.values():
            if result["Status"] != "success":
                output = " ".join(str(result["Output"]).split())
                return f"the check of {result['Service']} says {output or result['Status']}"
        if len(results) < declared_checks(job, allocation["TaskGroup"]):
            return "no result of its checks yet"
    return what_happened([allocation], written)


def what_happened(allocations: Iterable[Mapping[str, Any]], written: Mapping[str, str]) -> str:
    """Return the cause that the newest allocation that has one gives, and on which node.

    Without a cause it is the newest event of all; "" if there is none. ``written`` is, by an
    allocation's id, the last line of a task that ended by itself: its exit code says little.
    """
    newest_first = sorted(allocations, key=lambda each: int(each["CreateIndex"]), reverse=True)
    causes = (_cause(each, written.get(str(each["ID"]), "")) for each in newest_first)
    if cause := next(filter(None, causes), ""):
        return cause
    newest_events = filter(None, map(_newest_event, newest_first))
    event = max(newest_events, key=lambda each: int(each["Time"]), default=None)
    return _words(event) if event else ""


def terminated(allocation: Mapping[str, Any]) -> str | None:
    """Return the task that ended by itself, if that is the cause of what happened."""
    event = _newest_event(allocation)
    if not event or event["Type"] != "Terminated":
        return None
    tasks: Mapping[str, Any] = allocation["TaskStates"]
    return next(task for task, state in tasks.items() if event in (state["Events"] or []))


def _cause(allocation: Mapping[str, Any], written: str) -> str:
    if allocation["ClientStatus"] == "lost":
        return f"lost with node {allocation['NodeName']}"
    event = _newest_event(allocation)
    if event and event["Type"] not in SAYS_NOTHING:
        words = _words(event)
    elif allocation["ClientStatus"] == "failed":
        words = str(allocation["ClientDescription"])  # it never came to its tasks
    else:
        return ""
    said = f", after it wrote: {written}" if written else ""
    return f"{words}{said} (on node {allocation['NodeName']})"


def _newest_event(allocation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the newest event of an allocation's tasks: of those that say something, if any do."""
    events = [
        event
        for state in (allocation["TaskStates"] or {}).values()
        for event in state["Events"] or []
    ]
    telling = [event for event in events if event["Type"] not in SAYS_NOTHING] or events
    return max(telling, key=lambda each: int(each["Time"]), default=None)


def _words(event: Mapping[str, Any]) -> str:
    return DOCKER_ID.sub(r"\1", " ".join(str(event["DisplayMessage"] or event["Type"]).split()))


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
