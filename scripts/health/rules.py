"""How a job is, judged by what Nomad says of it. Pure: plain values go in, no Nomad is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from backup.proof.report import human_age
from scripts.health.allocations import (
    ALIVE,
    failed_tasks,
    is_healthy,
    newest,
    what_happened,
    why_unhealthy,
)
from scripts.health.placement import may_run, no_node
from scripts.schedules import oldest_due

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True)
class Health:
    """How a job is: ``state`` is what Nomad calls it, ``well`` whether that is as it should be.

    ``failed``: it will not become well by itself. ``deployed``: it is there, and no waiting makes
    its last launch another one. ``reason`` is why it is not well, in the words of Nomad or of the
    driver, "" where nobody said.
    """

    id: str
    state: str
    well: bool
    failed: bool = False
    deployed: bool = False
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.id} is {self.state}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class Observation:
    """What Nomad says of one job, as its API answers; ``job`` is ``None`` where there is none."""

    job: dict[str, Any] | None
    # Of a periodic job: of its newest launch that ended.
    allocations: list[dict[str, Any]] = field(default_factory=list)
    # By allocation's id, then by check's id; nothing of an allocation whose node does not answer.
    checks: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    # Of a system job: how many allocations found no room on a node that fits.
    queued: int = 0
    # All nodes: of a system job, and of one that is not well.
    nodes: list[dict[str, Any]] = field(default_factory=list)
    deployment: dict[str, Any] | None = None
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    # By allocation's id: the last line of a task that ended by itself.
    written: dict[str, str] = field(default_factory=dict)
    # Of a periodic job: when its oldest launch began that has not ended, in seconds since 1970, and
    # the allocations of that one.
    unended: float | None = None
    unended_allocations: list[dict[str, Any]] = field(default_factory=list)


def judge(job_id: str, seen: Observation, now: float) -> Health:
    """Judge a job; one that never ran or was stopped is not well. ``now``: seconds since 1970."""
    job = seen.job
    if job is None:
        return Health(job_id, "absent", well=False)
    if job["Stop"]:
        return Health(job_id, "stopped", well=False)
    if job.get("Periodic"):
        return _launched(job_id, job, seen, now)
    if job.get("ParameterizedJob"):  # how a dispatch ends is for whoever does it
        return Health(job_id, "on demand", well=True)
    if job["Type"] in {"batch", "sysbatch"}:
        return _batch(job_id, job, seen)
    return _long_running(job_id, job, seen, now)


def newest_ended(launches: Iterable[dict[str, Any]]) -> str | None:
    """Return the id of the newest launch of a periodic job that ended, ``None`` if none did."""
    ended = [str(each["ID"]) for each in launches if each["Status"] == "dead"]
    return max(ended, key=launched_at, default=None)


def oldest_unended(launches: Iterable[dict[str, Any]]) -> str | None:
    """Return the id of the oldest launch of a periodic job that did not end, ``None`` if none."""
    unended = [str(each["ID"]) for each in launches if each["Status"] != "dead"]
    return min(unended, key=launched_at, default=None)


def launched_at(launch: str) -> int:
    """Return when a launch of a periodic job began, in seconds since 1970: its id ends with it."""
    return int(launch.rpartition("-")[2])


def _launched(job_id: str, job: Mapping[str, Any], seen: Observation, now: float) -> Health:
    """Judge by the newest launch that ended; a job that has none yet is well.

    One that has not ended when two others were due holds them up: jobs do not overlap.
    """
    schedule = job["Periodic"]["Specs"][0]
    due = oldest_due(schedule, datetime.fromtimestamp(now, UTC)).timestamp()
    if seen.unended is not None and seen.unended < due:
        state = f"a launch has not ended for {human_age(now - seen.unended)}"
        reason = what_happened(seen.unended_allocations, seen.written)
        return Health(job_id, state, well=False, deployed=True, reason=reason)
    latest = newest(seen.allocations, lambda each: each["Name"]).values()
    # The judge of dag-sync fails when it says no, which is the analysts' to mend.
    failed = [task for task in failed_tasks(latest) if task != "judge"]
    if failed:
        state = f"last launch failed in {', '.join(failed)}"
        reason = what_happened(latest, seen.written)
        return Health(job_id, state, well=False, deployed=True, reason=reason)
    return Health(job_id, f"periodic {schedule}", well=True)


def _batch(job_id: str, job: Mapping[str, Any], seen: Observation) -> Health:
    """Judge by the newest try of each allocation; a failed one may be tried again by Nomad."""
    current = _of_this_version(job, seen)
    latest = newest(current, lambda each: each["Name"]).values()
    states = {each["ClientStatus"] for each in latest}
    happened = what_happened(current, seen.written)
    if states == {"complete"}:
        return Health(job_id, "complete", well=True)
    if not states - ALIVE - {"complete"}:
        reason = happened or no_node(job, seen.evaluations, seen.nodes)
        return Health(job_id, "running" if states else "waiting", well=False, reason=reason)
    tried_again = job["Status"] != "dead" or any(
        (group.get("ReschedulePolicy") or {}).get("Unlimited") for group in job["TaskGroups"]
    )
    state = "failed, to be tried again" if tried_again else "failed"
    reasons = (happened, no_node(job, seen.evaluations, seen.nodes))
    reason = "; ".join(filter(None, reasons))
    return Health(job_id, state, well=False, failed=not tried_again, reason=reason)


def _long_running(job_id: str, job: Mapping[str, Any], seen: Observation, now: float) -> Health:
    system = job["Type"] == "system"
    places = list(_places_of_system(job, seen) if system else _places_of_service(job, seen))
    if system:
        wanted = max(1, len(places) + seen.queued)
    else:
        wanted = sum(group["Count"] for group in job["TaskGroups"])
    sick = [each for each in places if not is_healthy(job, each, _results(seen, each) or {}, now)]
    healthy = len(places) - len(sick)
    state = f"{healthy}/{wanted} healthy"
    if healthy == wanted:
        return Health(job_id, state, well=True)
    reason = _why(job, seen, sick, missing=wanted > len(places))
    deployment = seen.deployment or {}
    given_up = deployment.get("Status") == "failed" and deployment["JobVersion"] == job["Version"]
    # Nomad replaces nothing that failed in a failed deployment; what still runs may become well.
    if given_up and not any(each["ClientStatus"] in ALIVE for each in sick):
        return Health(job_id, "not deployed", well=False, failed=True, reason=reason)
    return Health(job_id, state, well=False, reason=reason)


def _places_of_service(job: Mapping[str, Any], seen: Observation) -> Iterator[dict[str, Any]]:
    """Yield the newest allocation of each of the job's instances."""
    current = [each for each in _of_this_version(job, seen) if each["DesiredStatus"] == "run"]
    yield from newest(current, lambda each: each["Name"]).values()


def _places_of_system(job: Mapping[str, Any], seen: Observation) -> Iterator[dict[str, Any]]:
    """Yield, of each node that the job wants, its newest allocation.

    Only Nomad knows which nodes meet every constraint: those where it put the job. Of them count
    the ones that may run it now. An older allocation of the same node is history; one of an older
    version counts, as not healthy, while it still runs and so waits to be replaced.
    """
    usable = {node["ID"] for node in seen.nodes if may_run(job, node)}
    for allocation in newest(
        seen.allocations, lambda each: (each["NodeID"], each["TaskGroup"])
    ).values():
        if allocation["NodeID"] not in usable or allocation["DesiredStatus"] != "run":
            continue
        if allocation["JobVersion"] == job["Version"]:
            yield allocation
        elif allocation["ClientStatus"] in ALIVE:
            yield {**allocation, "ClientStatus": "pending"}


def _of_this_version(job: Mapping[str, Any], seen: Observation) -> list[dict[str, Any]]:
    return [each for each in seen.allocations if each["JobVersion"] == job["Version"]]


def _results(seen: Observation, allocation: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
    return seen.checks.get(str(allocation["ID"]))


def _why(
    job: Mapping[str, Any], seen: Observation, sick: list[dict[str, Any]], *, missing: bool
) -> str:
    reasons = [why_unhealthy(job, each, _results(seen, each), seen.written) for each in sick]
    # One that has just been placed, or waits for it, says nothing yet: how the last ended does.
    if all(each["ClientStatus"] == "pending" for each in sick):
        ended = [
            each
            for each in _of_this_version(job, seen)
            if each["ClientStatus"] in {"failed", "lost"}
        ]
        reasons.append(what_happened(ended, seen.written))
    if missing:
        reasons.append(no_node(job, seen.evaluations, seen.nodes) or "not placed")
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason))
