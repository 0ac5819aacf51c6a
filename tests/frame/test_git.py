"""Git as this house starts it: nothing that others configure takes part, and all is bounded."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from frame.git import MEBIBYTE, Git, GitError, fetched, reader
from tests.git_https import GitServer, git_https
from tests.nomad.rendering import DEPLOYMENTS, output
from tests.tls import PUBLIC, Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIVE = "refs/heads/live"


def git(*words: str | Path) -> str:
    return subprocess.check_output(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], text=True
    ).strip()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A repository of two commits, whose second has three megabytes that cannot be packed."""
    work = tmp_path / "work"
    git("init", "--quiet", "--initial-branch=live", work)
    (work / "small").write_text("one")
    git("-C", work, "add", "small")
    git("-C", work, "commit", "--quiet", "--message=First")
    with (work / "large").open("wb") as file, open("/dev/urandom", "rb") as chance:
        file.write(chance.read(3 * MEBIBYTE))
    git("-C", work, "add", "large")
    git("-C", work, "commit", "--quiet", "--message=Second")
    return f"file://{work}"


def test_one_commit_comes_without_its_history(url: str) -> None:
    with fetched(url, LIVE, seconds=20, most=9 * MEBIBYTE) as (repository, commit):
        assert repository.text("rev-list", "--count", commit) == "1"
        assert repository.run("cat-file", "blob", f"{commit}:small") == b"one"
    assert not repository.repository or not repository.repository.exists()


def test_a_commit_is_fetched_by_its_id(url: str) -> None:
    first = git("-C", url.removeprefix("file://"), "rev-parse", "live~1")
    with fetched(url, first, seconds=20, most=MEBIBYTE) as (_, commit):
        assert commit == first


def test_what_is_larger_than_its_bound_is_an_error(url: str) -> None:
    with (
        pytest.raises(GitError, match="git fetch failed"),
        fetched(url, LIVE, seconds=20, most=MEBIBYTE),
    ):
        pytest.fail("it came")


def test_a_transport_that_the_address_does_not_name_is_refused(url: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    git("init", "--quiet", "--bare", made)
    with pytest.raises(GitError, match="transport 'file' not allowed"):
        Git(made, protocol="git").run("fetch", url, LIVE)
    with pytest.raises(GitError, match="transport 'ext' not allowed"):
        Git(made, protocol="git").run("fetch", "ext::sh -c id", LIVE)


@pytest.fixture
def mirror(url: str, tmp_path: Path) -> Iterator[tuple[GitServer, Authority]]:
    """The same repository on a site's own server with https and a login."""
    git("clone", "--quiet", "--bare", url, tmp_path / "served/pipelines.git")
    (tmp_path / "tls").mkdir()
    authority = Authority()
    with git_https(tmp_path / "served", tmp_path / "tls", authority, "reader:to/k:en") as server:
        yield server, authority


def template(job_id: str, address: str) -> str:
    """Return the template of git's configuration in a job that reads from ``address``."""
    done = output(DEPLOYMENTS[job_id], dag_mirror_login="true", dag_mirror_url=address)
    assert done.returncode == 0, done.stderr
    (found,) = [
        each["EmbeddedTmpl"]
        for group in json.loads(done.stdout)["Job"]["TaskGroups"]
        for task in group["Tasks"]
        for each in task["Templates"] or []
        if each["DestPath"].endswith("/git_config")
    ]
    return str(found)


@pytest.mark.programs
def test_a_mirror_with_https_is_read_by_who_trusts_it_and_may(
    mirror: tuple[GitServer, Authority], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, authority = mirror
    address, own = f"{server.url}/pipelines.git", tmp_path / "own.pem"
    own.write_text(authority.pem)
    config = server.config(template("ingest-hr", server.url), tmp_path / "git_config")

    def read(login: Path | None) -> str:
        with fetched(address, LIVE, seconds=20, most=9 * MEBIBYTE, config=login) as (found, commit):
            assert (
                reader(address, config=login).text("ls-remote", "--", address, LIVE)[:40] == commit
            )
            return found.run("cat-file", "blob", f"{commit}:small").decode()

    monkeypatch.setenv("SSL_CERT_FILE", PUBLIC)
    with pytest.raises(GitError, match="certificate"):
        read(config)
    assert server.answers == []
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    with pytest.raises(GitError, match=r"could not read Username|Authentication failed"):
        read(None)
    assert set(server.answers) == {401}
    server.answers.clear()
    assert read(config) == "one"
    assert set(server.answers) == {200}


@pytest.mark.programs
def test_the_login_is_for_the_mirror_alone(
    mirror: tuple[GitServer, Authority], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, authority = mirror
    (tmp_path / "own.pem").write_text(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    elsewhere = template("ingest-hr", "https://git.example.org:8443")
    config = server.config(elsewhere, tmp_path / "git_config")
    with pytest.raises(GitError):
        reader(server.url, config=config).text("ls-remote", "--", f"{server.url}/pipelines.git")
    assert set(server.answers) == {401}


@pytest.mark.programs
@pytest.mark.parametrize(
    "job_id",
    [
        "airflow-worker-analysts",
        "airflow-dag-processor-pipelines",
        "airflow-webserver",
        "superset-dashboards",
    ],
)
def test_every_reader_of_the_mirror_logs_in_the_same_way(job_id: str) -> None:
    address = "https://git.example.org/mirror"
    assert template(job_id, address) == template("ingest-hr", address)
