"""Policies and job files agree: what a task reads is allowed, and nothing more is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import hvac
import hvac.exceptions
import pytest

from scripts.jobs import Namespaces
from scripts.local import backblaze, credentials, home
from scripts.vault_setup import AUDIENCES, LOGIN, POLICIES, Role, listed, roles, set_up
from tests.nomad.rendering import DEPLOYMENTS, RUNS
from tests.nomad.table import (
    ALL_PATHS,
    BY_VARIABLE,
    ROLES_BY_VARIABLE,
    TABLE,
    TASKS,
    reads,
)
from tests.nomad.table import ROLES as USED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vault_policies.server import VaultServer

FOLDERS = (POLICIES, POLICIES / "local")
PREFIX = "secret/data/local"
# By the name that the table has, which is without the environment.
ROLES = {
    role.name.removeprefix("local-"): role
    for folder in FOLDERS
    for role in roles(folder, "secret", "local", listed())
}
# What is read of Vault itself, and by which job.
OF_VAULT_ITSELF = {"backup-vault": "sys/storage/raft/snapshot"}
PATH = re.compile(r'path "([^"]+)" \{\s*capabilities = \[([^\]]*)\]\s*\}')


def policy_paths(role: Role) -> dict[str, list[str]]:
    """Return a policy's capabilities by path."""
    return {
        path: re.findall(r'"(\w+)"', capabilities)
        for path, capabilities in PATH.findall(role.policy)
    }


def matches(pattern: str, path: str) -> bool:
    """Tell whether Vault's ``pattern`` covers ``path``: `*` at the end, `+` for one segment."""
    segments = [("[^/]+" if part == "+" else re.escape(part)) for part in pattern.split("/")]
    return re.fullmatch("/".join(segments).replace(r"\*", ".*"), path) is not None


@pytest.fixture(scope="module")
def vault(vault_server: VaultServer) -> Iterator[VaultServer]:
    """A Vault set up as locally, with a value at every path that any job reads."""
    client = vault_server.client()
    set_up(
        client,
        mount="secret",
        environment="local",
        jwks_url=vault_server.issuer.jwks_url,
        folders=FOLDERS,
    )
    for path in ALL_PATHS:
        client.secrets.kv.v2.create_or_update_secret(
            f"local/{path}", {"of": path}, mount_point="secret"
        )
    yield vault_server


def log_in(vault: VaultServer, name: str) -> hvac.Client:
    return vault.login(f"local-{name}", identity(vault, name))


def identity(vault: VaultServer, name: str, **claims: object) -> str:
    """Return an identity of the role's job, in its namespace."""
    role = ROLES[name]
    namespace = Namespaces.runs if role.launched else Namespaces.jobs
    given = {"nomad_namespace": namespace, "aud": AUDIENCES[role.ending], **claims}
    return vault.issuer.identity(role.job, role.task or "any", **given)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b", "a/bc", False),
        ("a/*", "a/b/c", True),
        ("a/*", "a", False),
        ("a/b*", "a/bc", True),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/b/c", False),
        ("a.b", "aXb", False),
    ],
)
def test_the_matcher_reads_vaults_globs(pattern: str, path: str, expected: object) -> None:
    assert matches(pattern, path) is expected


def test_every_job_with_a_vault_role_has_one_and_no_other_has() -> None:
    used = {
        role: job_id
        for job_id, job in TABLE.items()
        for task in job.tasks.values()
        for role in (task.role, task.login)
        if role
    } | ROLES_BY_VARIABLE
    assert set(used) == set(ROLES) == USED
    assert used == {name: role.job for name, role in ROLES.items()}
    assert all(name.startswith(job_id) for name, job_id in used.items())


def test_a_role_has_one_purpose() -> None:
    """Templates are rendered with one, a task logs in by itself with another."""
    assert {task.login for task in TASKS} - {None} == {
        name for name, role in ROLES.items() if role.ending
    }
    assert not {task.role for task in TASKS} & {task.login for task in TASKS} - {None}


def test_roles_are_for_jobs_that_are_deployed() -> None:
    for role in ROLES.values():
        assert role.job in DEPLOYMENTS
        assert role.task is None or role.task in TABLE[role.job].tasks


def test_a_role_of_what_airflow_may_launch_holds_in_its_namespace_alone() -> None:
    assert {role.job for role in ROLES.values() if role.launched} == set(RUNS)


def test_the_deploy_key_is_for_the_task_that_fetches_only() -> None:
    assert ROLES["dag-sync"].task == "fetch"
    assert ROLES["dag-sync-status"].task == "publish"


def test_a_job_with_strangers_in_it_names_the_task_that_has_the_role() -> None:
    """Other tasks of such a job could log in as well: whoever holds no secret must not."""
    for job_id, job in TABLE.items():
        judged = any(task.network_mode == "none" for task in job.tasks.values())
        assert not judged or ROLES[job_id].task is not None


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_policy_only_reads_and_only_below_its_own_prefix(name: str) -> None:
    paths = policy_paths(ROLES[name])
    assert ROLES[name].policy.count("path ") == len(paths) > 0
    for path, capabilities in paths.items():
        if path == OF_VAULT_ITSELF.get(name):
            assert capabilities == ["read"], path
            continue
        assert path.startswith(f"{PREFIX}/"), path
        assert capabilities == ["read"], path
        assert path.count("*") == path.endswith("/*"), f"{path}: a glob inside a name"
        assert path.removesuffix("*").strip("/").count("/") >= 3, f"{path}: all of an area"


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_policy_has_no_path_that_nothing_reads(name: str) -> None:
    for pattern in policy_paths(ROLES[name]):
        if pattern == OF_VAULT_ITSELF.get(name):
            continue
        assert any(matches(pattern, f"{PREFIX}/{path}") for path in reads(name)), pattern


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_job_reads_its_own_secrets_and_no_others(vault: VaultServer, name: str) -> None:
    """With an identity like the one that Nomad signs for it, in a real Vault."""
    client = log_in(vault, name)
    can = set()
    for path in ALL_PATHS:
        try:
            answer = client.secrets.kv.v2.read_secret_version(
                f"local/{path}", mount_point="secret", raise_on_deleted_version=True
            )
        except hvac.exceptions.Forbidden:
            continue
        assert answer["data"]["data"] == {"of": path}
        can.add(path)
    assert can == reads(name)


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_job_neither_writes_nor_lists_nor_looks_around(vault: VaultServer, name: str) -> None:
    client = log_in(vault, name)
    paths = [
        *[f"secret/data/local/{path}" for path in reads(name)],
        *[f"secret/metadata/local/{path}" for path in reads(name)],
        *[f"secret/delete/local/{path}" for path in reads(name)],
        "secret/metadata/", "secret/metadata/local/", "secret/data/production/airflow/fernet",
        "sys/policies/acl/local-redis", "sys/mounts", f"auth/{LOGIN}/role/local-redis",
        f"auth/{LOGIN}/role/local-{name}", "auth/token/create", "sys/storage/raft/snapshot",
    ]  # fmt: skip
    answer = client.adapter.post("/v1/sys/capabilities-self", json={"paths": paths})["data"]
    granted = {path: answer[path] for path in paths if answer[path] != ["deny"]}
    own = [OF_VAULT_ITSELF[name]] if name in OF_VAULT_ITSELF else []
    wanted = [*(f"secret/data/local/{path}" for path in reads(name)), *own]
    assert granted == {path: ["read"] for path in wanted}


OTHERS = {
    "another job": ("airflow-scheduler", {"nomad_job_id": "airflow-webserver"}),
    "a job whose name begins alike": ("backup-hr", {"nomad_job_id": "backup-hr-2"}),
    "another namespace": ("redis", {"nomad_namespace": "analysts"}),
    "an ingest job of another source": ("ingest-hr", {"nomad_job_id": "ingest-records"}),
    "a job of the platform's namespace": ("ingest-hr", {"nomad_namespace": "default"}),
    "a job of what Airflow may launch": ("redis", {"nomad_namespace": Namespaces.runs}),
    "another audience": ("redis", {"aud": "nomadproject.io"}),
    "an identity that ended": ("redis", {"exp": 1_700_000_000, "nbf": 1_600_000_000}),
    "what renders the worker's templates": (
        "airflow-worker-analysts-connections",
        {"aud": AUDIENCES[False]},
    ),
    "what the worker logs in with": ("airflow-worker-analysts", {"aud": AUDIENCES[True]}),
    "another task of the worker": (
        "airflow-worker-analysts-connections",
        {"nomad_task": "wait-for-webserver"},
    ),
    "the judge of dag-sync": ("dag-sync", {"nomad_task": "judge"}),
    "the publisher of dag-sync": ("dag-sync", {"nomad_task": "publish"}),
}


@pytest.mark.parametrize(("role", "claims"), OTHERS.values(), ids=OTHERS.keys())
def test_a_role_is_refused_to_others(
    vault: VaultServer, role: str, claims: dict[str, object]
) -> None:
    shown = identity(vault, role, **claims)
    with pytest.raises((hvac.exceptions.InvalidRequest, hvac.exceptions.Forbidden)):
        vault.login(f"local-{role}", shown)


def test_an_identity_that_nomad_did_not_sign_is_refused(vault: VaultServer) -> None:
    head, body, signature = vault.issuer.identity("redis", "redis").split(".")
    forged = ".".join([head, body, signature[:-8] + "AAAAAAAA"])
    with pytest.raises((hvac.exceptions.InvalidRequest, hvac.exceptions.Forbidden)):
        vault.login("local-redis", forged)


@pytest.mark.programs
def test_a_local_platform_fills_every_path_that_a_job_reads_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "SECRETS", tmp_path)
    for name in backblaze.KEYS:  # made by the B2 endpoint, which is not there
        home.kept(backblaze.key_file(name), lambda: {"key_id": "id", "key": "key"})
    filled = {**credentials.stand_ins(), **credentials.platform()}
    assert set(filled) == set(ALL_PATHS) - set().union(*BY_VARIABLE.values())
    assert set(filled.pop("superset/oidc").values()) == {""}, "nobody's identity provider here"
    for told in ("backup/alerts", "delivery/alerts"):
        assert set(filled.pop(told).values()) == {""}, "nobody is told here"
    assert all(value for secret in filled.values() for value in secret.values())
