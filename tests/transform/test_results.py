"""Which marts are sound, by what dbt wrote of models and tests."""

from __future__ import annotations

from typing import Any

import pytest

from transform.results import marts, may_pass


def node(name: str, kind: str = "model", *needs: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "alias": name, "resource_type": kind, "depends_on": {"nodes": [*needs]},
        "config": {"materialized": "table"}, **more,
    }  # fmt: skip


MANIFEST = {
    "nodes": {
        "a": node("a"),
        "b": node("b", "model", "a"),
        "hidden": node("hidden", config={"materialized": "ephemeral"}),
        "test_a": node("test_a", "test", "a"),
        "both": node("both", "test", "a", "b"),
        "seed": node("seed", "seed"),
    },
    "unit_tests": {"unit": node("unit", "unit_test", "b")},
}


def results(**statuses: str) -> dict[str, Any]:
    all_good = {
        "a": "success", "b": "success", "test_a": "pass", "both": "pass", "unit": "pass",
    } | statuses  # fmt: skip
    return {
        "results": [
            {"unique_id": name, "status": status, "message": f"{name}\n  said", "execution_time": 2}
            for name, status in all_good.items()
            if status
        ]
    }


@pytest.mark.parametrize(
    ("statuses", "faults"),
    [
        ({}, {"a": [], "b": []}),
        ({"test_a": "warn"}, {"a": [], "b": []}),
        ({"test_a": "fail"}, {"a": ["test_a: fail"], "b": []}),
        ({"both": "fail"}, {"a": ["both: fail"], "b": ["both: fail"]}),
        ({"unit": "error"}, {"a": [], "b": ["unit: error"]}),
        ({"both": "skipped"}, {"a": ["both: skipped"],
                               "b": ["both: skipped"]}),
        ({"b": "", "unit": ""}, {"a": [], "b": ["b: did not run", "unit: did not run"]}),
        ({"a": "partial success"}, {"a": ["a: partial success"], "b": []}),
    ],
)  # fmt: skip
def test_a_mart_is_sound_if_it_and_every_test_of_it_passed(
    statuses: dict[str, str], faults: dict[str, list[str]]
) -> None:
    found = marts(MANIFEST, results(**statuses))
    assert {mart.name: [str(fault) for fault in mart.faults] for mart in found} == faults
    assert found[0].seconds == 2


def test_what_could_not_be_published_or_would_take_the_journals_place_is_no_sound_mart() -> None:
    nodes = {
        "a": node("a", config={"materialized": "incremental"}),
        "b": node("published_marts"),
        "c": node("c", config={"materialized": "view"}),
    }
    found = marts({"nodes": nodes}, results())
    assert {mart.name: [str(fault) for fault in mart.faults] for mart in found} == {
        "a": ["a: is materialized as incremental, and only tables are published"],
        "published_marts": ["published_marts: has a name that is the platform's"],
    }


def test_only_an_error_may_pass_when_it_is_tried_again() -> None:
    assert may_pass(results(b="error"))
    assert not may_pass(results(test_a="fail", b="skipped"))
