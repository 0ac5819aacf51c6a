"""Two environments beside each other on one Nomad and one Vault: neither touches the other."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hvac
import hvac.exceptions
import pytest

from scripts import deploy, nomad_setup, vault_setup
from scripts.cluster import Nomad, NotFound, connect
from scripts.jobs import Namespaces, namespaces, platform, runs
from scripts.repository import ROOT
from tests.nomad.agent import Server, running_cluster
from tests.nomad.rendering import DEPLOYMENTS, PLATFORM, image_variables, rendered
from tests.vault_policies.server import VaultServer, running_vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.programs

PRODUCTION = ROOT / "nomad/vars/production.hcl"
STAGING = ROOT / "nomad/vars/staging.hcl"
LOGIN = "jwt-school"
MOUNT = "secret"
# The jobs' own: what a task of theirs reads with each role.
SECRET = "redis/worker-analysts"  # noqa: S105
CONNECTION = "connections/analysts/warehouse"
WORKER = "airflow-worker-analysts"


def environment(variables: Path) -> str:
    return variables.stem


@dataclass
class World:
    """One Nomad and one Vault, with both environments set up in them."""

    server: Server
    vault: VaultServer

    def nomad(self, variables: Path) -> Nomad:
        """Return a client that asks for an environment's jobs, with all rights."""
        places = namespaces([variables])
        return connect(self.server.address, self.server.token, namespace=places.jobs)

    def set_up(self, variables: Path) -> None:
        """Do what an operator does before the first deployment."""
        name, places = environment(variables), namespaces([variables])
        nomad_setup.set_up(
            connect(self.server.address, self.server.token), environment=name, namespaces=places
        )
        client = self.vault.client()
        vault_setup.set_up(
            client, mount=MOUNT, environment=name, login=LOGIN, namespaces=places,
            jwks_url=f"{self.server.address}/.well-known/jwks.json",
        )  # fmt: skip
        for path in (SECRET, CONNECTION):
            client.secrets.kv.v2.create_or_update_secret(
                f"{name}/{path}", {"of": name}, mount_point=MOUNT
            )

    def state(self, variables: Path) -> dict[str, Any]:
        """Return all that Nomad and Vault have of an environment."""
        name, places = environment(variables), namespaces([variables])
        nomad, client = self.nomad(variables), self.vault.client()
        policies = client.sys.list_policies()["data"]["keys"]
        names = client.auth.jwt.list_roles(path=LOGIN)["data"]["keys"]
        return {
            "login": client.auth.jwt.read_config(path=LOGIN)["data"],
            "policies": {
                each: client.sys.read_policy(each)["data"]["rules"]
                for each in policies
                if each.startswith(f"{name}-")
            },
            "roles": {
                each: client.auth.jwt.read_role(each, path=LOGIN)["data"]
                for each in names
                if each.startswith(f"{name}-")
            },
            "namespaces": [nomad.namespace.get_namespace(each) for each in (places.jobs, places.runs)],
            "Nomad's policies": [
                nomad.acl.get_policy(nomad_setup.policy_name(name, each))
                for each in (*nomad_setup.PEOPLE, *nomad_setup.TASKS)
            ],
            "jobs": {
                (job["Namespace"], job["ID"]): job["JobModifyIndex"]
                for place in (places.jobs, places.runs)
                for job in nomad.jobs.get_jobs(namespace=place)
            },
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Both environments, set up one after the other."""
    with running_vault() as vault:
        home = tmp_path_factory.mktemp("nomad")
        with running_cluster(home, vault=vault.address, login=LOGIN) as server:
            both = World(server, vault)
            both.set_up(PRODUCTION)
            both.set_up(STAGING)
            yield both


def test_setting_up_and_deploying_one_changes_nothing_of_the_other(world: World) -> None:
    """All jobs of both are registered in one Nomad, as `make deploy` does it."""
    token = {"NOMAD_ADDR": world.server.address, "NOMAD_TOKEN": world.server.token}

    def deployed(variables: Path) -> None:
        for each in [*platform(), *runs()]:
            deploy.run(each, [variables, image_variables()], token)

    deployed(PRODUCTION)
    before = world.state(PRODUCTION)
    world.set_up(STAGING)
    deployed(STAGING)
    assert world.state(PRODUCTION) == before
    for variables in (PRODUCTION, STAGING):
        found = {job_id for _, job_id in world.state(variables)["jobs"]}
        assert found == set(PLATFORM)


def worker(variables: Path, role_of: Path) -> dict[str, Any]:
    """Return the worker's job of an environment as a plain process, with a role of ``role_of``'s.

    It has what the job file's task has of Vault: a template, and an identity of its own.
    """
    name, other = environment(variables), environment(role_of)
    (declared,) = [
        each
        for group in rendered(WORKER, variables)["TaskGroups"]
        for each in group["Tasks"]
        if each["Name"] == "worker"
    ]
    task = {
        "Name": "worker", "Driver": "raw_exec", "User": "root",
        "Config": {"command": "/bin/sleep", "args": ["600"]},
        "Vault": {**declared["Vault"], "Role": f"{other}-{WORKER}"},
        "Identities": declared["Identities"],
        "Templates": [{
            "DestPath": "${NOMAD_SECRETS_DIR}/read",
            "EmbeddedTmpl": f'{{{{ with secret "{MOUNT}/data/{other}/{SECRET}" }}}}'
                            "{{ .Data.data.of }}{{ end }}",
        }],
        "Resources": {"CPU": 50, "MemoryMB": 32},
    }  # fmt: skip
    never = {"Attempts": 0, "Mode": "fail"}
    return {"Job": {
        "ID": WORKER, "Name": WORKER, "Type": "batch", "Datacenters": ["*"],
        "Namespace": namespaces([variables]).jobs,
        "TaskGroups": [{
            "Name": "worker", "Tasks": [task], "RestartPolicy": never,
            "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
        }],
    }}  # fmt: skip


def started(world: World, variables: Path, role_of: Path) -> dict[str, Any]:
    """Run the worker's job in an environment's namespace, and return its allocation in the end."""
    nomad = world.nomad(variables)
    with contextlib.suppress(NotFound):
        nomad.job.deregister_job(WORKER, purge=True)
    nomad.job.register_job(WORKER, worker(variables, role_of))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for each in nomad.job.get_allocations(WORKER):
            if each["JobVersion"] == 0 and each["ClientStatus"] in {"running", "failed"}:
                if each["DesiredStatus"] == "run" or each["ClientStatus"] == "failed":
                    return each
        time.sleep(0.2)
    raise TimeoutError(json.dumps(nomad.job.get_evaluations(WORKER)))
