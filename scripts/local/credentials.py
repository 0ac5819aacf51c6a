"""The local platform's secrets: made at random once, kept under ``.local/secrets``, put into Vault.

Production does none of this: there people write the same paths (docs/runbook.md lists them).
"""

from __future__ import annotations

import base64
import json
import secrets
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gnupg
import hvac
import hvac.exceptions
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from backup.proof.kept import DRILL
from backup.registry import load_registry
from backup.settings import REGISTRY
from scripts.local import databases
from scripts.local.agents import vault_client
from scripts.local.backblaze import bucket_keys
from scripts.local.home import ADDRESS, LOCAL, PORTS, Environment, kept

if TYPE_CHECKING:
    from collections.abc import Callable

MOUNT = "secret"
GIT_PORT = PORTS["the analysts' git remote"][0]


@dataclass(frozen=True)
class SshKey:
    """An Ed25519 key pair in OpenSSH's formats."""

    private: str
    public: str


def ssh_key(name: str) -> SshKey:
    """Return the SSH key ``name``, made the first time."""

    def make() -> dict[str, str]:
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return {"private": private.decode(), "public": public.decode()}

    return SshKey(**kept(f"ssh-{name}", make))


def gpg_key(name: str, *, encrypts: bool = True) -> dict[str, str]:
    """Return the GPG key ``name`` as ``{"public", "private"}``, armoured, made the first time.

    Without ``encrypts`` it can sign and nothing else.
    """
    subkey = {"subkey_type": "ECDH", "subkey_curve": "cv25519"} if encrypts else {}

    def make() -> dict[str, str]:
        with tempfile.TemporaryDirectory() as home:
            gpg = gnupg.GPG(gnupghome=home)
            settings = gpg.gen_key_input(
                name_real=f"Harmattan {name}",
                name_email=f"{name}@localhost",
                key_type="EDDSA",
                key_curve="ed25519",
                **subkey,
                expire_date="2y",
                no_protection=True,
            )
            fingerprint = gpg.gen_key(settings).fingerprint
            return {
                "public": gpg.export_keys(fingerprint),
                "private": gpg.export_keys(fingerprint, secret=True, expect_passphrase=False),
            }

    return kept(f"gpg-{name}", make)  # type: ignore[no-any-return]


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def b2_master_key() -> dict[str, str]:
    """Return the master key of the local B2 endpoint."""
    make: Callable[[], dict[str, str]] = lambda: {  # noqa: E731
        "account_id": secrets.token_hex(6),
        "key_id": secrets.token_hex(6),
        "key": secrets.token_urlsafe(24),
    }
    return kept("b2-master", make)  # type: ignore[no-any-return]


def stand_ins() -> dict[str, dict[str, Any]]:
    """Return what the jobs of nomad/local read, by path."""
    return {
        "local/postgres": {"password": kept("postgres")},
        "local/b2": b2_master_key(),
        "local/git": {
            "host_key": ssh_key("host").private,
            "analysts_key_public": ssh_key("analysts").public,
            "deploy_key_public": ssh_key("deploy").public,
        },
    }


def platform() -> dict[str, dict[str, Any]]:
    """Return what the jobs of nomad/jobs read, by path; the stand-ins run already."""
    return {**services(LOCAL), **_backups()}


def services(environment: Environment) -> dict[str, dict[str, Any]]:
    """Return what all jobs of an environment read but those that make and prove backups."""
    own = environment.kept

    def uri(name: str) -> str:
        return databases.role(name, environment.databases).uri

    values: dict[str, dict[str, Any]] = {
        "airflow/fernet": {"key": own("airflow-fernet", _fernet_key)},
        "airflow/jwt": {"secret": own("airflow-jwt", lambda: secrets.token_urlsafe(64))},
        "airflow/api": {"secret_key": own("airflow-api", lambda: secrets.token_urlsafe(64))},
        "airflow/admin": {"username": "admin", "password": own("airflow-admin")},
        "airflow/database/migrate": {"uri": _sqlalchemy(uri("airflow_migrate"))},
        "airflow/database/clean": {"uri": _sqlalchemy(uri("airflow_clean"))},
        "airflow/warehouse": {"uri": uri("warehouse_report")},
        "superset/secret-key": {"key": own("superset-key", lambda: secrets.token_urlsafe(48))},
        "superset/admin": {"username": "admin", "password": own("superset-admin")},
        # Nobody's identity provider on one machine: people have passwords of Superset's own.
        "superset/oidc": {"issuer": "", "client_id": "", "client_secret": ""},
        "superset/database/migrate": {"uri": uri("superset_migrate")},
        "superset/warehouse": {"uri": uri("bi")},
        "connections/ingest/warehouse": {"conn_uri": uri("warehouse_loader")},
        "connections/ingest/warehouse_checks": {"conn_uri": uri("warehouse_checks")},
        "connections/analysts/warehouse": {"conn_uri": uri("warehouse_analyst")},
        "containers/meltano": {
            "TAP_POSTGRES_SQLALCHEMY_URL": uri("service_desk_meltano"),
            "TARGET_POSTGRES_SQLALCHEMY_URL": uri("warehouse_meltano"),
            "MELTANO_DATABASE_URI": uri("warehouse_meltano").replace(":", "+psycopg:", 1)
            + "?options=-csearch_path%3Dmeltano_state",
        },
        "delivery/alerts": {"webhook": ""},  # nobody is told on one machine
        "delivery/push-hook": {"secret": own("push-hook")},
        "delivery/remote": {
            "deploy_key": ssh_key("deploy").private,
            "known_hosts": f"[{ADDRESS}]:{GIT_PORT} {ssh_key('host').public}\n",
        },
    }
    for job in databases.AIRFLOW_JOBS:
        role = f"airflow_{job.replace('-', '_')}"
        values[f"airflow/database/{job}"] = {"uri": _sqlalchemy(uri(role))}
    for job in databases.SUPERSET_JOBS:
        values[f"superset/database/{job}"] = {"uri": uri(f"superset_{job}")}
    for user in ("scheduler", "worker-analysts"):
        values[f"redis/{user}"] = {"password": own(f"redis-{user}")}
    for source in databases.SOURCES:
        values[f"connections/ingest/{source}"] = {"conn_uri": uri(f"{source}_ingest")}
        key = own(f"ingest-hash-key-{source}", lambda: secrets.token_hex(32))
        values[f"connections/ingest/hash_key/{source}"] = {"conn_uri": f"generic://:{key}@hash"}
    return values


def _backups() -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {
        "backup/recipients": {"armor": gpg_key("recovery")["public"] + gpg_key("drill")["public"]},
        "backup/drill-key": {"armor": gpg_key("drill")["private"]},
        "backup/manifest-recipient": {"armor": gpg_key("manifests")["public"]},
        "backup/manifest-key": {"armor": gpg_key("manifests")["private"]},
    }
    for database in databases.DATABASES:
        values[f"backup/databases/{database}"] = {"uri": databases.role(f"{database}_backup").uri}
    values["backup/servers/postgres"] = {"uri": databases.role("observer").uri}
    for name, key in signing_keys().items():
        values[f"backup/signing/{name}"] = {"armor": key["private"]}
    values["backup/signers"] = signers()
    values["backup/alerts"] = {"webhook": "", "ping": ""}  # nobody is told on one machine
    for name, key in bucket_keys().items():
        values[f"backup/b2/{name}"] = key
    return values


def signing_keys() -> dict[str, dict[str, str]]:
    """Return the GPG key of all that is backed up, which signs manifests, and the drill's."""
    names = [*(entry.name for entry in load_registry(REGISTRY).entries), DRILL]
    return {name: gpg_key(f"signing-{name}", encrypts=False) for name in names}


def signers() -> dict[str, str]:
    """Return their public halves."""
    return {name: key["public"] for name, key in signing_keys().items()}


def recovery_fingerprint() -> str:
    """Return the fingerprint of the recovery key, which the jobs pin."""
    with tempfile.TemporaryDirectory() as home:
        (key,) = gnupg.GPG(gnupghome=home).scan_keys_mem(gpg_key("recovery")["public"])
    return str(key["fingerprint"])


def _sqlalchemy(uri: str) -> str:
    return uri.replace("postgresql:", "postgresql+psycopg2:", 1)


def write(values: dict[str, dict[str, Any]], environment: Environment = LOCAL) -> list[str]:
    """Put ``values`` into the local Vault; return the paths that were new or had changed."""
    kv = vault_client().secrets.kv.v2
    changed = []
    for name, value in values.items():
        path = f"{environment.name}/{name}"
        try:
            answer = kv.read_secret_version(path, mount_point=MOUNT, raise_on_deleted_version=True)
            if answer["data"]["data"] == json.loads(json.dumps(value)):
                continue
        except hvac.exceptions.InvalidPath:
            pass
        kv.create_or_update_secret(path, value, mount_point=MOUNT)
        changed.append(name)
    return changed
