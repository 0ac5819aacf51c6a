"""How a job is: Nomad is asked here, and scripts/health/rules.py judges the answers."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import requests

from scripts.cluster import NomadError, NotFound
from scripts.health.allocations import declared_checks, terminated
from scripts.health.rules import (
    Health,
    Observation,
    judge,
    launched_at,
    newest_ended,
    oldest_unended,
)

if TYPE_CHECKING:
    from scripts.cluster import Nomad

__all__ = ["Health", "health", "last_lines", "observe"]

FORBIDDEN = 403
SAID = 2000  # bytes of what a task wrote last; its error stands at the end


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
        nodes=client.nodes.get_nodes(),
        written=_written(client, seen.allocations),
    )
    return judge(job_id, seen, time.time())


def observe(client: Nomad, job_id: str) -> Observation:
    """Return what Nomad says of a job, but for its deployment and its evaluations."""
    try:
        job: dict[str, Any] = client.job.get_job(job_id)
    except NotFound:
        return Observation(None)
    if job.get("Periodic"):
        launches = client.jobs.get_jobs(prefix=f"{job_id}/periodic-")
        ended, unended = newest_ended(launches), oldest_unended(launches)
        return Observation(
            job,
            client.job.get_allocations(ended) if ended else [],
            unended=launched_at(unended) if unended else None,
            unended_allocations=client.job.get_allocations(unended) if unended else [],
        )
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
    results = {
        each["ID"]: _results(client, each["ID"])
        for each in allocations
        if each["ClientStatus"] == "running"
        and each["JobVersion"] == job["Version"]
        and declared_checks(job, each["TaskGroup"])
    }
    return {each: found for each, found in results.items() if found is not None}


def _results(client: Nomad, allocation_id: str) -> dict[str, dict[str, Any]] | None:
    """Return the results of an allocation's checks; ``None`` if its node does not answer for it."""
    try:
        answer = client.client.allocation.request(allocation_id, "checks", method="get")
    except NomadError as error:
        if getattr(error.nomad_resp, "status_code", None) == FORBIDDEN:
            raise
        return None
    return answer.json() or {}


def last_lines(client: Nomad, allocation_id: str, task: str) -> list[str]:
    """Return the lines that a task wrote last as its errors; none if its node has none."""
    with suppress(NomadError, requests.RequestException):
        said = client.client.stream_logs.stream(
            allocation_id, task, "stderr", offset=SAID, origin="end", plain=True
        )
        return str(said).strip().splitlines()
    return []


def _written(client: Nomad, allocations: list[dict[str, Any]]) -> dict[str, str]:
    """Return the last line of the newest task that ended by itself, by its allocation."""
    for allocation in sorted(allocations, key=lambda each: -int(each["CreateIndex"])):
        if task := terminated(allocation):
            lines = last_lines(client, allocation["ID"], task)
            return {allocation["ID"]: lines[-1]} if lines else {}
    return {}
