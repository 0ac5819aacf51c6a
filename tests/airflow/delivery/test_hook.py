"""Calls of a git server, taken by the plugin's own app, and a real Nomad that is asked."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests
import uvicorn

from delivery import hook
from scripts import nomad_setup
from scripts.cluster import NomadError, connect
from scripts.jobs import Namespaces
from tests.conftest import free_port
from tests.nomad.agent import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripts.cluster import Nomad

pytestmark = pytest.mark.programs

BODY = b'{"ref": "refs/heads/main"}'
JOB: dict[str, Any] = {
    "ID": "dag-sync",
    "Type": "batch",
    "Datacenters": ["*"],
    "Periodic": {"Enabled": True, "SpecType": "cron", "Spec": "0 0 1 1 *"},
    "TaskGroups": [
        {"Name": "g", "Tasks": [{"Name": "t", "Driver": "raw_exec", "Config": {"command": "true"}}]}
    ],
}


@dataclass
class World:
    """The web server's part, its secret, and a Nomad without a node: what is started waits."""

    url: str
    secret: str
    nomad: Nomad  # with all rights
    held: Nomad  # with the web server's

    def call(self, body: bytes = BODY, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.post(self.url, data=body, headers=named, timeout=30)

    def signature(self, body: bytes = BODY) -> str:
        return hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()

    def rounds(self) -> set[str]:
        """Return the rounds that have not ended."""
        found = self.nomad.jobs.get_jobs(prefix="dag-sync/periodic-")
        return {each["ID"] for each in found if each["Status"] != "dead"}

    def other_round(self, than: str = "") -> str:
        """Return the one round, when it is another one."""
        deadline = time.monotonic() + 30
        while len(found := self.rounds()) != 1 or than in found:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found.pop()

    def end(self) -> None:
        """End the rounds; Nomad says a moment later that they are dead."""
        for each in self.rounds():
            self.nomad.job.deregister_job(each)
        deadline = time.monotonic() + 30
        while found := self.rounds():
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an app as the web server does, and yield its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("hook")
    (place / "nomad").mkdir()
    with running_server(place / "nomad") as server, pytest.MonkeyPatch.context() as patch:
        nomad = connect(server.address, server.token)
        nomad.job.register_job("dag-sync", {"Job": JOB})
        rules = nomad_setup.rules("push-hook", Namespaces())
        nomad.acl.create_policy("push-hook", {"Name": "push-hook", "Rules": rules})
        token = nomad.acl.create_token({"Type": "client", "Policies": ["push-hook"]})["SecretID"]
        secret = secrets.token_urlsafe(32)
        (place / "token").write_text(token)
        (place / "secret").write_text(secret)
        patch.setenv("NOMAD_ADDR", server.address)
        patch.setenv("DELIVERY_NOMAD_TOKEN_FILE", str(place / "token"))
        patch.setenv("DELIVERY_HOOK_SECRET_FILE", str(place / "secret"))
        with served(hook.app) as url:
            yield World(url, secret, nomad, connect(server.address, token))


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X_Hub_Signature_256", "sha256={signature}"),
        ("X_Gitea_Signature", "{signature}"),
        ("X_Gitlab_Token", "{secret}"),
    ],
)
def test_a_call_starts_a_round(world: World, header: str, value: str) -> None:
    given = value.format(signature=world.signature(), secret=world.secret)
    answer = world.call(**{header: given})
    assert answer.status_code == 202
    assert world.other_round()
    world.end()


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X_Hub_Signature_256", "{signature}"),
        ("X_Hub_Signature_256", "sha256="),
        ("X_Hub_Signature_256", "sha256={other}"),
        ("X_Gitea_Signature", "sha256={signature}"),
        ("X_Gitea_Signature", ""),
        ("X_Gitlab_Token", ""),
        ("X_Gitlab_Token", "{secret}x"),
        ("X_Other", "{secret}"),
    ],
)
def test_what_is_not_signed_is_not_believed(
    world: World, header: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = value.format(
        signature=world.signature(), other=world.signature(b"{}"), secret=world.secret
    )
    answer = world.call(**{header: given})
    assert answer.status_code == 403
    assert not world.rounds()
    assert world.secret not in answer.text + caplog.text


def test_a_body_without_end_is_not_read(world: World) -> None:
    body = b" " * (hook.MOST_BYTES + 1)
    answer = world.call(body, X_Gitea_Signature=world.signature(body))
    assert answer.status_code == 413
    assert not world.rounds()


def test_a_body_that_never_ends_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "MOST_SECONDS", 0.2)
    asked = urlsplit(world.url)
    with socket.create_connection((asked.hostname or "", asked.port or 0), timeout=30) as caller:
        caller.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\nslow")
        assert caller.recv(1000).startswith(b"HTTP/1.1 408")


def test_without_a_secret_there_is_nothing_to_call(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    monkeypatch.setenv("DELIVERY_HOOK_SECRET_FILE", str(empty))
    assert world.call(X_Gitlab_Token="").status_code == 403
    monkeypatch.setenv("DELIVERY_HOOK_SECRET_FILE", str(tmp_path / "absent"))
    assert world.call(X_Gitlab_Token=world.secret).status_code == 404


def test_calls_during_a_round_start_another_when_it_has_ended(world: World) -> None:
    world.call(X_Gitlab_Token=world.secret)
    first = world.other_round()
    for _ in range(3):
        assert world.call(X_Gitlab_Token=world.secret).status_code == 202
    time.sleep(1.5)
    assert world.rounds() == {first}
    world.nomad.job.deregister_job(first)
    second = world.other_round(than=first)
    time.sleep(1.5)
    assert world.rounds() == {second}
    world.end()


def test_its_identity_starts_a_round_and_nothing_else(world: World) -> None:
    for forbidden in (
        lambda: world.held.job.register_job("other", {"Job": {**JOB, "ID": "other"}}),
        lambda: world.held.job.deregister_job("dag-sync"),
        world.held.nodes.get_nodes,
        world.held.acl.get_tokens,
    ):
        with pytest.raises((NomadError, requests.RequestException)):
            forbidden()


def test_a_nomad_that_is_away_costs_the_caller_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOMAD_ADDR", "http://127.0.0.1:1")
    assert world.call(X_Gitlab_Token=world.secret).status_code == 202
