"""A Nomad of the test run's own with the namespace `runs`, and a job in it that runs scripts."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import requests

from harmattan.pipelines import META
from scripts import nomad_setup
from scripts.jobs import Namespaces
from tests.nomad.agent import running_servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.nomad.agent import Servers

JOB = "script"
SECOND = 1_000_000_000


def job(job_id: str = JOB, **group: Any) -> dict[str, Any]:
    """Return a job that runs what the meta `script` says, once."""
    task = {
        "Name": "main", "Driver": "raw_exec", "KillTimeout": SECOND,
        "Config": {"command": "/bin/sh", "args": ["-c", 'eval "$NOMAD_META_script"']},
        "Resources": {"CPU": 20, "MemoryMB": 16},
    }  # fmt: skip
    made = {
        "Name": "group", "Count": 1, "Tasks": [task],
        "RestartPolicy": {"Attempts": 0, "Mode": "fail"},
        "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
        **group,
    }  # fmt: skip
    return {
        "ID": job_id, "Name": job_id, "Type": "batch", "Datacenters": ["*"],
        "TaskGroups": [made], "Namespace": "runs",
        "ParameterizedJob": {
            "Payload": "forbidden", "MetaRequired": ["script"], "MetaOptional": ["name", *META],
        },
    }  # fmt: skip


@dataclass(frozen=True)
class Cluster:
    """``token`` is that of the triggerer, ``management`` may do all."""

    address: str
    management: str
    token: str
    servers: Servers

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes; none while Nomad cannot say."""
        try:
            answer = self.api("GET", "nodes")
        except requests.ConnectionError:
            return []
        return list(answer.json()) if answer.ok else []

    def api(
        self, method: str, path: str, body: object = None, /, *, token: str = "", **params: str
    ) -> requests.Response:
        """Ask Nomad with the token of the management, or another."""
        return requests.request(
            method, f"{self.address}/v1/{path}", json=body, params=params, timeout=30,
            headers={"X-Nomad-Token": token or self.management},
        )  # fmt: skip

    def register(self, spec: dict[str, Any]) -> None:
        """Register a job."""
        self.api("PUT", "jobs", {"Job": spec}).raise_for_status()

    def children(self, job_id: str = JOB) -> list[dict[str, Any]]:
        """Return the runs of a job, oldest first."""
        answer = self.api(
            "GET", "jobs", namespace="runs", prefix=f"{job_id}/dispatch-", meta="true"
        )
        return sorted(answer.json(), key=lambda each: each["CreateIndex"])


@contextmanager
def running(home: Path) -> Iterator[Cluster]:
    """Run a Nomad of three servers that has the job, and the policy of nomad/acl.

    Its address is that of a client, which asks whichever server is there.
    """
    with running_servers(home) as servers:
        yield _prepared(Cluster(servers.address, servers.token, "", servers))


def _prepared(bare: Cluster) -> Cluster:
    """Give a Nomad what its users need."""
    until(lambda: any(n["Status"] == "ready" for n in bare.nodes()))
    bare.api("PUT", "namespace/runs", {"Name": "runs"}).raise_for_status()
    rules = nomad_setup.rules("runs", Namespaces())
    bare.api("PUT", "acl/policy/runs", {"Name": "runs", "Rules": rules}).raise_for_status()
    made = bare.api("PUT", "acl/token", {"Type": "client", "Policies": ["runs"]})
    cluster = replace(bare, token=made.json()["SecretID"])
    cluster.register(job())
    return cluster


def until(found: Callable[[], Any], seconds: float = 120) -> Any:
    """Return the first true value of ``found``; the limit is for a machine with other work."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)
    return value
