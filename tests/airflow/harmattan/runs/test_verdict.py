"""How a run ended, by what Nomad says of it. What a real one says: test_trigger.py."""

from __future__ import annotations

from typing import Any

import pytest

from harmattan.runs import verdict

JOB: dict[str, Any] = {
    "Status": "dead",
    "Stop": False,
    "TaskGroups": [
        {
            "Tasks": [
                {"Name": "fetch", "Lifecycle": {"Hook": "prestart"}},
                {"Name": "main", "Lifecycle": None},
            ]
        }
    ],
}


def ended(code: int, signal: int = 0, **details: str) -> dict[str, Any]:
    return {"Type": "Terminated", "ExitCode": code, "Signal": signal, "Details": details}


def allocation(*events: dict[str, Any], status: str = "failed") -> dict[str, Any]:
    return {"ClientStatus": status, "TaskStates": {"main": {"Events": list(events)}}}


@pytest.mark.parametrize(
    ("event", "kind", "reason"),
    [
        (ended(0), "done", ""),
        (ended(1), "lasting", "failed for good (exit code 1)"),
        (ended(2), "lasting", "was used wrongly (exit code 2)"),
        (ended(75), "passing", "failed, and asks for another try (exit code 75)"),
        (ended(3), "passing", "was killed or broke (exit code 3)"),
        (ended(137), "passing", "was killed or broke (exit code 137)"),
        (ended(143), "passing", "was killed or broke (exit code 143)"),
        (ended(0, 9), "passing", "was killed by signal 9"),
        (ended(137, 9, oom_killed="true"), "passing", "ran out of memory"),
        (ended(1, oom_killed="true"), "passing", "ran out of memory"),
    ],
)
def test_the_exit_code_of_the_main_task_decides(
    event: dict[str, Any], kind: str, reason: str
) -> None:
    found = verdict.read(JOB, [allocation({"Type": "Started"}, event)])
    assert found is not None
    assert (found.kind, found.reason) == (kind, reason)


def test_a_job_that_has_not_ended_has_no_verdict() -> None:
    for status in ("pending", "running"):
        assert verdict.read(JOB | {"Status": status}, [allocation(ended(1))]) is None


def test_the_last_allocation_and_its_last_end_decide() -> None:
    first, again = allocation(ended(1)), allocation(ended(137), ended(0), status="complete")
    found = verdict.read(JOB, [first, again])
    assert found is not None
    assert found.kind == "done"


@pytest.mark.parametrize(
    ("job", "allocations", "kind", "reason"),
    [
        ({"Stop": True}, [allocation(ended(0), status="complete")], "lasting",
         "was stopped in Nomad"),
        ({}, [], "passing", "ended without having run"),
        ({}, [allocation({"Type": "Started"}, status="lost")], "passing",
         "was on a node that Nomad lost"),
        ({}, [allocation()], "passing", "did not start: its allocation is failed"),
        ({}, [{"ClientStatus": "failed", "TaskStates": None}], "passing",
         "did not start: its allocation is failed"),
    ],
    ids=["stopped", "never placed", "lost", "no event", "no state"],
)  # fmt: skip
def test_what_is_no_end_of_its_own(
    job: dict[str, Any], allocations: list[dict[str, Any]], kind: str, reason: str
) -> None:
    found = verdict.read(JOB | job, allocations)
    assert found is not None
    assert (found.kind, found.reason) == (kind, reason)


def test_what_did_not_start_says_what_nomad_says_last() -> None:
    states = {
        "fetch": {"Failed": True, "Events": [
            {"Time": 1, "Type": "Driver Failure", "DisplayMessage": "no such image"},
            {"Time": 2, "Type": "Not Restarting", "DisplayMessage": "Exceeded allowed attempts"},
        ]},
        "main": {"Failed": False, "Events": [
            {"Time": 3, "Type": "Sibling Task Failed", "DisplayMessage": "fetch failed"},
        ]},
    }  # fmt: skip
    found = verdict.read(JOB, [{"ClientStatus": "failed", "TaskStates": states}])
    assert found is not None
    assert found.reason == "did not start: no such image"
