"""A port that is taken, a full disk, a program that is missing, a node that is dead.

Each is named for as long as it is there, and the wait ends well once it is gone.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from scripts.health.observing import health
from scripts.health.waiting import wait
from tests.conftest import free_port
from tests.nomad.agent import running_nodes
from tests.scripts.health.running import AGAIN, FOREVER, ends_well, run, tcp_check, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripts.cluster import Nomad
    from tests.nomad.agent import Node

pytestmark = pytest.mark.programs
Cluster = tuple["Nomad", dict[str, "Node"]]
DISTINCT = {"LTarget": "", "RTarget": "true", "Operand": "distinct_hosts"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes, of which one has a small disk."""
    if os.geteuid() != 0:
        pytest.fail("Nomad's client needs root: run this test as root")
    with running_nodes(tmp_path_factory.mktemp("nomad"), {"large": None, "small": 96}) as found:
        yield found


def on(node: str) -> dict[str, Any]:
    return {"LTarget": "${node.unique.name}", "RTarget": node, "Operand": "="}


def serve(port: int) -> str:
    return f"exec python3 -m http.server --bind 127.0.0.1 {port}"


def test_a_port_that_another_program_has(cluster: Cluster) -> None:
    client, _ = cluster
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as taken:
        run(client, "blocked", serve(port), RestartPolicy=AGAIN, Constraints=[on("large")])
        ends_well(client, "blocked", taken.close, "Address already in use", "(on node large)")


def test_a_port_that_another_job_has(cluster: Cluster) -> None:
    client, _ = cluster
    port = free_port()
    here = {"Constraints": [on("large")], "Networks": tcp_check(port)["Networks"]}
    run(
        client, "first", "exec sleep 600", **here, Count=2
    )  # for both addresses of 127.0.0.1's card
    wait(client, ["first"], timeout=30, lasting=1)
    run(client, "second", "exec sleep 600", **here)

    def mend() -> None:
        client.job.deregister_job("first")

    ends_well(client, "second", mend, f"reserved port collision port={port}")


def test_a_program_that_is_missing(cluster: Cluster, tmp_path: Path) -> None:
    """Raw_exec refuses it with the kind of error with which Docker refuses a missing image.

    The first allocation is dead for good, and that is history.
    """
    client, _ = cluster
    program = tmp_path / "program"
    task = {"Config": {"command": str(program)}}
    run(client, "missing", "", ReschedulePolicy=FOREVER, task=task)

    def mend() -> None:
        program.write_text("#!/bin/sh\nexec sleep 600\n")
        program.chmod(0o755)

    ends_well(client, "missing", mend, str(program)[-20:], "(on node ")


def test_a_disk_that_is_full(cluster: Cluster) -> None:
    client, nodes = cluster
    rest = nodes["small"].data / "rest"
    for size in (1 << 16, 1):  # to the last byte: a task's files are small
        with pytest.raises(OSError, match="No space left"), rest.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(size))
    run(client, "full", "exec sleep 600", ReschedulePolicy=FOREVER, Constraints=[on("small")])
    ends_well(client, "full", rest.unlink, "no space left on device (on node small)")


def test_a_disk_that_is_too_small(cluster: Cluster) -> None:
    client, _ = cluster
    here = {"Constraints": [on("small")]}
    run(client, "large", "exec sleep 600", **here, EphemeralDisk={"SizeMB": 1000})

    def mend() -> None:
        run(client, "large", "exec sleep 600", **here, EphemeralDisk={"SizeMB": 10})

    ends_well(client, "large", mend, "disk exhausted (1)")


def test_a_dead_node_is_named_until_it_is_back(cluster: Cluster) -> None:
    client, nodes = cluster
    run(client, "everywhere", "exec sleep 600", Count=2, Constraints=[DISTINCT])
    wait(client, ["everywhere"], timeout=30, lasting=1)
    nodes["large"].die()
    until(lambda: not health(client, "everywhere").well, lambda: "its loss is not seen")
    ends_well(client, "everywhere", nodes["large"].start, "lost with node large", "large is down")


def test_another_node_takes_over_from_a_dead_one(cluster: Cluster) -> None:
    client, nodes = cluster
    run(client, "anywhere", "exec sleep 600")
    wait(client, ["anywhere"], timeout=30, lasting=1)
    (first,) = client.job.get_allocations("anywhere")
    dead = nodes[first["NodeName"]]
    dead.die()
    try:
        until(lambda: len(client.job.get_allocations("anywhere")) > 1, lambda: "it is not replaced")
        wait(client, ["anywhere"], timeout=30, lasting=1)
        (running,) = [
            each["NodeName"]
            for each in client.job.get_allocations("anywhere")
            if each["ClientStatus"] == "running"
        ]
        assert running != first["NodeName"]
    finally:
        dead.start()
