#!.venv/bin/python
"""Set Vault up for the platform: KV engine, Nomad's JWT login, a policy and a role for each job.

The same program for one machine and for production, where it takes an address and a token and
creates no secret values. It can be run as often as you like: it writes what vault-policies/ says.
"""

from __future__ import annotations

import os
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
from scripts.jobs import RUNS_NAMESPACE
from scripts.repository import ROOT
from scripts.sources import load_sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

console = screen(stderr=True)

POLICIES = ROOT / "vault-policies"
AUTH_MOUNT = "jwt-nomad"


@dataclass(frozen=True)
class Role:
    """A job's JWT role: which job (and task of it) may log in, and the policy text that it gets.

    ``launched``: the job is one that Airflow may launch, in the namespace of those.
    """

    job: str
    task: str | None
    policy: str
    launched: bool = False


def roles(folder: Path, secrets: str, lists: Mapping[str, list[dict[str, Any]]]) -> Iterator[Role]:
    """Render the roles that ``folder``/roles.toml declares.

    ``secrets`` is the KV mount and prefix as a policy spells it (``secret/data/production``),
    ``lists`` what :func:`listed` returns.
    """
    render = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string  # noqa: S701
    for entry in tomllib.loads((folder / "roles.toml").read_text())["role"]:
        each = entry.get("each", [{}])
        for values in lists[each] if isinstance(each, str) else each:
            names = {"secrets": secrets, **values}
            job = render(entry["job"]).render(names)
            text = (folder / f"{entry.get('policy', job)}.hcl").read_text()
            policy = render(text).render(names) + "\n"
            yield Role(job, entry.get("task"), policy, entry.get("launched", False))


def listed() -> dict[str, list[dict[str, Any]]]:
    """Return what roles.toml may repeat a role for.

    That is what is backed up and has a URI in Vault, what is and has none, and the sources.
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
    }


def role_settings(role: Role, namespace: str) -> dict[str, Any]:
    """Return what Vault's ``auth/<mount>/role/<name>`` takes for ``role``."""
    claims = {"nomad_namespace": namespace, "nomad_job_id": role.job}
    if role.task:
        claims["nomad_task"] = role.task
    return {
        "role_type": "jwt",
        "bound_audiences": ["vault.io"],  # what Nomad's vault block puts into an identity
        "bound_claims": claims,
        "user_claim": "/nomad_job_id",
        "user_claim_json_pointer": True,
        "claim_mappings": {
            "nomad_namespace": "nomad_namespace",
            "nomad_job_id": "nomad_job_id",
            "nomad_task": "nomad_task",
        },
        "token_type": "service",
        "token_policies": [role.job],
        # Nomad renews it for as long as the task lives; a stopped task's token ends with it.
        "token_period": "30m",
        "token_explicit_max_ttl": 0,
    }


def set_up(
    client: hvac.Client,
    *,
    mount: str,
    environment: str,
    jwks_url: str,
    namespace: str = "default",
    runs_namespace: str = RUNS_NAMESPACE,
    folders: tuple[Path, ...] = (POLICIES,),
) -> list[str]:
    """Write the engine, the login, every policy and every role; return the roles' names.

    Raises :class:`Failure` if ``mount`` is there and is not KV version 2.
    """
    engine = client.sys.list_mounted_secrets_engines()["data"].get(f"{mount}/")
    if engine is None:
        client.sys.enable_secrets_engine("kv", path=mount, options={"version": "2"})
    elif engine["type"] != "kv" or (engine["options"] or {}).get("version") != "2":
        raise Failure(
            f"the engine {mount}/ of this Vault is not KV version 2",
            "Name another with --mount, or move this one: vault kv enable-versioning.",
        )
    if f"{AUTH_MOUNT}/" not in client.sys.list_auth_methods()["data"]:
        client.sys.enable_auth_method("jwt", path=AUTH_MOUNT)
    client.auth.jwt.configure(
        jwks_url=jwks_url, jwt_supported_algs=["RS256", "EdDSA"], path=AUTH_MOUNT
    )
    written = []
    for folder in folders:
        for role in roles(folder, f"{mount}/data/{environment}", listed()):
            client.sys.create_or_update_policy(role.job, role.policy)
            settings = role_settings(role, runs_namespace if role.launched else namespace)
            client.write_data(f"auth/{AUTH_MOUNT}/role/{role.job}", data=settings)
            written.append(role.job)
    return written


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
    namespace: Annotated[str, typer.Option(help="The Nomad namespace of the jobs.")] = "default",
    runs_namespace: Annotated[
        str, typer.Option(help="The namespace of those that Airflow may launch.")
    ] = RUNS_NAMESPACE,
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
            namespace=namespace,
            runs_namespace=runs_namespace,
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
