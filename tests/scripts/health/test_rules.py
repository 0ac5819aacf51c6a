from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from scripts.health.allocations import terminated
from scripts.health.rules import Observation, judge, newest_ended, oldest_unended

NOW = 1_800_000_000.0
SECOND = 1_000_000_000
PORT_TAKEN = "listen tcp4 172.17.0.1:8793: bind: address already in use"


def job(kind: str = "service", *, count: int = 1, checks: int = 1, **more: Any) -> dict[str, Any]:
    services = [{"Provider": "nomad", "Checks": [{"Name": "check"}] * checks}] if checks else None
    group = {"Name": "group", "Count": count, "Services": services, "Tasks": []}
    group |= {"Update": {"MinHealthyTime": 10 * SECOND}}
    return {
        "Stop": False, "Type": kind, "Version": 1, "Status": "running", "Datacenters": ["*"],
        "TaskGroups": [group], **more,
    }  # fmt: skip


def event(kind: str, words: str, at: int = 0) -> dict[str, Any]:
    return {"Type": kind, "DisplayMessage": words, "Time": at}


REFUSED = [
    event("Received", "Task received by client", 1),
    event("Driver Failure", f"Failed to start container {'5' * 64}:\n {PORT_TAKEN}", 2),
    event("Not Restarting", "Error was unrecoverable", 3),
]


def allocation(
    name: str = "a", status: str = "running", *, seconds: float = 60, **more: Any
) -> dict[str, Any]:
    """Return one that was made as the ``made``-th, and has been running for ``seconds``."""
    started = datetime.fromtimestamp(NOW - seconds, UTC).isoformat().replace("+00:00", "Z")
    state = {"running": "running", "pending": "pending"}.get(status, "dead")
    task = {"State": state, "Failed": status == "failed", "StartedAt": started}
    task["Events"] = more.pop("events", REFUSED if status == "failed" else [])
    made = more.pop("made", 1)
    return {
        "ID": f"{name}-{made}", "Name": f"job.group[{name}]", "TaskGroup": "group", "NodeID": name,
        "JobVersion": 1, "DesiredStatus": "run", "ClientStatus": status, "CreateIndex": made,
        "NodeName": f"node-{name}", "ClientDescription": "Failed tasks",
        "TaskStates": {"task": task}, **more,
    }  # fmt: skip


def node(name: str, **more: Any) -> dict[str, Any]:
    return {
        "ID": name, "Name": f"node-{name}", "Status": "ready", "Drain": False,
        "SchedulingEligibility": "eligible", "Datacenter": "dc1", "NodePool": "default", **more,
    }  # fmt: skip


def result(status: str = "success", output: str = "") -> dict[str, Any]:
    return {"Status": status, "Output": output, "Service": "redis"}


def seen(
    found: dict[str, Any], *allocations: dict[str, Any], checked: bool = True, **more: Any
) -> Observation:
    """Return what Nomad says; every running allocation passes its check, unless told."""
    checks = {
        each["ID"]: {"check": result()} for each in allocations if each["ClientStatus"] == "running"
    }
    return Observation(found, list(allocations), **{"checks": checks if checked else {}, **more})


OLD_FAILURE = allocation("a", "failed", made=1)
AWAY = [
    {"Status": "down"},
    {"SchedulingEligibility": "ineligible"},
    {"Drain": True},
    {"Datacenter": "elsewhere"},
    {"NodePool": "gpu"},
]


@pytest.mark.parametrize(
    ("allocations", "state", "well"),
    [
        ([], "0/1 healthy", False),
        ([allocation("a")], "1/1 healthy", True),
        ([OLD_FAILURE], "0/1 healthy", False),
        ([OLD_FAILURE, allocation("a", made=3)], "1/1 healthy", True),
        ([allocation("a", made=3), OLD_FAILURE], "1/1 healthy", True),
        ([OLD_FAILURE, allocation("a", "failed", made=2), allocation("a", made=3)],
         "1/1 healthy", True),
        ([allocation("a"), allocation("a", "failed", made=2)], "0/1 healthy", False),
        ([allocation("a"), allocation("b")], "2/2 healthy", True),
        ([allocation("a"), allocation("b", "failed")], "1/2 healthy", False),
        ([allocation("a"), allocation("b", "pending")], "1/2 healthy", False),
        # What Nomad stopped, because the node no longer fits, is not wanted.
        ([allocation("a"), allocation("b", "complete", DesiredStatus="stop")],
         "1/1 healthy", True),
        # One after another a new version takes its place; a failure of an older one is history.
        ([allocation("a"), allocation("b", JobVersion=0)], "1/2 healthy", False),
        ([allocation("a"), allocation("b", "failed", JobVersion=0)], "1/1 healthy", True),
        # A node that Nomad no longer knows.
        ([allocation("a"), allocation("gone", "lost")], "1/1 healthy", True),
    ],
)  # fmt: skip
def test_a_system_job_is_judged_by_each_nodes_newest_allocation(
    allocations: list[dict[str, Any]], state: str, well: object
) -> None:
    observed = seen(job("system"), *allocations, nodes=[node("a"), node("b")])
    found = judge("logs", observed, NOW)
    assert (found.state, found.well) == (state, well)


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("status", ["running", "failed", "lost"])
def test_a_node_that_may_not_run_it_is_not_counted(away: dict[str, Any], status: str) -> None:
    wanted = job("system", Datacenters=["dc*"])
    observed = seen(
        wanted, allocation("a"), allocation("b", status), nodes=[node("a"), node("b", **away)]
    )
    assert judge("logs", observed, NOW).state == "1/1 healthy"


def test_a_node_without_room_is_wanted_too() -> None:
    full = {
        "FailedTGAllocs": {
            "group": {"ConstraintFiltered": None, "DimensionExhausted": {"memory": 1}}
        },
        "Status": "complete",
        "ModifyIndex": 7,
    }
    observed = seen(
        job("system"), allocation("a"), nodes=[node("a")], queued=1, evaluations=[full]
    )  # fmt: skip
    found = judge("logs", observed, NOW)
    assert (found.state, found.well) == ("1/2 healthy", False)
    assert found.reason == "no node for it: memory exhausted (1)"


@pytest.mark.parametrize(
    ("results", "well", "reason"),
    [
        (None, False, "node node-a does not answer for it"),
        ({}, False, "no result of its checks yet"),
        ({"1": result()}, False, "no result of its checks yet"),
        ({"1": result(), "2": result("pending")}, False, "the check of redis says pending"),
        (
            {"1": result(), "2": result("failure", "dial tcp: connection\n refused")},
            False,
            "the check of redis says dial tcp: connection refused",
        ),
        ({"1": result(), "2": result()}, True, ""),
    ],
)
def test_every_check_that_is_declared_must_have_passed(
    results: dict[str, Any] | None, well: object, reason: str
) -> None:
    checks = {} if results is None else {"a-1": results}
    observed = seen(job(checks=2), allocation(), checks=checks)
    found = judge("redis", observed, NOW)
    assert (found.well, found.reason) == (well, reason)


@pytest.mark.parametrize(("seconds", "well"), [(0, False), (9, False), (10, True), (600, True)])
def test_without_checks_its_tasks_must_have_been_running_for_a_while(
    seconds: float, well: object
) -> None:
    observed = seen(job(checks=0), allocation(seconds=seconds))
    assert judge("redis", observed, NOW).well is well


def test_a_task_that_is_restarted_is_not_running_beside_its_siblings() -> None:
    one = allocation()
    one["TaskStates"]["other"] = {**one["TaskStates"]["task"], "State": "pending"}
    assert not judge("redis", seen(job(checks=0), one), NOW).well


@pytest.mark.parametrize(
    ("count", "allocations", "state", "well"),
    [
        (1, [], "0/1 healthy", False),
        (1, [allocation(made=1, status="failed", DesiredStatus="stop"), allocation(made=2)],
         "1/1 healthy", True),
        (2, [allocation("a")], "1/2 healthy", False),
        (2, [allocation("a"), allocation("b")], "2/2 healthy", True),
        (1, [allocation("a", JobVersion=0)], "0/1 healthy", False),
        (0, [], "0/0 healthy", True),
        # A node that came back: Nomad ends one of the two.
        (1, [allocation("a", made=1), allocation("a", made=2)], "1/1 healthy", True),
    ],
)  # fmt: skip
def test_a_service_is_judged_by_each_instances_newest_allocation(
    count: int, allocations: list[dict[str, Any]], state: str, well: object
) -> None:
    found = judge("redis", seen(job(count=count), *allocations), NOW)
    assert (found.state, found.well) == (state, well)


def test_the_drivers_own_words_are_the_reason() -> None:
    found = judge("redis", seen(job(), allocation(status="failed")), NOW)
    assert found.reason == f"Failed to start container {'5' * 12}: {PORT_TAKEN} (on node node-a)"
    assert str(found) == f"redis is 0/1 healthy: {found.reason}"


def test_one_that_was_just_placed_again_has_its_predecessors_reason() -> None:
    again = allocation(status="pending", made=2, events=[event("Received", "by client", 9)])
    before = allocation(status="failed", DesiredStatus="stop")
    assert PORT_TAKEN in judge("redis", seen(job(), before, again), NOW).reason


def test_one_that_never_came_to_its_tasks_has_its_nodes_words() -> None:
    full = allocation(status="failed", events=[], ClientDescription="no space left on device")
    reason = judge("redis", seen(job(), full), NOW).reason
    assert reason == "no space left on device (on node node-a)"


def test_a_dead_node_is_the_reason_and_not_what_happened_on_it_before() -> None:
    failed = allocation(status="failed", DesiredStatus="stop")
    lost = allocation(status="lost", made=2, DesiredStatus="stop")
    assert judge("redis", seen(job(), failed, lost), NOW).reason == (
        "lost with node node-a; not placed"
    )


def test_an_exit_code_comes_with_the_last_line() -> None:
    ended = [event("Terminated", "Exit Code: 3", 1), event("Restarting", "in 15s", 2)]
    one = allocation(status="pending", events=ended)
    written = {"a-1": "the database is away"}
    reason = judge("redis", seen(job(), one, written=written), NOW).reason
    assert reason == "Exit Code: 3, after it wrote: the database is away (on node node-a)"
    assert terminated(one) == "task"
    assert terminated(allocation(status="failed")) is None


@pytest.mark.parametrize(
    ("status", "version", "allocations", "state", "failed"),
    [
        ("failed", 1, [allocation(status="failed")], "not deployed", True),
        ("failed", 1, [], "not deployed", True),
        ("failed", 0, [allocation(status="failed")], "0/1 healthy", False),
        ("running", 1, [allocation(status="failed")], "0/1 healthy", False),
        # It still runs, and may become well; and one that did is well whatever was said before.
        ("failed", 1, [allocation(status="pending")], "0/1 healthy", False),
        ("failed", 1, [allocation()], "1/1 healthy", False),
    ],
)
def test_a_failed_deployment_ends_what_is_not_running(
    status: str, version: int, allocations: list[dict[str, Any]], state: str, failed: object
) -> None:
    deployment = {"Status": status, "JobVersion": version}
    found = judge("redis", seen(job(), *allocations, deployment=deployment), NOW)
    assert (found.state, found.failed) == (state, failed)


UNLIMITED = {"ReschedulePolicy": {"Unlimited": True}}


@pytest.mark.parametrize(
    ("allocations", "status", "policy", "state", "failed"),
    [
        ([], "pending", {}, "waiting", False),
        ([allocation()], "running", {}, "running", False),
        ([allocation(status="complete")], "dead", {}, "complete", False),
        ([allocation(status="failed"), allocation(status="complete", made=2)], "dead", {},
         "complete", False),
        ([allocation(status="complete"), allocation(status="failed", made=2)], "dead", {},
         "failed", True),
        ([allocation(status="failed")], "dead", {}, "failed", True),
        ([allocation(status="failed")], "pending", {}, "failed, to be tried again", False),
        ([allocation(status="failed")], "dead", UNLIMITED, "failed, to be tried again", False),
        ([allocation(status="failed", JobVersion=0)], "pending", {}, "waiting", False),
    ],
)  # fmt: skip
def test_a_batch_job_is_judged_by_its_newest_try(
    allocations: list[dict[str, Any]], status: str, policy: Any, state: str, failed: object
) -> None:
    batch = job("batch", Status=status)
    batch["TaskGroups"][0] |= policy
    found = judge("airflow-migrate", seen(batch, *allocations), NOW)
    assert (found.state, found.failed, found.well) == (state, failed, state == "complete")


def launched(**failed: bool) -> dict[str, Any]:
    states = {task: {"Failed": each, "Events": REFUSED} for task, each in failed.items()}
    return {**allocation(), "TaskStates": states}


@pytest.mark.parametrize(
    ("allocations", "well"),
    [
        ([], True),
        ([launched(fetch=False, judge=False)], True),
        ([launched(fetch=True)], False),
        ([launched(fetch=False, judge=True)], True),
        ([launched(fetch=True), {**launched(fetch=False), "CreateIndex": 2}], True),
    ],
)
def test_a_periodic_job_is_as_well_as_its_last_launch(
    allocations: list[dict[str, Any]], well: object
) -> None:
    periodic = job("batch", Periodic={"Specs": ["*/5 * * * *"]})
    found = judge("dag-sync", seen(periodic, *allocations), NOW)
    assert found.well is well
    assert well or (found.deployed and PORT_TAKEN in found.reason)


@pytest.mark.parametrize(
    ("hours", "schedule", "well"),
    [
        (1, "40 3 * * *", True),
        (23, "40 3 * * *", True),
        (49, "40 3 * * *", False),
        (1, "*/5 * * * *", False),
    ],
)
def test_a_launch_that_has_not_ended_when_two_others_were_due_is_not_well(
    hours: float, schedule: str, well: object
) -> None:
    now = datetime(2027, 1, 15, 3, 41, tzinfo=UTC).timestamp()
    periodic = job("batch", Periodic={"Specs": [schedule]})
    missing = allocation("a", "pending", events=[event("Template", "Missing: vault.read(x)")])
    observed = seen(periodic, unended=now - hours * 3600, unended_allocations=[missing])
    found = judge("airflow-clean", observed, now)
    assert found.well is well
    if not well:
        assert "a launch has not ended for" in found.state
        assert found.reason == "Missing: vault.read(x) (on node node-a)"
        assert found.deployed


@pytest.mark.parametrize(
    ("launches", "newest"),
    [
        ({}, None),
        ({"sync/periodic-1": "running"}, None),
        ({"sync/periodic-9": "running", "sync/periodic-8": "dead"}, "sync/periodic-8"),
        ({"sync/periodic-9": "dead", "sync/periodic-10": "dead"}, "sync/periodic-10"),
    ],
)
def test_the_newest_launch_that_ended_counts(launches: dict[str, str], newest: str | None) -> None:
    assert newest_ended({"ID": id_, "Status": each} for id_, each in launches.items()) == newest


def test_the_oldest_launch_that_did_not_end_counts() -> None:
    states = {
        "sync/periodic-10": "running",
        "sync/periodic-9": "pending",
        "sync/periodic-8": "dead",
    }
    launches = [{"ID": id_, "Status": each} for id_, each in states.items()]
    assert oldest_unended(launches) == "sync/periodic-9"
    assert oldest_unended(launches[2:]) is None


def test_a_job_that_is_not_there_or_stopped_or_waits_for_a_dispatch() -> None:
    assert judge("a", Observation(None), NOW).state == "absent"
    stopped = judge("a", seen(job(Stop=True), allocation()), NOW)
    assert (stopped.state, stopped.well) == ("stopped", False)
    assert judge("a", seen(job("batch", ParameterizedJob={"Payload": "forbidden"})), NOW).well
