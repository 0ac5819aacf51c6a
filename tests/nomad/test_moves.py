"""Redis on another node: its clients find it there, by the templates of their job files."""

from __future__ import annotations

import os
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.nomad.agent import running_nodes
from tests.nomad.rendering import tasks
from tests.scripts.health.running import AGAIN, FOREVER, run, until

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.cluster import Nomad

pytestmark = pytest.mark.programs

ANYWHERE_ELSE = {"LTarget": "${node.unique.name}", "RTarget": "clients", "Operand": "!="}
CLIENTS = {**ANYWHERE_ELSE, "Operand": "="}


def template(password: str) -> dict[str, Any]:
    """Return how the scheduler finds the broker, with a ``password`` in place of Vault's answer."""
    (found,) = [
        each
        for task in tasks("airflow-scheduler")
        for each in task["Templates"] or []
        if each["DestPath"].endswith("/broker_url")
    ]
    text, count = re.subn(r"\{\{ with secret .*?\{\{ end \}\}", password, found["EmbeddedTmpl"])
    assert count == 1
    return {**found, "EmbeddedTmpl": text, "Uid": 0, "Gid": 0}


def test_redis_that_loses_its_node_is_found_on_another_and_what_is_sent_again_is_there(
    tmp_path: Path,
) -> None:
    """The client sends when it starts; Nomad starts it again with the address that is new."""
    if os.geteuid() != 0:
        pytest.fail("Nomad's client needs root: run this test as root")
    password = secrets.token_urlsafe(8)
    user = f"--user scheduler on '>{password}' '~*' '+@all'"
    with running_nodes(tmp_path, {"one": None, "two": None, "clients": None}) as (nomad, nodes):
        service = {"Name": "redis", "Provider": "nomad", "PortLabel": "broker"}
        run(
            nomad, "redis", f'exec redis-server --port $NOMAD_PORT_broker --save "" {user}',
            Constraints=[ANYWHERE_ELSE], ReschedulePolicy=FOREVER, Services=[service],
            Networks=[{"Mode": "host", "DynamicPorts": [{"Label": "broker"}]}],
        )  # fmt: skip
        first = address(nomad, "redis")
        send = 'redis-cli -u "$(cat $NOMAD_SECRETS_DIR/broker_url)" lpush analysts task'
        run(
            nomad, "client", f"{send} && exec sleep 600", Constraints=[CLIENTS],
            RestartPolicy=AGAIN, task={"Templates": [template(password)]},
        )  # fmt: skip
        until(lambda: queued(first, password) == 1, lambda: "nothing was sent")
        (running,) = [each["NodeName"] for each in nomad.job.get_allocations("redis")]
        nodes[running].die()
        lost = time.monotonic()

        def moved() -> bool:
            ports = {address(nomad, "redis")} - {first}
            return any(queued(port, password) == 1 for port in ports)

        until(moved, lambda: nomad.job.get_allocations("client"), seconds=60)
        assert time.monotonic() - lost < 60

        def events() -> list[str]:
            (client,) = nomad.job.get_allocations("client")
            return [each["Type"] for each in client["TaskStates"]["task"]["Events"]]

        until(lambda: "Restart Signaled" in events(), events)  # the server hears of it a bit later


def address(nomad: Nomad, job_id: str) -> int:
    """Return the port of the job's newest allocation, when it runs."""
    port = 0

    def runs() -> bool:
        nonlocal port
        for each in nomad.job.get_allocations(job_id):
            if each["ClientStatus"] == "running" and each["DesiredStatus"] == "run":
                found = nomad.allocation.get_allocation(each["ID"])
                (shared,) = found["AllocatedResources"]["Shared"]["Ports"]
                port = shared["Value"]
        return bool(port)

    until(runs, lambda: nomad.job.get_evaluations(job_id), seconds=60)
    return port


def queued(port: int, password: str) -> int:
    """Return how many messages a broker has; -1 if it does not answer."""
    try:
        client = redis.Redis("127.0.0.1", port, username="scheduler", password=password)
        return int(client.llen("analysts"))
    except redis.RedisError:
        return -1
