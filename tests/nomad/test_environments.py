"""Two environments beside each other on one Nomad and one Vault: neither touches the other."""

from __future__ import annotations

import copy
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hvac
import hvac.exceptions
import pytest

from scripts import deploy, nomad_setup, vault_setup
from scripts.cluster import Nomad, NomadError, connect
from scripts.jobs import namespaces, platform, runs
from scripts.repository import ROOT
from scripts.tools import NOMAD, VAULT, ensure
from tests.nomad.agent import Node, Server, running_cluster
from tests.nomad.rendering import PLATFORM, image_variables, rendered
from tests.pages import block, desk
from tests.vault_policies.server import VaultServer, running_vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.programs

PRODUCTION = ROOT / "nomad/vars/production.hcl"
STAGING = ROOT / "nomad/vars/staging.hcl"
LOGIN = "jwt-school"
MOUNT = "secret"
# The jobs' own: what a task of theirs reads with each role.
SECRET = "redis/worker-analysts"  # noqa: S105 - a path
CONNECTION = "connections/analysts/warehouse"
WORKER = "airflow-worker-analysts"


def environment(variables: Path) -> str:
    return variables.stem


@dataclass
class World:
    """One Nomad and one Vault, with both environments set up in them."""

    server: Server
    node: Node
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
            "namespaces": [
                nomad.namespace.get_namespace(each) for each in (places.jobs, places.runs)
            ],
            "Nomad's policies": [
                nomad.acl.get_policy(nomad_setup.policy_name(name, each))
                for each in (*nomad_setup.PEOPLE, *nomad_setup.TASKS)
            ],
            "jobs": {
                (job["Namespace"], job["ID"]): job["JobModifyIndex"]
                for place in (places.jobs, places.runs)
                for job in nomad.jobs.get_jobs(namespace=place)
                if "/periodic-" not in job["ID"]  # a launch by the clock
            },
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Both environments, set up one after the other."""
    with running_vault() as vault:
        home = tmp_path_factory.mktemp("nomad")
        with running_cluster(home, vault=vault.address, login=LOGIN) as (server, node):
            both = World(server, node, vault)
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
        job_ids = {job_id for _, job_id in world.state(variables)["jobs"]}
        assert job_ids == set(PLATFORM)


def worker(variables: Path, role_of: Path) -> dict[str, Any]:
    """Return the worker's job of an environment as a plain process, with a role of ``role_of``'s.

    It has what the job file's task has of Vault: a template, and an identity of its own.
    """
    other = environment(role_of)
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
        "ID": WORKER, "Name": WORKER, "Type": "service", "Datacenters": ["*"],
        "Namespace": namespaces([variables]).jobs,
        "TaskGroups": [{
            "Name": "worker", "Tasks": [task], "RestartPolicy": never,
            "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
        }],
    }}  # fmt: skip


@pytest.fixture
def start(world: World) -> Iterator[Callable[..., dict[str, Any]]]:
    """Run the worker's job in an environment's namespace; return its allocation in the end."""
    used = []

    def started(variables: Path, role_of: Path) -> dict[str, Any]:
        nomad = world.nomad(variables)
        used.append(nomad)
        nomad.job.register_job(WORKER, worker(variables, role_of))
        return found(nomad, WORKER, "running", "failed")

    yield started
    for nomad in used:
        nomad.job.deregister_job(WORKER, purge=True)
    used[0].system.initiate_garbage_collection()


def found(nomad: Nomad, job_id: str, *states: str) -> dict[str, Any]:
    """Return an allocation of a job that is in one of these states, within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for each in nomad.job.get_allocations(job_id):
            if each["ClientStatus"] in states:
                return each  # type: ignore[no-any-return]
        time.sleep(0.2)
    raise TimeoutError(json.dumps(nomad.job.get_evaluations(job_id)))


def folder(world: World, allocation: dict[str, Any], task: str = "worker") -> Path:
    """Return where Nomad keeps the task of an allocation."""
    return world.node.data / "alloc" / allocation["ID"] / task


def test_a_task_reads_its_own_environments_secrets_and_none_of_the_others(
    world: World, start: Callable[..., dict[str, Any]]
) -> None:
    """With identities that Nomad signed, for jobs of one id in two namespaces."""
    tokens = {}
    for variables, other in ((PRODUCTION, STAGING), (STAGING, PRODUCTION)):
        own, others = environment(variables), environment(other)
        task = folder(world, start(variables, role_of=variables))
        assert (task / "secrets/read").read_text() == own
        tokens[own] = (task / "private/vault_token").read_text()
        identity = (task / "secrets/nomad_connections.jwt").read_text()
        client = world.vault.client("none")
        answer = client.auth.jwt.jwt_login(f"{own}-{WORKER}-connections", identity, path=LOGIN)
        assert answer["auth"]["lease_duration"] == 300
        for role in (f"{own}-{WORKER}", f"{others}-{WORKER}", f"{others}-{WORKER}-connections"):
            with pytest.raises(hvac.exceptions.VaultError):
                client.auth.jwt.jwt_login(role, identity, path=LOGIN)
        client.token = answer["auth"]["client_token"]
        assert read(client, f"{own}/{CONNECTION}") == {"of": own}
        for path in (f"{own}/{SECRET}", f"{others}/{SECRET}", f"{others}/{CONNECTION}"):
            with pytest.raises(hvac.exceptions.Forbidden):
                read(client, path)
    production, staging = (
        world.vault.client(token).auth.token.lookup_self()["data"] for token in tokens.values()
    )
    assert production["entity_id"] != staging["entity_id"], "Vault would take them for one"


def read(client: hvac.Client, path: str) -> Any:
    answer = client.secrets.kv.v2.read_secret_version(
        path, mount_point=MOUNT, raise_on_deleted_version=True
    )
    return answer["data"]["data"]


def test_a_job_that_names_the_others_role_does_not_start(
    start: Callable[..., dict[str, Any]],
) -> None:
    allocation = start(STAGING, role_of=PRODUCTION)
    events = allocation["TaskStates"]["worker"]["Events"]
    assert allocation["ClientStatus"] == "failed"
    assert "claim" in " ".join(each["DisplayMessage"] for each in events)


def test_a_runs_token_lives_as_long_as_the_run_and_is_not_renewed_after_it(world: World) -> None:
    """Nomad revokes none. The role is the product's, but for a period of seconds."""
    job_id, period = "ingest-hr", 4
    places = namespaces([PRODUCTION])
    nomad = connect(world.server.address, world.server.token, namespace=places.runs)
    client, role = world.vault.client(), f"auth/{LOGIN}/role/production-{job_id}"
    settings = client.read(role)["data"]
    assert settings["token_period"] == 300
    client.write_data(role, data={**settings, "token_period": period})
    job = copy.deepcopy(rendered(job_id, PRODUCTION))
    (task,) = job["TaskGroups"][0]["Tasks"]
    for template in task["Templates"]:
        template |= {"Uid": 0, "Gid": 0}
        for path in re.findall(rf'secret "{MOUNT}/data/([^"]+)"', template["EmbeddedTmpl"]):
            client.secrets.kv.v2.create_or_update_secret(path, {"of": path}, mount_point=MOUNT)
    script = f"rm $NOMAD_SECRETS_DIR/connections.json; sleep {2 * period + 2}"
    config = {"command": "/bin/sh", "args": ["-c", script]}
    task |= {"Driver": "raw_exec", "User": "root", "Config": config}
    nomad.job.register_job(job_id, {"Job": job})
    asked = {"pipeline": "hr", "run_id": "1"}
    child = nomad.job.dispatch_job(job_id, meta=asked)["DispatchedJobID"]
    run = folder(world, found(nomad, child, "running"), "ingest")
    token = world.vault.client((run / "private/vault_token").read_text())
    began = time.monotonic()
    while found(nomad, child, "running", "complete")["ClientStatus"] == "running":
        assert token.auth.token.lookup_self()["data"]["ttl"] <= period
        time.sleep(0.5)
    assert time.monotonic() - began > 2 * period, "it was not renewed"
    assert not (run / "secrets/connections.json").exists(), "it was rendered again"
    time.sleep(period + 1)
    with pytest.raises(hvac.exceptions.Forbidden):
        token.auth.token.lookup_self()
    client.write_data(role, data=settings)
    nomad.job.deregister_job(child, purge=True)
    nomad.job.deregister_job(job_id, purge=True)
    nomad.system.initiate_garbage_collection()
    deadline = time.monotonic() + 30
    while run.exists():  # with what Nomad has mounted there
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_tokens_and_keys_are_rotated_as_the_page_says_and_no_task_notices(
    world: World, start: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    running = start(PRODUCTION, role_of=PRODUCTION)
    nomad = connect(world.server.address, world.server.token)

    def token(policy: str) -> str:
        made = {"Name": "x", "Type": "client", "Policies": [policy], "ExpirationTTL": "9h"}
        return str(nomad.acl.create_token(made)["SecretID"])

    def known(secret: str) -> bool:
        try:
            return bool(connect(world.server.address, secret).acl.get_self_token())
        except NomadError:
            return False

    people = ("platform", "analysts")
    old = [token(f"production-{name}") for name in people]
    others, setup = token("staging-platform"), world.vault.client().auth.token.create(ttl="9h")
    old_setup = setup["auth"]["client_token"]
    programs = f"{ensure(NOMAD).parent}:{ensure(VAULT).parent}"
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path),
        "NOMAD_ADDR": world.server.address, "NOMAD_TOKEN": world.server.token,
        "VAULT_ADDR": world.vault.address, "VAULT_TOKEN": world.vault.token,
    }  # fmt: skip
    with desk(tmp_path, tmp_path, environment) as bash:
        bash.type(block("Tokens of Nomad and Vault", 0))
        new = [json.loads((tmp_path / f"{name}.json").read_text())["SecretID"] for name in people]
        assert all(map(known, [*old, *new]))
        bash.type(block("Tokens of Nomad and Vault", 1))
        assert [*map(known, [*old, *new, others])] == [False, False, True, True, True]
        bash.type(block("Tokens of Nomad and Vault", 2))
        shown = bash.type(block("Tokens of Nomad and Vault", 3), given=f"{old_setup}\n")
    new_setup = (tmp_path / "setup-token").read_text().strip()
    assert "production-setup" in world.vault.client(new_setup).lookup_token()["data"]["policies"]
    with pytest.raises(hvac.exceptions.Forbidden):
        world.vault.client(old_setup).lookup_token()
    assert not [each for each in (old_setup, new_setup) if each in shown]
    # One that starts now logs in with an identity that the new key signed.
    assert start(STAGING, role_of=STAGING)["ClientStatus"] == "running"
    (now,) = world.nomad(PRODUCTION).job.get_allocations(WORKER)
    assert (now["ID"], now["ClientStatus"]) == (running["ID"], "running")
    assert now["TaskStates"]["worker"]["Restarts"] == 0


def test_two_environments_hold_nothing_in_common() -> None:
    """What a node or a cluster has once, and each must have of its own."""

    def held(variables: Path) -> set[tuple[Any, ...]]:
        things: set[tuple[Any, ...]] = set()
        for job_id in PLATFORM:
            job = rendered(job_id, variables)
            things.add(("job", job["Namespace"], job_id))
            for group in job["TaskGroups"]:
                for network in group["Networks"] or []:
                    things |= {("port", port["Value"]) for port in network["ReservedPorts"] or []}
                things |= {
                    ("volume", volume["Source"]) for volume in (group["Volumes"] or {}).values()
                }
                for task in group["Tasks"]:
                    if bucket := (task["Env"] or {}).get("BACKUP_BUCKET"):
                        things.add(("folder", bucket, task["Env"]["BACKUP_PREFIX"]))
                    if task["Vault"]:
                        things.add(("role", task["Vault"]["Role"]))
        return things

    assert held(PRODUCTION) & held(STAGING) == set()


@pytest.mark.parametrize("variables", [PRODUCTION, STAGING], ids=environment)
def test_the_web_server_asks_for_logs_where_the_log_server_is(variables: Path) -> None:
    (group,) = rendered("airflow-logs", variables)["TaskGroups"]
    (port,) = group["Networks"][0]["ReservedPorts"]
    env = {
        name: value
        for group in rendered("airflow-webserver", variables)["TaskGroups"]
        for task in group["Tasks"]
        for name, value in (task["Env"] or {}).items()
    }
    for who in ("WORKER", "TRIGGER"):
        assert env[f"AIRFLOW__LOGGING__{who}_LOG_SERVER_PORT"] == str(port["Value"])
