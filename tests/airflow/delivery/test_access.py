"""Fetching over https from git's own server: who gets in, and what is said of who does not."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.airflow.delivery.conftest import git
from tests.git_https import git_https
from tests.http_server import Answer, http_server
from tests.nomad.rendering import DEPLOYMENTS, output
from tests.tls import Authority

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.git_https import GitServer

pytestmark = pytest.mark.programs

FILES = {"dags/a.py": "# airflow dag\n", "pipelines/hr.yaml": "name: hr\n"}


@dataclass
class Https:
    """The analysts' repository on https, and how the gate is told of it."""

    verbs: Any
    server: GitServer
    authority: Authority
    template: str

    @property
    def url(self) -> str:
        return f"{self.server.url}/analysts.git"

    def environ(self, remote: str = "", login: str = "") -> dict[str, str]:
        """Return what the job gives ``fetch``, its file as the template renders it."""
        secret, own = self.verbs.place / "secrets/git_config", self.verbs.place / "own.pem"
        own.write_text(self.authority.pem)
        secret.unlink(missing_ok=True)
        secret.touch(mode=0o600)
        with_address = self.template.replace("https://git.example.org/d.git", remote or self.url)
        right, self.server.login = self.server.login, login or self.server.login
        self.server.config(with_address, secret)
        self.server.login = right
        return {
            "DELIVERY_REMOTE": remote or self.url,
            "DELIVERY_GIT_CONFIG": str(secret),
            "SSL_CERT_FILE": str(own),
        }

    def fetch(self, remote: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        done = self.verbs("fetch", **self.environ(remote), **more)
        assert self.server.login.split(":")[1] not in done.stderr
        assert self.server.header() not in done.stderr
        return done  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def template() -> str:
    """The template of git's configuration in the job, for https://git.example.org/d.git."""
    done = output(DEPLOYMENTS["dag-sync"], analysts_remote="https://git.example.org/d.git")
    assert done.returncode == 0, done.stderr
    (group,) = json.loads(done.stdout)["Job"]["TaskGroups"]
    (found,) = [
        str(each["EmbeddedTmpl"])
        for task in group["Tasks"]
        for each in task["Templates"] or []
        if each["DestPath"].endswith("/git_config")
    ]
    return found


@pytest.fixture
def https(verbs: Any, template: str) -> Iterator[Https]:
    authority, folder = Authority(), verbs.place / "tls"
    folder.mkdir()
    login = f"gate:{secrets.token_urlsafe(18)}"
    with git_https(verbs.place / "srv", folder, authority, login) as server:
        yield Https(verbs, server, authority, template)


def shown(*words: str) -> list[int]:
    """Return the processes of this machine that show one of ``words`` to who may look at them."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if any(word.encode() in text for word in words):
                pids.append(int(process.name))
    return pids


def test_a_push_over_https_is_delivered_and_its_login_stays_where_it_is(https: Https) -> None:
    verbs, server = https.verbs, https.server
    clone, environ = verbs.place / "clone", https.environ()
    verbs.remote.push(FILES)
    seen: list[int] = []
    server.asked = lambda: seen.extend(shown(server.login.split(":")[1], server.header()))
    login = ("-c", f"http.{server.url}/.extraHeader=Authorization: Basic {server.header()}",
             "-c", f"http.sslCAInfo={environ['SSL_CERT_FILE']}")  # fmt: skip
    git(*login, "clone", "--quiet", "--branch=main", https.url, str(clone))
    git("-C", str(clone), "commit", "--quiet", "--allow-empty", "--message=Over https")
    git("-C", str(clone), *login, "push", "--quiet")
    commit = git("-C", str(clone), "rev-parse", "HEAD")
    assert seen, "whoever logs in by an argument is seen"
    seen.clear()

    for verb in ("fetch", "publish"):
        done = verbs(verb, **environ)
        assert done.returncode == 0, done.stderr
    assert verbs.live("analysts") == commit
    assert "nothing new" in https.fetch().stderr
    assert seen == []
    assert set(server.answers) == {200}
    for kept in (verbs.incoming, verbs.mirror, verbs.place / "alloc"):
        for path in kept.rglob("*"):
            assert not path.is_file() or server.header().encode() not in path.read_bytes()


def assert_refused(done: subprocess.CompletedProcess[str], what: str, hint: str) -> None:
    assert done.returncode == 1, done.stderr
    message, _, said = done.stderr.partition("HINT: ")
    assert what in message
    assert hint in said
    assert "did not answer" not in done.stderr, "another try would end the same"


def test_who_may_not_in_and_what_is_not_there_are_said_at_once(https: Https) -> None:
    https.verbs.remote.push(FILES)
    began = time.monotonic()
    wrong = https.verbs("fetch", **https.environ(login=f"gate:{secrets.token_urlsafe(18)}"))
    assert_refused(wrong, https.url, "a token that may read the repository")
    assert set(https.server.answers) == {401}
    missing = https.fetch(f"{https.server.url}/other.git")
    assert_refused(missing, "other.git", "Correct the remote's path")
    (https.verbs.place / "secrets/git_config").unlink()
    done = https.verbs("fetch", DELIVERY_REMOTE=https.url, DELIVERY_GIT_CONFIG="/nowhere/config")
    assert done.returncode == 2
    assert "'/nowhere/config'" in done.stderr
    assert time.monotonic() - began < 10


def test_a_certificate_that_is_not_good_is_named_and_no_login_is_sent(https: Https) -> None:
    verbs = https.verbs
    verbs.remote.push(FILES)
    folder, root = verbs.place / "other", verbs.place / "srv"
    folder.mkdir()
    named = https.fetch(https.url.replace("127.0.0.1", "localhost"))
    assert_refused(named, "a certificate for other names than the host's", "give it one")
    login = https.server.login
    with git_https(root, folder, Authority("another authority"), login) as stranger:
        done = https.fetch(f"{stranger.url}/analysts.git")
        assert_refused(done, "an authority that is not trusted", "ca_certificates")
    with git_https(root, folder, https.authority, login, expired=True) as old:
        done = https.fetch(f"{old.url}/analysts.git")
        assert_refused(done, "found a certificate that has expired", "Renew it at the server")
    assert https.server.answers == stranger.answers == old.answers == []


def test_a_redirect_is_not_followed_and_a_silent_server_is_given_up(https: Https) -> None:
    https.verbs.remote.push(FILES)
    folder = https.verbs.place / "other"
    folder.mkdir()
    tls = https.authority.context(folder)
    query = "/info/refs?service=git-upload-pack"
    elsewhere = Answer(302, headers={"Location": f"{https.url}{query}"})
    with http_server(elsewhere, tls=tls) as moved:
        done = https.fetch(f"https://{moved.address}/analysts.git")
        assert_refused(done, "302", "a redirect is not followed")
    assert https.server.answers == []
    assert https.fetch().returncode == 0, "what it leads to is well"
    began = time.monotonic()
    with http_server(Answer(status=0), tls=tls) as silent:
        remote = f"https://{silent.address}/analysts.git"
        done = https.fetch(remote, DELIVERY_FETCH_SECONDS="4", DELIVERY_FETCH_ATTEMPTS="1")
        assert done.returncode == 1
        assert "HINT: See that the remote runs" in done.stderr
    assert time.monotonic() - began < 4
