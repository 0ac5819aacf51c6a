"""A Vault of the test run's own, in memory, that trusts one issuer as it would trust Nomad.

:func:`vault_server` is a fixture for the whole run; the folders that want it import it into their
conftest.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hvac
import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from scripts.tools import VAULT, ensure
from scripts.vault_setup import LOGIN
from tests.conftest import free_port
from tests.http_server import Answer, http_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Issuer:
    """Signs identities like Nomad's and publishes the key at :attr:`jwks_url`."""

    key: rsa.RSAPrivateKey
    jwks_url: str

    def identity(self, job: str, task: str, **changes: Any) -> str:
        """Return the identity of a task, with the claims that Nomad 1.11 puts into it."""
        now = int(time.time())
        claims = {
            "aud": "vault.io",
            "iat": now,
            "nbf": now - 5,
            "exp": now + 3600,
            "jti": secrets.token_hex(8),
            "sub": f"global:default:{job}:group:{task}:vault_default",
            "nomad_namespace": "default",
            "nomad_job_id": job,
            "nomad_task": task,
            "nomad_allocation_id": secrets.token_hex(16),
            **changes,
        }
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": "test"})


@contextmanager
def issuer() -> Iterator[Issuer]:
    """Serve the public key of a fresh issuer on a port of 127.0.0.1."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    keys = {"keys": [{**public, "kid": "test", "use": "sig", "alg": "RS256"}]}
    with http_server(Answer(body=keys)) as served:
        yield Issuer(key, f"{served.url}/.well-known/jwks.json")


@dataclass(frozen=True)
class VaultServer:
    """A running Vault 1.21 on 127.0.0.1 with an empty KV v2 at ``secret``."""

    address: str
    token: str
    issuer: Issuer

    def client(self, token: str | None = None) -> hvac.Client:
        return hvac.Client(url=self.address, token=token or self.token, timeout=10)

    def login(self, role: str, identity: str) -> hvac.Client:
        """Log in as a task would; raises :class:`hvac.exceptions.VaultError` when refused."""
        client = self.client("none")
        answer = client.auth.jwt.jwt_login(role=role, jwt=identity, path=LOGIN)
        client.token = answer["auth"]["client_token"]
        return client


@contextmanager
def running_vault() -> Iterator[VaultServer]:
    """Start a Vault that keeps nothing and end it again."""
    home = Path(tempfile.mkdtemp(prefix="harmattan-vault-", dir="/tmp"))
    port, token = free_port(), secrets.token_urlsafe(18)
    with issuer() as signer, (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [ensure(VAULT), "server", "-dev", "-dev-no-store-token",
             f"-dev-listen-address=127.0.0.1:{port}"],
            # Not on the command line, which every user of this machine can read.
            env={"PATH": os.environ["PATH"], "HOME": str(home), "VAULT_DEV_ROOT_TOKEN_ID": token,
                 "VAULT_DISABLE_FILE_PERMISSIONS_CHECK": "true"},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(200):
                if process.poll() is not None:
                    pytest.fail(f"Vault ended: {(home / 'log').read_text()[-2000:]}")
                if _is_ready(address):
                    break
                time.sleep(0.1)
            else:
                pytest.fail(f"Vault did not answer in 20 s: {(home / 'log').read_text()[-2000:]}")
            yield VaultServer(address, token, signer)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            shutil.rmtree(home, ignore_errors=True)


def _is_ready(address: str) -> bool:
    try:
        if requests.get(f"{address}/v1/sys/health", timeout=2).status_code != 200:
            return False
        # The KV engine is upgraded in the background after the start.
        return requests.get(f"{address}/v1/sys/internal/ui/mounts", timeout=2).status_code == 200
    except requests.RequestException:
        return False


@pytest.fixture(scope="session")
def vault_server() -> Iterator[VaultServer]:
    """One Vault for the whole test run: give what you set up a prefix or a mount of its own."""
    with running_vault() as server:
        yield server
