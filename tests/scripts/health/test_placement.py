from __future__ import annotations

from typing import Any

import pytest

from scripts.health.placement import fits_nowhere, no_node

JOB = {"Datacenters": ["dc*"]}


def node(name: str, **more: Any) -> dict[str, Any]:
    return {
        "Name": name, "Status": "ready", "SchedulingEligibility": "eligible", "Drain": False,
        "Datacenter": "dc1", "NodePool": "default", **more,
    }  # fmt: skip


def evaluation(index: int = 1, status: str = "complete", **group: Any) -> dict[str, Any]:
    refused = {"ConstraintFiltered": None, "DimensionExhausted": None, **group}
    return {
        "ModifyIndex": index, "Status": status, "StatusDescription": "created for conflicts",
        "FailedTGAllocs": {"group": refused} if group else None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("filtered", "exhausted", "evaluated", "reason"),
    [
        ({"missing host volume": 2}, None, 2, "no node for it: missing host volume (2)"),
        ({"missing host volume": 1}, {"memory": 1}, 2, ""),  # room may come
        (None, {"memory": 1}, 1, ""),
        (None, None, 0, ""),  # nodes may come
    ],
)
def test_what_no_node_may_run_is_told_from_what_waits_for_room(
    filtered: dict[str, int] | None, exhausted: dict[str, int] | None, evaluated: int, reason: str
) -> None:
    group = {
        "ConstraintFiltered": filtered,
        "DimensionExhausted": exhausted,
        "NodesEvaluated": evaluated,
        "NodesFiltered": sum((filtered or {}).values()),
    }
    refused = {"FailedTGAllocs": {"group": group}, "ModifyIndex": 7, "Status": "complete"}
    placed = {"FailedTGAllocs": None, "ModifyIndex": 6, "Status": "complete"}
    assert fits_nowhere([refused, placed]) == reason
    assert fits_nowhere([refused, placed | {"ModifyIndex": 8}]) == ""


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        ({"ConstraintFiltered": {"missing host volume": 2}}, "missing host volume (2)"),
        ({"DimensionExhausted": {"disk": 1}}, "disk exhausted (1)"),
        (
            {"DimensionExhausted": {"network: reserved port collision http=8080": 1}},
            "network: reserved port collision http=8080 (1)",
        ),
        ({"ConstraintFiltered": {}}, "none is ready and eligible"),
    ],
)
def test_a_refusal_says_why(group: dict[str, Any], reason: str) -> None:
    assert no_node(JOB, [evaluation(**group)], [node("a")]) == f"no node for it: {reason}"


@pytest.mark.parametrize(
    ("away", "reason"),
    [
        ({"Status": "down"}, "node b is down"),
        ({"Drain": True}, "node b is drained"),
        ({"SchedulingEligibility": "ineligible"}, "node b is not eligible"),
        ({"Status": "down", "NodePool": "gpu"}, "none is ready and eligible"),
        ({"Status": "down", "Datacenter": "elsewhere"}, "none is ready and eligible"),
    ],
)
def test_a_node_that_is_away_is_named_if_the_job_may_run_there(
    away: dict[str, Any], reason: str
) -> None:
    nodes = [node("a"), node("b", **away)]
    refused = evaluation(ConstraintFiltered={})
    assert no_node(JOB, [refused], nodes) == f"no node for it: {reason}"


def test_a_node_that_was_set_up_again_is_there() -> None:
    nodes = [node("b", Status="down"), node("b")]
    assert "node b" not in no_node(JOB, [evaluation(ConstraintFiltered={})], nodes)


def test_an_evaluation_that_has_not_looked_yet_says_nothing() -> None:
    refused = evaluation(1, DimensionExhausted={"disk": 1})
    assert "disk" in no_node(JOB, [refused, evaluation(2, "pending")], [])
    assert no_node(JOB, [refused, evaluation(2)], []) == ""
    assert no_node(JOB, [], []) == ""


def test_conflicts_without_a_refusal_are_told_in_nomads_words() -> None:
    assert no_node(JOB, [evaluation(1, "blocked")], []) == "Nomad says: created for conflicts"
