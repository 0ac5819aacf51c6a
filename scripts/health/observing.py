"""How a job is: Nomad is asked here, and scripts/health/rules.py judges the answers."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scripts.cluster import NomadError, NotFound
from scripts.health.allocations import declared_checks
from scripts.health.rules import Health, Observation, judge, newest_ended

if TYPE_CHECKING:
    from scripts.cluster import Nomad

__all__ = ["Health", "health", "observe"]

FORBIDDEN = 403


def health(client: Nomad, job_id: str) -> Health:
    """Ask Nomad how a job is.

    Raises ``NomadError`` or ``requests.RequestException`` when Nomad does not say.
    """
    seen = observe(client, job_id)
    found = judge(job_id, seen, time.time())
    if found.well or seen.job is None:
        return found
    # Only what is not well needs a reason, so only then are these asked for.
    seen = replace(
        seen,
        deployment=client.job.get_deployment(job_id),
        evaluations=client.job.get_evaluations(job_id),
    )
    return judge(job_id, seen, time.time())


def observe(client: Nomad, job_id: str) -> Observation:
    """Return what Nomad says of a job, but for its deployment and its evaluations."""
    try:
        job: dict[str, Any] = client.job.get_job(job_id)
    except NotFound:
        return Observation(None)
    if job.get("Periodic"):
        launch = newest_ended(client.jobs.get_jobs(prefix=f"{job_id}/periodic-"))
        return Observation(job, client.job.get_allocations(launch) if launch else [])
    if job.get("ParameterizedJob"):
        return Observation(job)
    allocations = client.job.get_allocations(job_id)
    seen = Observation(job, allocations, _checks(client, job, allocations))
    if job["Type"] != "system":
        return seen
    groups = client.job.get_summary(job_id)["Summary"].values()
    queued = sum(group["Queued"] for group in groups)
    return replace(seen, nodes=client.nodes.get_nodes(), queued=queued)


def _checks(
    client: Nomad, job: dict[str, Any], allocations: list[dict[str, Any]]
) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        each["ID"]: _results(client, each["ID"])
        for each in allocations
        if each["ClientStatus"] == "running"
        and each["JobVersion"] == job["Version"]
        and declared_checks(job, each["TaskGroup"])
    }


def _results(client: Nomad, allocation_id: str) -> dict[str, dict[str, Any]]:
    """Return the results of an allocation's checks, none if its node does not answer for it."""
    try:
        answer = client.client.allocation.request(allocation_id, "checks", method="get")
    except NomadError as error:
        if getattr(error.nomad_resp, "status_code", None) == FORBIDDEN:
            raise
        return {}
    return answer.json() or {}
