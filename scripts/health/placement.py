"""Why Nomad finds no node for a job. Pure: evaluations and nodes are as its API answers."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


def may_run(job: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Tell whether ``node`` takes work now, and is of the job's datacenters and pool."""
    return _is_meant(job, node) and not _away(node)


def fits_nowhere(evaluations: Iterable[Mapping[str, Any]]) -> str:
    """Return why no node may run what was evaluated last; "" if one may, full as it may be."""
    refused = _refused(_latest(evaluations))
    ruled_out = [each for each in refused if 0 < each["NodesEvaluated"] == each["NodesFiltered"]]
    return f"no node for it: {', '.join(_why(refused))}" if ruled_out else ""


def no_node(
    job: Mapping[str, Any],
    evaluations: Iterable[Mapping[str, Any]],
    nodes: Sequence[Mapping[str, Any]],
) -> str:
    """Return why the newest evaluation found no node, with the nodes that are away; "" if it did.

    A node that was set up again is another one for Nomad, which still knows the old one.
    """
    latest = _latest(evaluations)
    refused = _refused(latest)
    if not refused:
        conflict = latest["Status"] in {"failed", "blocked"}
        return f"Nomad says: {latest['StatusDescription']}" if conflict else ""
    there = {node["Name"] for node in nodes if not _away(node)}
    away = [
        f"node {node['Name']} {_away(node)}"
        for node in nodes
        if _is_meant(job, node) and node["Name"] not in there
    ]
    reasons = [*_why(refused), *away] or ["none is ready and eligible"]
    return f"no node for it: {', '.join(dict.fromkeys(reasons))}"


def _latest(evaluations: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the newest evaluation that has looked: one that waits for its turn has not yet."""
    looked = [each for each in evaluations if each["Status"] != "pending"]
    nothing = {"Status": "complete", "FailedTGAllocs": None}
    return max(looked, key=lambda each: int(each["ModifyIndex"]), default=nothing)


def _refused(evaluation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what an evaluation says of each group that it could not place."""
    return list((evaluation.get("FailedTGAllocs") or {}).values())


def _why(refused: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for group in refused:
        for why, nodes in (group["ConstraintFiltered"] or {}).items():
            yield f"{why} ({nodes})"
        for why, nodes in (group["DimensionExhausted"] or {}).items():
            # A port says itself who it collides with.
            yield f"{why if ':' in why else f'{why} exhausted'} ({nodes})"


def _is_meant(job: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    pool = job.get("NodePool") or "default"
    return pool in {"all", node.get("NodePool") or "default"} and any(
        fnmatchcase(node["Datacenter"], each) for each in job["Datacenters"]
    )


def _away(node: Mapping[str, Any]) -> str:
    """Return why a node takes no work, "" if it does."""
    if node["Status"] != "ready":
        return f"is {node['Status']}"
    if node["Drain"]:
        return "is drained"
    return "" if node["SchedulingEligibility"] == "eligible" else "is not eligible"
