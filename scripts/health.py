"""How a job is, judged by what Nomad says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scripts.cluster import NotFound

if TYPE_CHECKING:
    from scripts.cluster import Nomad


@dataclass(frozen=True)
class Health:
    """How a job is: ``state`` is what Nomad calls it, ``well`` whether that is as it should be.

    ``failed``: it will not become well. ``deployed``: it is there, and no waiting makes its last
    launch another one.
    """

    id: str
    state: str
    well: bool
    failed: bool = False
    deployed: bool = False


def health(client: Nomad, job_id: str) -> Health:
    """Ask Nomad how a job is; a job that never ran or was stopped is not well."""
    try:
        found = client.job.get_job(job_id)
    except NotFound:
        return Health(job_id, "absent", well=False)
    if found["Stop"]:
        return Health(job_id, "stopped", well=False)
    if found.get("Periodic") or found.get("ParameterizedJob"):
        return _launched_health(client, job_id, found)
    allocations = [
        each
        for each in client.job.get_allocations(job_id)
        if each["JobVersion"] == found["Version"]
    ]
    if found["Type"] == "batch":
        return _batch_health(job_id, {each["ClientStatus"] for each in allocations})
    deployment = client.job.get_deployment(job_id) or {}
    if deployment.get("Status") == "failed" and deployment["JobVersion"] == found["Version"]:
        return Health(job_id, "not deployed", well=False, failed=True)
    running = [each for each in allocations if each["ClientStatus"] == "running"]
    if found["Type"] == "system":  # one a node that fits, so the nodes say how many are wanted
        wanted = max(1, sum(each["DesiredStatus"] == "run" for each in allocations))
    else:
        wanted = sum(group["Count"] for group in found["TaskGroups"])
    well = [each for each in running if _checks_pass(client, each)]
    return Health(job_id, f"{len(well)}/{wanted} healthy", well=len(well) == wanted)


def _launched_health(client: Nomad, job_id: str, found: dict[str, Any]) -> Health:
    """Judge by the newest launch that ended; a job that has none yet is well.

    So is one that waits to be dispatched: how that ends is for whoever does it.
    """
    if not found.get("Periodic"):
        return Health(job_id, "on demand", well=True)
    launches = client.jobs.get_jobs(prefix=f"{job_id}/periodic-")
    ended = [each for each in launches if each["Status"] == "dead"]
    if ended:
        newest = max(ended, key=lambda each: int(each["ID"].rpartition("-")[2]))
        failed = [
            task
            for each in client.job.get_allocations(newest["ID"])
            for task, state in (each["TaskStates"] or {}).items()
            # The judge fails when it says no, which is the analysts' to mend.
            if state["Failed"] and task != "judge"
        ]
        if failed:
            told = f"last launch failed in {', '.join(failed)}"
            return Health(job_id, told, well=False, deployed=True)
    return Health(job_id, f"periodic {found['Periodic']['Specs'][0]}", well=True)


def _batch_health(job_id: str, states: set[str]) -> Health:
    if "complete" in states:
        return Health(job_id, "complete", well=True)
    failed = bool(states) and not states & {"pending", "running"}
    return Health(job_id, "failed" if failed else "running", well=False, failed=failed)


def _checks_pass(client: Nomad, allocation: dict[str, object]) -> bool:
    answer = client.client.allocation.request(str(allocation["ID"]), "checks", method="get").json()
    return all(check["Status"] == "success" for check in (answer or {}).values())
