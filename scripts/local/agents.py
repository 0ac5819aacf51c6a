"""The two agents of the one-machine platform, Vault and Nomad: started, initialised, unsealed."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import hvac
import requests

from frame.failure import Failure
from frame.progress import step
from scripts import cluster, nomad_setup
from scripts.cluster import NomadError
from scripts.local import processes
from scripts.local.home import (
    ADDRESS,
    LOCAL,
    NOMAD_ADDR,
    VAULT_ADDR,
    VOLUMES,
    Environment,
    kept,
)
from scripts.repository import HOME, ROOT, SECRETS, read_secret, write_private
from scripts.shell import run
from scripts.tools import NOMAD, VAULT, ensure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from scripts.cluster import Nomad

# The host volumes that the jobs name: the image's user that owns each, and its mode. Those of the
# stand-ins are there once, whatever environments use them.
HOST_VOLUMES = {
    # Workers' own, and triggerers', which no task writes.
    "airflow-logs": (50008, 0o755),
    "airflow-trigger-logs": (50000, 0o755),
    # What fetch brings is read by the judge as another user, and the mirror by whoever may clone.
    "dag-incoming": (50000, 0o755),
    "dag-mirror": (50000, 0o755),
    "backup-scratch": (50001, 0o700),
    "scratch-server": (50004, 0o700),
    "local-b2": (50002, 0o700),
    "local-git": (50002, 0o700),
    "local-postgres": (50002, 0o700),
}

STAND_INS = "local-"

# As long as the agent allows, and how much of it must be left: more than `make status` warns of.
TOKEN_TTL = "2160h"  # noqa: S105 - 90 days
TOKEN_LASTS = timedelta(days=30)

# AWS_CA_BUNDLE kills Nomad's fingerprinter, and nothing else of the operator's shell is needed.
_ENVIRONMENT = {"HOME": str(HOME), "LANG": "C.UTF-8"}


def vault_client(token: str | None = None) -> hvac.Client:
    """Return a client of the local Vault; ``token`` defaults to the root token of its set-up."""
    if token is None and (SECRETS / "vault.json").exists():
        token = read_secret("vault")["root_token"]
    return hvac.Client(url=VAULT_ADDR, token=token, timeout=30)


def nomad_client(token: str | None = None, namespace: str | None = None) -> Nomad:
    """Return a client of the local Nomad; ``token`` defaults to the platform team's."""
    if token is None and (SECRETS / "nomad-platform.json").exists():
        token = read_secret("nomad-platform")
    return cluster.connect(NOMAD_ADDR, token, namespace=namespace)


def start_vault() -> None:
    """Start Vault, initialise it the first time and unseal it with the locally kept key."""
    settings = ROOT / "nomad/agents/vault-local.hcl"
    (HOME / "vault").mkdir(parents=True, exist_ok=True, mode=0o700)
    _start("vault", [ensure(VAULT), "server", f"-config={settings}"], [settings])
    processes.wait_for("vault", lambda: _answers(f"{VAULT_ADDR}/v1/sys/seal-status"))
    client = vault_client()
    if not client.sys.is_initialized():
        with step("initialise Vault"):
            # One key share: this machine holds it anyway. Production keeps several, apart.
            kept("vault", lambda: client.sys.initialize(secret_shares=1, secret_threshold=1))
    if client.sys.is_sealed():
        client.sys.submit_unseal_keys(read_secret("vault")["keys"])
    processes.wait_for("vault", lambda: _answers(f"{VAULT_ADDR}/v1/sys/health"))


def start_nomad(*beside: Environment) -> None:
    """Start the Nomad agent, bootstrap its ACLs the first time, set namespaces and policies.

    It gets the host volumes of this machine's environment, and of those ``beside`` it.
    """
    data, settings = HOME / "nomad", [ROOT / "nomad/agents/local.hcl", HOME / "volumes.hcl"]
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings[1].write_text(_host_volumes((LOCAL, *beside)))
    words = [*(f"-config={file}" for file in settings), f"-data-dir={data}"]
    _start("nomad", [ensure(NOMAD), "agent", *words], settings)
    processes.wait_for("nomad", _has_leader)
    client = nomad_client(kept("nomad-bootstrap", _bootstrap))
    for environment in (LOCAL, *beside):
        nomad_setup.set_up(client, environment=environment.name, namespaces=environment.namespaces)
        for name in nomad_setup.PEOPLE:
            keep_token(client, name, environment)
    # Only a node that registered can be told anything; its drivers are looked at before that.
    processes.wait_for("nomad", _node_is_ready)
    _node("drain", "-disable", "-self", "-yes")


def _start(name: str, command: list[str | Path], files: list[Path]) -> None:
    """Start an agent, also when it runs with other settings; what it runs goes on meanwhile."""
    if not processes.is_up_to_date(name, command, files):
        with step(f"start {name.capitalize()}"):
            processes.start(name, command, files=files, environment=_ENVIRONMENT)


def drain(timeout: float) -> None:
    """Stop every job in good order, for at most ``timeout`` seconds; they come back with Nomad."""
    _node("drain", "-enable", "-self", "-yes", f"-deadline={timeout:.0f}s", timeout=timeout + 60)


def _node(*words: str, timeout: float = 60) -> None:
    run(
        "nomad-node",
        [ensure(NOMAD), "node", *words],
        environment={"NOMAD_ADDR": NOMAD_ADDR, "NOMAD_TOKEN": read_secret("nomad-bootstrap")},
        timeout=timeout,
    )


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


def _has_leader() -> bool:
    try:
        answer = requests.get(f"{NOMAD_ADDR}/v1/status/leader", timeout=5)
    except requests.ConnectionError:
        return False
    return answer.ok and ADDRESS in answer.text


def _node_is_ready() -> bool:
    nodes = nomad_client().nodes.get_nodes()
    return any(node["Status"] == "ready" and node["Drivers"]["docker"]["Healthy"] for node in nodes)


def _bootstrap() -> str:
    answer = requests.post(f"{NOMAD_ADDR}/v1/acl/bootstrap", timeout=30)
    if not answer.ok:
        raise Failure(
            "Nomad's ACLs were bootstrapped before, and the token is not in .local/secrets",
            "Put the token back, or remove the local platform with `make clean`.",
        )
    return str(answer.json()["SecretID"])


def keep_token(client: Nomad, name: str, environment: Environment = LOCAL) -> None:
    """Have a token of ``name`` in .local/secrets that lasts, a new one if there is none."""
    file = f"{environment.prefix}nomad-{name}"
    policy = nomad_setup.policy_name(environment.name, name)
    before = _token(read_secret(file)) if (SECRETS / f"{file}.json").exists() else None
    if before and before["Policies"] == [policy] and _lasts(before):
        return
    token = {"Name": name, "Type": "client", "Policies": [policy], "ExpirationTTL": TOKEN_TTL}
    write_private(SECRETS / f"{file}.json", json.dumps(client.acl.create_token(token)["SecretID"]))
    if before:
        client.acl.delete_token(before["AccessorID"])


def _token(secret: str) -> dict[str, Any] | None:
    """Return what Nomad knows of a token, ``None`` if it has ended."""
    try:
        return nomad_client(secret).acl.get_self_token()  # type: ignore[no-any-return]
    except NomadError:
        return None


def _lasts(token: Mapping[str, Any]) -> bool:
    if not (ends := token.get("ExpirationTime")):
        return False  # of an older release: it has no end
    return datetime.fromisoformat(ends) - datetime.now(UTC) > TOKEN_LASTS


def _host_volumes(environments: Iterable[Environment]) -> str:
    blocks = []
    volumes = {
        f"{each.prefix}{name}": rights
        for each in environments
        for name, rights in HOST_VOLUMES.items()
        if each == LOCAL or not name.startswith(STAND_INS)
    }
    for name, (user, mode) in volumes.items():
        path = VOLUMES / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        os.chown(path, user, user)
        blocks.append(f'  host_volume "{name}" {{\n    path = "{path}"\n  }}\n')
    return "client {\n" + "\n".join(blocks) + "}\n"
