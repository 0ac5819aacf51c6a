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
from tests.scripts.health.running import (
    AGAIN,
    FOREVER,
    all_end_well,
    ends_well,
    run,
    tcp_check,
    until,
)

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


def test_a_port_a_program_and_a_disk_are_named_until_they_are_to_be_had(
    cluster: Cluster, tmp_path: Path
) -> None:
    """A port that a program has and one that a job has; no program; a disk full, one too small.

    Raw_exec refuses the program with the kind of error with which Docker refuses a missing image.
    Its first allocation is dead for good, and that is history.
    """
    client, nodes = cluster
    port, reserved, program = free_port(), free_port(), tmp_path / "program"
    small = {"Constraints": [on("small")]}
    here = {"Constraints": [on("large")], "Networks": tcp_check(reserved)["Networks"]}
    run(
        client, "first", "exec sleep 600", **here, Count=2
    )  # for both addresses of 127.0.0.1's card
    wait(client, ["first"], timeout=30, lasting=1)
    rest = nodes["small"].data / "rest"
    for size in (1 << 16, 1):  # to the last byte: a task's files are small
        with pytest.raises(OSError, match="No space left"), rest.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(size))
    with socket.create_server(("127.0.0.1", port)) as taken:
        run(client, "blocked", serve(port), RestartPolicy=AGAIN, Constraints=[on("large")])
        run(client, "second", "exec sleep 600", **here)
        task = {"Config": {"command": str(program)}}
        run(client, "missing", "", ReschedulePolicy=FOREVER, task=task, Constraints=[on("large")])
        run(client, "full", "exec sleep 600", ReschedulePolicy=FOREVER, **small)
        run(client, "wide", "exec sleep 600", **small, EphemeralDisk={"SizeMB": 1000})

        def mend() -> None:
            taken.close()
            client.job.deregister_job("first")
            program.write_text("#!/bin/sh\nexec sleep 600\n")
            program.chmod(0o755)
            rest.unlink()
            run(client, "wide", "exec sleep 600", **small, EphemeralDisk={"SizeMB": 10})

        all_end_well(
            client,
            {
                "blocked": ["Address already in use", "(on node large)"],
                "second": [f"reserved port collision port={reserved}"],
                "missing": [str(program)[-20:], "(on node large)"],
                "full": ["no space left on device (on node small)"],
                "wide": ["disk exhausted (1)"],
            },
            mend,
            seconds=60,
        )


def test_a_dead_node_is_named_until_it_is_back_and_another_takes_over_from_it(
    cluster: Cluster,
) -> None:
    client, nodes = cluster
    run(client, "everywhere", "exec sleep 600", Count=2, Constraints=[DISTINCT])
    run(client, "anywhere", "exec sleep 600")
    wait(client, ["everywhere", "anywhere"], timeout=30, lasting=1)
    (first,) = client.job.get_allocations("anywhere")
    name = first["NodeName"]
    nodes[name].die()
    try:
        until(lambda: not health(client, "everywhere").well, lambda: "its loss is not seen")
        until(lambda: len(client.job.get_allocations("anywhere")) > 1, lambda: "it is not replaced")
        wait(client, ["anywhere"], timeout=30, lasting=1)
        (running,) = [
            each["NodeName"]
            for each in client.job.get_allocations("anywhere")
            if each["ClientStatus"] == "running"
        ]
        assert running != name
    finally:
        ends_well(
            client, "everywhere", nodes[name].start, f"lost with node {name}", f"{name} is down"
        )
