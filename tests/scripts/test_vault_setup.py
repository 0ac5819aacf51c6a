"""``scripts.vault_setup`` on a real Vault: what it writes, a second time, and its errors."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import hvac
import hvac.exceptions
import pytest

from frame.failure import Failure, WrongUse
from scripts.jobs import Namespaces
from scripts.repository import ROOT
from scripts.vault_setup import AUDIENCES, LOGIN, POLICIES, listed, roles, set_up
from tests import forked
from tests.conftest import free_port
from tests.vault_policies.server import issuer, running_vault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vault_policies.server import VaultServer

pytestmark = pytest.mark.programs

MOUNT = "institution-kv"
ENVIRONMENT = "production"


@pytest.fixture(scope="module")
def fresh() -> Iterator[VaultServer]:
    """A Vault that nothing was set up in."""
    with running_vault() as server:
        yield server


def command(server: VaultServer, *words: str, **changes: str | None) -> tuple[int, str, str]:
    """Run the program as an operator would; ``changes`` overrule its environment."""
    environment = {"PATH": os.environ["PATH"], "VAULT_TOKEN": server.token, **changes}
    done = forked.run(
        "scripts.vault_setup", f"--environment={ENVIRONMENT}", f"--mount={MOUNT}",
        f"--jwks-url={server.issuer.jwks_url}", *words,
        cwd=ROOT,
        env={name: value for name, value in environment.items() if value is not None},
        timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def state(client: hvac.Client) -> dict[str, Any]:
    """Return everything readable that the program could have changed."""
    policies = client.sys.list_policies()["data"]["keys"]
    names = client.auth.jwt.list_roles(path=LOGIN)["data"]["keys"]
    return {
        "policies": {name: client.sys.read_policy(name)["data"]["rules"] for name in policies},
        "roles": {name: client.auth.jwt.read_role(name, path=LOGIN)["data"] for name in names},
        "login": client.auth.jwt.read_config(path=LOGIN)["data"],
        "engines": client.sys.list_mounted_secrets_engines()["data"],
        "logins": client.sys.list_auth_methods()["data"],
        "values": _values(client),
    }


def _values(client: hvac.Client) -> list[str]:
    try:
        answer = client.secrets.kv.v2.list_secrets("", mount_point=MOUNT)
    except hvac.exceptions.InvalidPath:
        return []
    return answer["data"]["keys"]  # type: ignore[no-any-return]


def test_the_production_set_up_is_whole_and_a_second_one_changes_nothing(
    fresh: VaultServer,
) -> None:
    code, _, errors = command(fresh, f"--address={fresh.address}")
    assert code == 0, errors
    client = fresh.client()
    first = state(client)
    code, _, errors = command(fresh, f"--address={fresh.address}")
    assert code == 0, errors
    assert state(client) == first

    wanted = {role.name: role for role in roles(POLICIES, MOUNT, ENVIRONMENT, listed())}
    assert set(first["roles"]) == set(wanted)
    assert all(name.startswith(f"{ENVIRONMENT}-") for name in first["roles"])
    assert not [name for name in first["roles"] if name.startswith(f"{ENVIRONMENT}-local-")]
    for name, role in wanted.items():
        assert first["policies"][name] == role.policy
        assert f"{MOUNT}/data/{ENVIRONMENT}/" in role.policy
        assert "{{" not in role.policy
    assert first["engines"][f"{MOUNT}/"]["options"] == {"version": "2"}
    assert first["login"]["jwks_url"] == fresh.issuer.jwks_url
    assert first["values"] == [], "it creates no secret values"


def test_a_role_reads_back_as_it_was_meant(fresh: VaultServer) -> None:
    client = fresh.client()
    set_up(client, mount=MOUNT, environment=ENVIRONMENT, jwks_url=fresh.issuer.jwks_url)
    fetch = client.auth.jwt.read_role("production-dag-sync", path=LOGIN)["data"]
    assert fetch["bound_claims"] == {
        "nomad_namespace": "default",
        "nomad_job_id": "dag-sync",
        "nomad_task": "fetch",
    }
    name = "production-airflow-worker-analysts"
    expected = {
        "role_type": "jwt",
        "bound_audiences": ["vault.io"],
        "bound_claims": {
            "nomad_namespace": "default",
            "nomad_job_id": "airflow-worker-analysts",
            "nomad_task": "worker",
        },
        "bound_claims_type": "string",
        "user_claim": "sub",
        "token_type": "service",
        "token_policies": [name],
        "token_period": 1800,
        "token_explicit_max_ttl": 0,
    }
    worker = client.auth.jwt.read_role(name, path=LOGIN)["data"]
    assert {name: worker[name] for name in expected} == expected
    expected |= {
        "bound_audiences": ["connections.vault.io"],
        "token_policies": [f"{name}-connections"],
        "token_period": 0,
        "token_ttl": 300,
        "token_explicit_max_ttl": 300,
    }
    connections = client.auth.jwt.read_role(f"{name}-connections", path=LOGIN)["data"]
    assert {name: connections[name] for name in expected} == expected


def test_a_token_of_a_role_can_be_renewed_for_as_long_as_its_task_lives(
    fresh: VaultServer,
) -> None:
    set_up(fresh.client(), mount=MOUNT, environment=ENVIRONMENT, jwks_url=fresh.issuer.jwks_url)
    client = fresh.login("production-redis", fresh.issuer.identity("redis", "redis"))
    found = client.auth.token.lookup_self()["data"]
    assert (found["period"], found["explicit_max_ttl"], found["renewable"]) == (1800, 0, True)
    assert set(found["policies"]) == {"default", "production-redis"}
    assert found["meta"]["nomad_job_id"] == "redis"
    assert client.auth.token.renew_self()["auth"]["lease_duration"] == 1800


def test_a_token_of_a_run_ends_in_minutes_when_nobody_renews_it(fresh: VaultServer) -> None:
    set_up(fresh.client(), mount=MOUNT, environment=ENVIRONMENT, jwks_url=fresh.issuer.jwks_url)
    identity = fresh.issuer.identity("ingest-hr", "ingest", nomad_namespace="runs")
    client = fresh.login("production-ingest-hr", identity)
    found = client.auth.token.lookup_self()["data"]
    assert (found["period"], found["explicit_max_ttl"], found["ttl"] <= 300) == (300, 0, True)


def test_a_token_that_a_task_logged_in_for_ends_in_minutes_whatever_it_does(
    fresh: VaultServer,
) -> None:
    set_up(fresh.client(), mount=MOUNT, environment=ENVIRONMENT, jwks_url=fresh.issuer.jwks_url)
    job = "airflow-worker-analysts"
    identity = fresh.issuer.identity(job, "worker", aud=AUDIENCES[True])
    client = fresh.login(f"production-{job}-connections", identity)
    found = client.auth.token.lookup_self()["data"]
    assert (found["explicit_max_ttl"], found.get("period")) == (300, None)
    assert client.auth.token.renew_self(increment="24h")["auth"]["lease_duration"] <= 300
    assert set(found["policies"]) == {"default", f"production-{job}-connections"}


def test_jobs_in_a_namespace_of_their_own(fresh: VaultServer) -> None:
    set_up(
        fresh.client(), mount=MOUNT, environment=ENVIRONMENT,
        jwks_url=fresh.issuer.jwks_url, namespaces=Namespaces(jobs="data"),
    )  # fmt: skip
    identity = fresh.issuer.identity("redis", "redis", nomad_namespace="data")
    assert fresh.login("production-redis", identity).is_authenticated()


@pytest.mark.parametrize("name", ["Production", "production-backup", "a-ingest", "2nd", ""])
def test_a_name_that_could_be_another_environments_is_refused(
    fresh: VaultServer, name: str
) -> None:
    """production-backup-superset is the backup of a database, and would be a job of the other."""
    with pytest.raises(WrongUse, match="expected lower-case letters"):
        set_up(fresh.client(), mount=MOUNT, environment=name, jwks_url=fresh.issuer.jwks_url)


def test_the_login_of_another_nomad_is_left_alone(fresh: VaultServer) -> None:
    client = fresh.client()
    set_up(client, mount=MOUNT, environment=ENVIRONMENT, jwks_url=fresh.issuer.jwks_url)
    before = state(client)
    with issuer() as other:
        with pytest.raises(Failure, match=f"found those of {fresh.issuer.jwks_url}") as refused:
            set_up(client, mount=MOUNT, environment="staging", jwks_url=other.jwks_url)
        assert "--login" in str(refused.value.hint)
        assert state(client) == before
        set_up(client, mount=MOUNT, environment="staging", jwks_url=other.jwks_url, login="other")
        assert state(client)["login"] == before["login"]
        identity = other.identity("redis", "redis")
        answer = client.auth.jwt.jwt_login("staging-redis", identity, path="other")
        assert "staging-redis" in answer["auth"]["policies"]
        with pytest.raises(hvac.exceptions.VaultError):
            fresh.login("production-redis", identity)


RIGHTS = re.compile(r'```hcl\n(path "sys/mounts".*?)```', re.DOTALL)


@pytest.mark.parametrize("name", ["*", "production-*"])
def test_the_rights_of_the_runbook_are_enough_and_keep_to_one_environment(
    fresh: VaultServer, name: str
) -> None:
    (text,) = RIGHTS.findall((ROOT / "docs/runbook.md").read_text())
    text = text.replace('policy/*"', f'policy/{name}"').replace('role/*"', f'role/{name}"')
    text = text.replace("jwt-nomad", "jwt-rights").replace("mounts/secret", "mounts/rights")
    root = fresh.client()
    root.sys.create_or_update_policy("set-up", text)
    made = root.auth.token.create(policies=["set-up"], no_default_policy=True)
    client = fresh.client(made["auth"]["client_token"])

    def run(environment: str) -> None:
        set_up(
            client, mount="rights", environment=environment, jwks_url=fresh.issuer.jwks_url,
            login="jwt-rights",
        )  # fmt: skip

    run("production")
    run("production")
    if name != "*":
        with pytest.raises(hvac.exceptions.Forbidden):
            run("staging")


def assert_one_clear_error(code: int, output: str, errors: str, *, expected: int = 1) -> None:
    assert code == expected
    assert output == ""
    assert errors.count("error:") == 1
    assert errors.count("HINT:") == 1
    assert "Traceback" not in errors


def test_no_token(fresh: VaultServer) -> None:
    code, output, errors = command(fresh, f"--address={fresh.address}", VAULT_TOKEN=None)
    assert_one_clear_error(code, output, errors, expected=2)
    assert "VAULT_TOKEN is not set" in errors


def test_a_wrong_address(fresh: VaultServer) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    code, output, errors = command(fresh, VAULT_ADDR=address)
    assert_one_clear_error(code, output, errors)
    assert address in errors
    assert fresh.token not in errors


@pytest.mark.parametrize("token", ["wrong", "weak"])
def test_a_token_that_may_not(fresh: VaultServer, token: str) -> None:
    given = "hvs.wrong"
    if token == "weak":  # noqa: S105
        given = fresh.client().auth.token.create(policies=["default"])["auth"]["client_token"]
    code, output, errors = command(fresh, f"--address={fresh.address}", VAULT_TOKEN=given)
    assert_one_clear_error(code, output, errors)
    assert "permission denied" in errors
    assert given not in errors


def test_nomads_keys_that_cannot_be_read(fresh: VaultServer) -> None:
    url = f"http://127.0.0.1:{free_port()}/.well-known/jwks.json"
    code, output, errors = command(fresh, f"--address={fresh.address}", f"--jwks-url={url}")
    assert_one_clear_error(code, output, errors)
    assert "jwks" in errors.lower()


def test_a_sealed_vault() -> None:
    with running_vault() as server:
        server.client().sys.seal()
        code, output, errors = command(server, f"--address={server.address}")
        assert_one_clear_error(code, output, errors)
        assert "Vault is sealed" in errors


def test_a_missing_option_is_wrong_use(fresh: VaultServer) -> None:
    done = forked.run(
        "scripts.vault_setup", "--environment=production", cwd=ROOT,
        env={"PATH": os.environ["PATH"]}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--jwks-url" in done.stderr or "--address" in done.stderr
