"""What a real Nomad says of jobs, and how that is judged and waited for."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from frame.failure import Failure
from scripts import deploy, jobs, launches
from scripts.access import Access
from scripts.cluster import connect
from scripts.health.observing import health, observe
from scripts.health.rules import judge
from scripts.health.waiting import wait
from scripts.repository import ROOT
from tests.conftest import free_port
from tests.nomad.agent import running_nodes
from tests.nomad.rendering import image_variables
from tests.scripts.health.running import AGAIN, FOREVER, ONCE, run, tcp_check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from scripts.cluster import Nomad
    from scripts.health.rules import Health


@pytest.fixture(scope="module")
def nomad_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nomad]:
    """A server with one client that starts plain processes."""
    if os.geteuid() != 0:
        pytest.fail("Nomad's client needs root: run this test as root")
    with running_nodes(tmp_path_factory.mktemp("nomad"), {"node": None}) as (client, _):
        yield client


def becomes(client: Nomad, job_id: str, wanted: Callable[[Health], bool]) -> Health:
    """Return the first health of a job that is as wanted."""
    last = None
    for _ in range(150):
        last = health(client, job_id)
        if wanted(last):
            return last
        time.sleep(0.2)
    pytest.fail(f"the last that was seen: {last}")


def test_an_old_failure_of_a_system_job_is_history(nomad_agent: Nomad, tmp_path: Path) -> None:
    script = f"test -e {tmp_path}/mended && exec sleep 600; exit 3"
    run(nomad_agent, "system", script, "system")
    failed = becomes(nomad_agent, "system", lambda each: "Exit Code: 3" in each.reason)
    assert not failed.well
    (tmp_path / "mended").touch()
    nomad_agent.job.evaluate_job("system")
    assert becomes(nomad_agent, "system", lambda each: each.well).state == "1/1 healthy"
    failures = [
        each
        for each in nomad_agent.job.get_allocations("system")
        if each["ClientStatus"] == "failed" and each["DesiredStatus"] == "run"
    ]
    assert failures, "Nomad still wants what failed, which is why it must not be counted"


def test_a_node_that_is_not_eligible_is_not_wanted(nomad_agent: Nomad) -> None:
    run(nomad_agent, "everywhere", "exec sleep 600", "system")
    becomes(nomad_agent, "everywhere", lambda each: each.well)
    (node,) = nomad_agent.nodes.get_nodes()
    nomad_agent.node.eligible_node(node["ID"], ineligible=True)
    try:
        assert (
            health(nomad_agent, "everywhere").state == "0/1 healthy"
        )  # no node at all is not well
    finally:
        nomad_agent.node.eligible_node(node["ID"], eligible=True)
    assert health(nomad_agent, "everywhere").well


def test_a_service_whose_check_fails_is_never_well(nomad_agent: Nomad) -> None:
    run(nomad_agent, "checked", "exec sleep 600", **tcp_check(free_port()))
    looks: list[Health] = []
    deadline = time.monotonic() + 30
    while "refused" not in (looks[-1].reason if looks else ""):
        assert time.monotonic() < deadline, looks[-1]
        looks.append(health(nomad_agent, "checked"))
    assert not any(each.well for each in looks)
    assert "the check of checked says" in looks[-1].reason


def test_a_service_whose_check_passes_becomes_well(nomad_agent: Nomad) -> None:
    port = free_port()
    run(
        nomad_agent,
        "served",
        f"exec python3 -m http.server --bind 127.0.0.1 {port}",
        **tcp_check(port),
    )
    wait(nomad_agent, ["served"], timeout=30, lasting=2)
    assert health(nomad_agent, "served").state == "1/1 healthy"


def test_a_job_that_flaps_is_never_well_for_long_and_one_that_settles_is_waited_for_again(
    nomad_agent: Nomad, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    script = f"test -e {second} && exec sleep 600; touch {second}; sleep 4; exit 1"
    said: list[str] = []
    with ThreadPoolExecutor() as pool:
        run(nomad_agent, "settles", script, RestartPolicy=AGAIN)
        settled = pool.submit(
            wait, nomad_agent, ["settles"], timeout=60, lasting=7, say=said.append
        )
        run(nomad_agent, "flaps", "sleep 3; exit 1", RestartPolicy=AGAIN)
        once = becomes(nomad_agent, "flaps", lambda each: each.well)
        assert once, "a single good look is to be had"
        with pytest.raises(Failure, match=r"flaps is 0/1 healthy"):
            wait(nomad_agent, ["flaps"], timeout=12, lasting=8)
        settled.result()
    (allocation,) = nomad_agent.job.get_allocations("settles")
    assert allocation["TaskStates"]["task"]["Restarts"] == 1
    well = [text.startswith("all 1 jobs are well") for text in said]
    assert True in well[: len(well) - 1 - well[::-1].index(False)], "well before it was not"


def test_the_error_names_every_job_that_is_not_well_and_why(nomad_agent: Nomad) -> None:
    run(nomad_agent, "good", "exec sleep 600")
    nowhere = [{"LTarget": "${attr.kernel.name}", "RTarget": "plan9", "Operand": "="}]
    run(nomad_agent, "nowhere", "exec sleep 600", Constraints=nowhere)
    task = {"Config": {"command": "/nonexistent/program"}}
    run(nomad_agent, "refused", "", ReschedulePolicy=FOREVER, task=task)
    with pytest.raises(Failure) as caught:
        wait(nomad_agent, ["good", "nowhere", "refused", "unknown"], timeout=6)
    _, *lines = caught.value.message.splitlines()
    assert re.match(r"not every job is well after \d+ s:", caught.value.message)
    assert [line.split()[0] for line in lines] == ["nowhere", "refused", "unknown"]
    assert "no node for it: ${attr.kernel.name} = plan9 (1)" in lines[0]
    assert "0/1 healthy: " in lines[1]
    assert "/nonexistent/program" in lines[1]
    assert lines[2].strip() == "unknown is absent"


def test_a_drivers_error_of_a_batch_job_that_is_tried_again_is_not_its_end(
    nomad_agent: Nomad,
) -> None:
    task = {"Config": {"command": "/nonexistent/program"}}
    run(nomad_agent, "migrate", "", "batch", ReschedulePolicy=FOREVER, task=task)
    found = becomes(nomad_agent, "migrate", lambda each: each.state.startswith("failed"))
    assert (found.state, found.failed) == ("failed, to be tried again", False)
    assert "/nonexistent/program" in found.reason
    run(nomad_agent, "no-more", "exit 4", "batch")
    becomes(nomad_agent, "no-more", lambda each: each.failed)
    with pytest.raises(Failure, match="no-more is failed: Exit Code: 4"):
        wait(nomad_agent, ["no-more"], timeout=60)


def test_a_launch_that_failed_is_not_waited_for_and_its_words_are_read(nomad_agent: Nomad) -> None:
    script = "echo the mirror is away >&2; exit 5"
    config = {"Config": {"command": "/bin/sh", "args": ["-c", script]}}
    task = {"Name": "task", "Driver": "raw_exec", "Resources": {"CPU": 20, "MemoryMB": 16}}
    group = {
        "Name": "group", "Tasks": [task | config], "RestartPolicy": ONCE,
    }  # fmt: skip
    periodic = {"Enabled": True, "SpecType": "cron", "Specs": ["0 0 1 1 *"]}
    job = {"ID": "monthly", "Type": "batch", "Datacenters": ["*"], "TaskGroups": [group]}
    nomad_agent.job.register_job("monthly", {"Job": job | {"Periodic": periodic}})
    assert health(nomad_agent, "monthly").state == "periodic 0 0 1 1 *"
    platform = Access({"NOMAD_ADDR": nomad_agent.address, "NOMAD_TOKEN": ""})
    with pytest.raises(Failure, match=r"monthly/periodic-\d+ failed\n  the mirror is away"):
        launches.finish(platform, launches.force(platform, "monthly"), timeout=30)
    found = becomes(nomad_agent, "monthly", lambda each: not each.well)
    assert found.state == "last launch failed in task"
    assert found.reason == "Exit Code: 5, after it wrote: the mirror is away (on node node)"
    wait(nomad_agent, ["monthly"], timeout=1, lasting=0)


def test_a_launch_that_does_not_end_is_seen(nomad_agent: Nomad) -> None:
    config = {"Config": {"command": "/bin/sh", "args": ["-c", "exec sleep 600"]}}
    task = {"Name": "task", "Driver": "raw_exec", "Resources": {"CPU": 20, "MemoryMB": 16}}
    group = {"Name": "group", "Tasks": [task | config], "RestartPolicy": ONCE}
    periodic = {"Enabled": True, "SpecType": "cron", "Specs": ["0 0 * * *"]}
    job = {"ID": "nightly", "Type": "batch", "Datacenters": ["*"], "TaskGroups": [group]}
    nomad_agent.job.register_job("nightly", {"Job": job | {"Periodic": periodic}})
    launches.force(Access({"NOMAD_ADDR": nomad_agent.address, "NOMAD_TOKEN": ""}), "nightly")
    seen = observe(nomad_agent, "nightly")
    assert judge("nightly", seen, time.time()).well
    later = judge("nightly", seen, time.time() + 49 * 3600)
    assert later.state == "a launch has not ended for 2 d"


def test_a_nomad_that_is_away_is_one_clear_error() -> None:
    client = connect(f"http://127.0.0.1:{free_port()}", None)
    with pytest.raises(Failure, match="Nomad did not say how its jobs are"):
        wait(client, ["redis"], timeout=1)


def test_a_job_that_was_of_another_type_is_refused_with_the_way_out(nomad_agent: Nomad) -> None:
    run(nomad_agent, "dag-mirror", "exec sleep 600", "system")
    files = [ROOT / "nomad/vars/local.hcl", image_variables()]
    with pytest.raises(Failure, match='cannot update job from type "system"') as caught:
        deploy.run(jobs.job("dag-mirror"), files, {"NOMAD_ADDR": nomad_agent.address})
    assert caught.value.hint.endswith("nomad job stop -purge dag-mirror")
