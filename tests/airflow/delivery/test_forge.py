"""Commit statuses, held against what each server's documentation says of its form."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from delivery.forge import tell
from delivery.settings import PublishSettings
from delivery.verdict import Finding, Verdict
from tests.http_server import Answer, http_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.http_server import HttpServer

# GitHub: REST, "Create a commit status"; GitLab: "Set commit pipeline status"; Gitea: CreateStatus.
PATHS = {
    "github": "/repos/school/dags",
    "gitlab": "/api/v4/projects/12",
    "gitea": "/api/v1/repos/school/dags",
}
STATES = {
    "github": {"error", "failure", "pending", "success"},
    "gitlab": {"pending", "running", "success", "failed", "canceled", "skipped"},
    "gitea": {"pending", "success", "error", "failure", "warning"},
}
NAMES = {
    "github": {"state", "target_url", "description", "context"},
    "gitlab": {"state", "ref", "name", "context", "target_url", "description", "coverage",
               "pipeline_id"},
    "gitea": {"state", "target_url", "description", "context"},
}  # fmt: skip
LONGEST = {"github": 140, "gitlab": 255, "gitea": 255}
GOOD = {"dags/a.py": "x = 1\n"}
FORGES = sorted(PATHS)
PAGES = "https://airflow.example.org/delivery"


@pytest.fixture
def forge() -> Iterator[HttpServer]:
    with http_server(Answer(status=201)) as served:
        yield served


def token_of(forge: str, headers: dict[str, str]) -> str:
    """Return the token of a request, where that server looks for it."""
    found = {name.lower(): value for name, value in headers.items()}
    if forge == "gitlab":
        return found["private-token"]
    scheme, _, token = found["authorization"].partition(" ")
    assert scheme == {"github": "Bearer", "gitea": "token"}[forge]
    if forge == "github":
        assert found["accept"] == "application/vnd.github+json"
        assert found["x-github-api-version"] == "2022-11-28"
    return token


def settings(place: Path, name: str, forge: HttpServer, token: str) -> dict[str, str]:
    file = place / "secrets" / "forge_token"
    file.write_text(f"{token}\n")
    return {
        "DELIVERY_FORGE": name,
        "DELIVERY_FORGE_URL": forge.url + PATHS[name],
        "DELIVERY_FORGE_TOKEN_FILE": str(file),
        "DELIVERY_PAGES": PAGES,
    }


def valid(name: str, commit: str, token: str, forge: HttpServer) -> dict[str, Any]:
    """Return the one status that was posted, after a look at its form."""
    (request,), (body,) = forge.requests, forge.posts
    assert request.path == f"{PATHS[name]}/statuses/{commit}"
    assert token_of(name, request.headers) == token
    assert body.keys() <= NAMES[name]
    assert body["state"] in STATES[name]
    assert 0 < len(body["description"]) <= LONGEST[name]
    assert body["target_url"] == f"{PAGES}/{commit}"
    assert token not in str(body)
    return dict(body)


@pytest.mark.parametrize("name", FORGES)
def test_a_verdict_is_told_in_the_servers_own_form(
    tmp_path: Path, forge: HttpServer, name: str
) -> None:
    token, commit = secrets.token_hex(), "a" * 40
    (tmp_path / "secrets").mkdir()
    environ = settings(tmp_path, name, forge, token)
    known = PublishSettings.from_environment({**environ, "NOMAD_ALLOC_ID": "x"})
    found = tuple(Finding.of(f"dags/{'x' * 260}", "too long") for _ in range(2))
    for verdict, states, said in (
        (Verdict(commit, "sound", "", True, 1, "", commit), {"success"}, "live"),
        (
            Verdict(commit, "refused", "", True, 1, "", "", found),
            {"failure", "failed"},
            "2 findings: dags/",
        ),
    ):
        tell(known, verdict)
        body = valid(name, commit, token, forge)
        assert body["state"] in states
        assert body["description"].startswith(said)
        forge.requests.clear()
        forge.posts.clear()


def test_a_sound_push_is_told_once(verbs: Any, forge: HttpServer) -> None:
    token = secrets.token_hex()
    commit = verbs.remote.push(GOOD)
    for _ in range(2):
        verbs("fetch")
        done = verbs("publish", **settings(verbs.place, "github", forge, token))
        assert done.returncode == 0
        assert token not in done.stderr
    body = valid("github", commit, token, forge)
    assert (body["state"], body["description"]) == ("success", "live")


@pytest.mark.parametrize(
    ("status", "again"), [(401, False), (503, True)], ids=str
)  # fmt: skip
def test_a_server_that_does_not_take_it_changes_no_verdict(
    verbs: Any, forge: HttpServer, status: int, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delivery.forge._PATIENCE", 0.5)
    token = secrets.token_hex()
    forge.answer(Answer(status=status, body={"message": "no"}))
    commit = verbs.remote.push(GOOD)
    verbs("fetch")
    done = verbs("publish", **settings(verbs.place, "github", forge, token))
    assert done.returncode == 0
    assert verbs.live("analysts") == commit
    assert (len(forge.posts) > 1) == again
    assert "was not set" in done.stderr
    assert token not in done.stderr


def test_a_server_that_is_away_and_a_token_that_is_not_there_are_told(
    verbs: Any, forge: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delivery.forge._PATIENCE", 0.5)
    verbs.remote.push(GOOD)
    verbs("fetch")
    more = settings(verbs.place, "gitea", forge, secrets.token_hex())
    gone = more | {"DELIVERY_FORGE_TOKEN_FILE": str(verbs.place / "none")}
    done = verbs("publish", **gone)
    assert done.returncode == 0
    assert "was not set" in done.stderr
    verbs.remote.push({"dags/b.py": "1"})
    verbs("fetch")
    done = verbs("publish", **more | {"DELIVERY_FORGE_URL": "http://127.0.0.1:1/api/v1/repos/a/b"})
    assert done.returncode == 0
    assert "found ConnectError" in done.stderr
