"""A running endpoint for tests: ``from standins.b2_server.endpoint import b2_endpoint``."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from b2sdk.v3 import B2Api, B2HttpApiConfig, Bucket, InMemoryAccountInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROOT = Path(__file__).resolve().parents[2]
# The server listens within a second; a busy machine gets twenty.
_START_SECONDS = 20


@dataclass(frozen=True)
class ApplicationKey:
    """A key's id and secret."""

    key_id: str
    key: str


@dataclass
class B2Endpoint:
    """A server process of the test run's own, and what an administrator may do with it."""

    url: str
    account_id: str
    key_id: str
    key: str = field(repr=False)
    home: Path
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def api(self, key: ApplicationKey | None = None) -> B2Api:
        """Return b2sdk's client, authorised with ``key`` or the master key."""
        # Tests move the server's clock, and the client's look at it would refuse that.
        config = B2HttpApiConfig(install_clock_skew_hook=False)
        api = B2Api(InMemoryAccountInfo(), api_config=config)
        used = key or ApplicationKey(self.key_id, self.key)
        api.authorize_account(
            application_key_id=used.key_id, application_key=used.key, realm=self.url
        )
        return api

    def create_bucket(self, name: str | None = None, **settings: Any) -> Bucket:
        """Create a private bucket, of a random name if none is given."""
        bucket_name = name or f"test-{secrets.token_hex(8)}"
        return self.api().create_bucket(bucket_name, "allPrivate", **settings)

    def create_key(
        self,
        name: str,
        capabilities: Sequence[str],
        bucket: Bucket | str | None = None,
        prefix: str | None = None,
        seconds: int | None = None,
    ) -> ApplicationKey:
        """Create a key, for one bucket (or its id) and one prefix of names if given."""
        bucket_id = bucket.id_ if isinstance(bucket, Bucket) else bucket
        made = self.api().create_key(
            capabilities=list(capabilities), key_name=name, valid_duration_seconds=seconds,
            bucket_ids=None if bucket_id is None else [bucket_id], name_prefix=prefix,
        )  # fmt: skip
        return ApplicationKey(made.id_, made.application_key)

    def advance(self, *, days: float = 0, seconds: float = 0) -> None:
        """Move the server's clock forward and let it apply the lifecycle rules."""
        self._post("clock", {"advance_seconds": int(days * 86400 + seconds)})

    def reset_clock(self) -> None:
        """Set the server's clock back to the machine's time."""
        self._post("clock", {"reset": True})

    def set_faults(self, *faults: dict[str, Any]) -> None:
        """Replace the faults that calls meet; none takes all back. See ``faults.Fault``."""
        self._post("faults", {"faults": list(faults)})

    def faults_left(self) -> list[dict[str, Any]]:
        """Return the faults that no call has met yet."""
        answer = requests.get(f"{self.url}/harmattan-test/faults", auth=self._auth(), timeout=10)
        answer.raise_for_status()
        left: list[dict[str, Any]] = answer.json()["faults"]
        return left

    def start(self) -> None:
        """Start the server, on the port that it had before if it ran before."""
        port = self.url.rpartition(":")[2] if self.url else "0"
        with (self.home / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "standins.b2_server", "--data", self.home / "data",
                 "--credentials", self.home / "credentials.json", "--port", port,
                 *self.arguments],
                cwd=_ROOT, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"the B2 endpoint did not start: see {self.home}/server.log")
        self.url = line.removeprefix("listening on ").strip()

    def stop(self, *, kill: bool = False) -> None:
        """End the server; its data stays."""
        if self.process is not None:
            if kill:
                self.process.kill()
            else:
                self.process.terminate()
            self.process.wait(_START_SECONDS)
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None

    def _post(self, what: str, body: dict[str, Any]) -> None:
        answer = requests.post(
            f"{self.url}/harmattan-test/{what}", json=body, auth=self._auth(), timeout=60
        )
        if not answer.ok:
            raise ValueError(answer.text)

    def _auth(self) -> tuple[str, str]:
        return self.key_id, self.key


@contextmanager
def running_endpoint(home: Path, *arguments: str) -> Iterator[B2Endpoint]:
    """Run a server of its own in ``home``, with more arguments of its command line."""
    account_id = secrets.token_hex(6)
    endpoint = B2Endpoint("", account_id, account_id, secrets.token_urlsafe(24), home, arguments)
    credentials = {"account_id": account_id, "key_id": endpoint.key_id, "key": endpoint.key}
    (home / "credentials.json").write_text(json.dumps(credentials))
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()


@pytest.fixture(scope="session")
def b2_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Endpoint]:
    """One server for the whole test run, with B2's own limits."""
    with running_endpoint(tmp_path_factory.mktemp("b2")) as endpoint:
        yield endpoint
