"""Two environments in one Vault: each role of one reads its own secrets, and none of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hvac
import hvac.exceptions
import pytest

from scripts.jobs import Namespaces
from scripts.vault_setup import AUDIENCES, LOGIN, POLICIES, Role, listed, roles, set_up
from tests.nomad.table import ALL_PATHS, reads
from tests.vault_policies.server import running_vault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vault_policies.server import VaultServer

pytestmark = pytest.mark.programs

MOUNT = "secret"
PLACES = {"production": Namespaces(), "staging": Namespaces("staging", "staging-runs")}
ROLES = [role.name.removeprefix("any-") for role in roles(POLICIES, MOUNT, "any", listed())]


def prepare(vault: VaultServer, environment: str) -> None:
    """Set an environment up, with a value at each path."""
    client = vault.client()
    set_up(
        client, mount=MOUNT, environment=environment, jwks_url=vault.issuer.jwks_url,
        namespaces=PLACES[environment],
    )  # fmt: skip
    for path in ALL_PATHS:
        client.secrets.kv.v2.create_or_update_secret(
            f"{environment}/{path}", {"of": environment}, mount_point=MOUNT
        )


def state(client: hvac.Client, environment: str) -> dict[str, Any]:
    """Return all that Vault has of an environment, and what the two share."""
    policies = client.sys.list_policies()["data"]["keys"]
    names = client.auth.jwt.list_roles(path=LOGIN)["data"]["keys"]
    return {
        "policies": {
            name: client.sys.read_policy(name)["data"]["rules"]
            for name in policies
            if name.startswith(f"{environment}-") or name in {"default", "root"}
        },
        "roles": {
            name: client.auth.jwt.read_role(name, path=LOGIN)["data"]
            for name in names
            if name.startswith(f"{environment}-")
        },
        "login": client.auth.jwt.read_config(path=LOGIN)["data"],
        "engines": client.sys.list_mounted_secrets_engines()["data"],
        "logins": client.sys.list_auth_methods()["data"],
    }


@pytest.fixture(scope="module")
def vault() -> Iterator[VaultServer]:
    """A Vault with production, and staging set up after it."""
    with running_vault() as server:
        prepare(server, "production")
        before = state(server.client(), "production")
        prepare(server, "staging")
        assert state(server.client(), "production") == before
        yield server


def identity(vault: VaultServer, role: Role, environment: str) -> str:
    """Return an identity of the role's task, in the namespace of ``environment``."""
    places = PLACES[environment]
    namespace = places.runs if role.launched else places.jobs
    task = role.task or "any"
    return vault.issuer.identity(
        role.job, task, aud=AUDIENCES[role.ending], nomad_namespace=namespace,
        sub=f"global:{namespace}:{role.job}:group:{task}:vault_default",
    )  # fmt: skip


@pytest.mark.parametrize("name", ROLES)
def test_a_role_reads_its_own_environment_alone(vault: VaultServer, name: str) -> None:
    entities = set()
    for environment, other in (("production", "staging"), ("staging", "production")):
        (role,) = [
            role
            for role in roles(POLICIES, MOUNT, environment, listed())
            if role.name == f"{environment}-{name}"
        ]
        client = vault.login(role.name, identity(vault, role, environment))
        paths = [f"{MOUNT}/data/{each}/{path}" for each in PLACES for path in ALL_PATHS]
        answer = client.adapter.post("/v1/sys/capabilities-self", json={"paths": paths})["data"]
        readable = {path for path in paths if answer[path] != ["deny"]}
        assert readable == {f"{MOUNT}/data/{environment}/{path}" for path in reads(name)}
        entities.add(client.auth.token.lookup_self()["data"]["entity_id"])
        with pytest.raises(hvac.exceptions.VaultError):
            vault.login(f"{other}-{name}", identity(vault, role, environment))
    assert len(entities) == len(PLACES), "Vault takes the two for one"
