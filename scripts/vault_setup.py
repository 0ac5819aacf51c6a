#!.venv/bin/python
"""Set Vault up for the platform: KV engine, Nomad's JWT login, a policy and a role for each job.

The same program for one machine and for production, where it takes an address and a token and
creates no secret values. It can be run as often as you like: it writes what vault-policies/ says.
All that it writes has the environment in its name, so that several share one Vault.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import hvac
import hvac.exceptions
import jinja2
import requests
import typer

from backup.registry import load_registry
from backup.settings import REGISTRY
from frame.application import Application, definitions, epilog, exit_codes
from frame.failure import Failure, WrongUse
from frame.output import screen
from scripts.containers import load_containers
from scripts.jobs import Namespaces
from scripts.repository import ROOT
from scripts.sources import load_sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

console = screen(stderr=True)

POLICIES = ROOT / "vault-policies"
LOGIN = "jwt-nomad"  # what the agents of nomad/agents and the variable vault_login name
# So that a name is one environment's alone: production-backup-superset would be of two.
ENVIRONMENT = re.compile(r"[a-z][a-z0-9-]*(?<!-backup)(?<!-ingest)")
# What Nomad renews while the task lives, for its templates, in a folder that no task sees. It ends
# half an hour after its task. With an end before that Nomad would log in again in the middle of a
# task, and stop it if that one login is refused (client/allocrunner/taskrunner/vault_hook.go).
RENEWED = {"token_period": "30m", "token_explicit_max_ttl": 0}
# The same of a run that Airflow launched: Nomad revokes no token, it only ceases to renew it.
RENEWED_FOR_A_RUN = {**RENEWED, "token_period": "5m"}
# What a task logs in for by itself. It cannot be renewed; the next question logs in again.
ENDING = {"token_ttl": "5m", "token_explicit_max_ttl": "5m", "token_period": 0}
# What Nomad's vault block puts into an identity, and the worker's file into one of its own.
AUDIENCES = {False: "vault.io", True: "connections.vault.io"}


@dataclass(frozen=True)
class Role:
    """A JWT role: which job (and task of it) may log in, and the policy text that it gets.

    ``name`` is the role's and the policy's. ``launched``: the job is one that Airflow may launch,
    in the namespace of those. ``ending``: the task logs in by itself, for minutes. ``longest``:
    how long a token that Nomad renews lives at most, where the task has it in a file.
    """

    name: str
    job: str
    task: str | None
    policy: str
    launched: bool = False
    ending: bool = False
    longest: str | None = None


def roles(
    folder: Path, mount: str, environment: str, lists: Mapping[str, list[dict[str, Any]]]
) -> Iterator[Role]:
    """Render the roles that ``folder``/roles.toml declares for an environment.

    ``mount`` is the KV engine, ``lists`` what :func:`listed` returns.
    """
    secrets = f"{mount}/data/{environment}"  # as a policy spells it
    render = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string  # noqa: S701
    for entry in tomllib.loads((folder / "roles.toml").read_text())["role"]:
        each = entry.get("each", [{}])
        for values in lists[each] if isinstance(each, str) else each:
            names = {"secrets": secrets, **values}
            job = render(entry["job"]).render(names)
            text = (folder / f"{entry.get('policy', job)}.hcl").read_text()
            purpose = f"-{entry['purpose']}" if "purpose" in entry else ""
            yield Role(
                name=f"{environment}-{job}{purpose}",
                job=job,
                task=entry.get("task"),
                policy=render(text).render(names) + "\n",
                launched=entry.get("launched", False),
                ending=entry.get("ending", False),
                longest=entry.get("longest"),
            )


def listed() -> dict[str, list[dict[str, Any]]]:
    """Return what roles.toml may repeat a role for.

    That is what is backed up and has a URI in Vault, what is and has none, sources and containers.
    """
    entries = load_registry(REGISTRY).entries
    return {
        "databases": [
            {"database": entry.name, "vault_path": entry.vault_path}
            for entry in entries
            if entry.vault_path
        ],
        "snapshots": [{"snapshot": entry.name} for entry in entries if not entry.vault_path],
        "sources": [
            {"source": source.name, "paths": list(source.paths.values())}
            for source in load_sources()
        ],
        "containers": [{"container": container.name} for container in load_containers()],
    }


def role_settings(role: Role, namespaces: Namespaces) -> dict[str, Any]:
    """Return what Vault's ``auth/<mount>/role/<name>`` takes for ``role``."""
    namespace = namespaces.runs if role.launched else namespaces.jobs
    claims = {"nomad_namespace": namespace, "nomad_job_id": role.job}
    if role.task:
        claims["nomad_task"] = role.task
    return {
        "role_type": "jwt",
        "bound_audiences": [AUDIENCES[role.ending]],
        "bound_claims": claims,
        # With the namespace in it: jobs of one name would be one entity.
        "user_claim": "sub",
        "user_claim_json_pointer": False,
        "claim_mappings": {
            "nomad_namespace": "nomad_namespace",
            "nomad_job_id": "nomad_job_id",
            "nomad_task": "nomad_task",
        },
        "token_type": "service",
        "token_policies": [role.name],
        **(ENDING if role.ending else RENEWED_FOR_A_RUN if role.launched else RENEWED),
        **({"token_explicit_max_ttl": role.longest} if role.longest else {}),
    }


def set_up(
    client: hvac.Client,
    *,
    mount: str,
    environment: str,
    jwks_url: str,
    login: str = LOGIN,
    namespaces: Namespaces = Namespaces(),  # noqa: B008 - it cannot change
    folders: tuple[Path, ...] = (POLICIES,),
) -> list[str]:
    """Write the engine, the login, every policy and every role; return the roles' names.

    Raises :class:`WrongUse` for an environment whose names could be another's, :class:`Failure` if
    ``mount`` is there and is not KV version 2, or ``login`` is another Nomad's.
    """
    if not ENVIRONMENT.fullmatch(environment):
        raise WrongUse(
            f"environment {environment!r}: expected lower-case letters, digits and hyphens, and"
            " neither -backup nor -ingest at its end",
            "Choose another name: it begins the names of policies and roles.",
        )
    engine = client.sys.list_mounted_secrets_engines()["data"].get(f"{mount}/")
    if engine is None:
        client.sys.enable_secrets_engine("kv", path=mount, options={"version": "2"})
    elif engine["type"] != "kv" or (engine["options"] or {}).get("version") != "2":
        raise Failure(
            f"the engine {mount}/ of this Vault is not KV version 2",
            "Name another with --mount, or move this one: vault kv enable-versioning.",
        )
    _trust(client, login, jwks_url)
    written = []
    for folder in folders:
        for role in roles(folder, mount, environment, listed()):
            client.sys.create_or_update_policy(role.name, role.policy)
            settings = role_settings(role, namespaces)
            client.write_data(f"auth/{login}/role/{role.name}", data=settings)
            written.append(role.name)
    return written


def _trust(client: hvac.Client, login: str, jwks_url: str) -> None:
    """Have identities believed that the Nomad at ``jwks_url`` signed, by a mount of its own."""
    if f"{login}/" not in client.sys.list_auth_methods()["data"]:
        client.sys.enable_auth_method("jwt", path=login)
    try:
        trusted = client.auth.jwt.read_config(path=login)["data"]["jwks_url"]
    except hvac.exceptions.InvalidPath:
        trusted = ""
    if trusted not in {"", jwks_url}:
        raise Failure(
            f"login {login}: expected the keys of {jwks_url}, found those of {trusted}",
            "Name a mount of its own with --login for another Nomad. If this one has moved:"
            f" vault write auth/{login}/config jwks_url={jwks_url}, and run this again.",
        )
    client.auth.jwt.configure(jwks_url=jwks_url, jwt_supported_algs=["RS256", "EdDSA"], path=login)


app = Application("scripts/vault_setup.py")


@app.command(
    epilog=epilog(
        definitions("Environment", [("VAULT_TOKEN", "a token of Vault (required)")]), exit_codes()
    )
)
def main(
    environment: Annotated[str, typer.Option(help="The prefix of every path, such as production.")],
    jwks_url: Annotated[
        str, typer.Option(help="Where Vault reads Nomad's keys: https://…/.well-known/jwks.json")
    ],
    address: Annotated[str, typer.Option(envvar="VAULT_ADDR", help="Vault's address.")],
    mount: Annotated[
        str, typer.Option(help="The KV v2 engine; made if it is not there.")
    ] = "secret",
    login: Annotated[
        str, typer.Option(help="The mount of Nomad's tasks' login, one a Nomad.")
    ] = LOGIN,
    namespace: Annotated[
        str, typer.Option(help="The Nomad namespace of the jobs.")
    ] = Namespaces.jobs,
    runs_namespace: Annotated[
        str, typer.Option(help="The namespace of those that Airflow may launch.")
    ] = Namespaces.runs,
) -> None:
    """Set Vault up for the platform.

    It creates no secret values.
    """
    if not (token := os.environ.get("VAULT_TOKEN")):
        raise WrongUse(
            "VAULT_TOKEN is not set",
            "Export a token that may write policies, auth methods and mounts.",
        )
    client = hvac.Client(url=address, token=token, timeout=30)
    try:
        names = set_up(
            client,
            mount=mount,
            environment=environment,
            jwks_url=jwks_url,
            login=login,
            namespaces=Namespaces(namespace, runs_namespace),
        )
    except (hvac.exceptions.VaultError, requests.RequestException) as error:
        raise Failure(
            f"Vault at {address} did not take the set-up: {error}",
            "Check the address, that Vault is unsealed, and the token's rights.",
        ) from None
    for name in names:
        console.print(f"[green]✓[/] policy and role {name}")


if __name__ == "__main__":
    app.run()
