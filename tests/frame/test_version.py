from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from frame.version import UNKNOWN, VARIABLE, from_git, own_version


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("1")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *words: str) -> str:
    names = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", *names, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "more")
    return git(folder, "rev-parse", "HEAD")


def test_before_the_first_tag_it_is_the_commit(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    version = from_git(checkout)
    assert version.startswith("0+g")
    assert head.startswith(version.removeprefix("0+g"))


def test_at_a_tag_it_is_the_tag_and_after_it_the_commit_too(checkout: Path) -> None:
    git(checkout, "tag", "v1.2.0")
    git(checkout, "tag", "other-3")
    assert from_git(checkout) == "1.2.0"
    head = commit(checkout)
    assert from_git(checkout).startswith("1.2.0+1.g")
    assert head.startswith(from_git(checkout).partition(".g")[2])


def test_changed_files_are_said(checkout: Path) -> None:
    (checkout / "file").write_text("2")
    assert from_git(checkout).endswith(".dirty")
    git(checkout, "tag", "v1.2.0")
    assert from_git(checkout) == "1.2.0+dirty"


def test_no_repository_is_no_error(tmp_path: Path) -> None:
    assert from_git(tmp_path) == UNKNOWN


def test_no_git_is_no_error(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert from_git(checkout) == UNKNOWN


def test_a_repository_around_is_not_this_one(checkout: Path) -> None:
    inside = checkout / "unpacked"
    (inside / ".git").mkdir(parents=True)
    assert from_git(inside) == UNKNOWN


def test_the_repository_of_a_hook_is_not_this_one(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = from_git(checkout)
    monkeypatch.setenv("GIT_DIR", str(Path(__file__).parents[2] / ".git"))
    assert from_git(checkout) == version


def test_a_build_says_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "2.0.0")
    assert own_version() == "2.0.0"


def test_a_checkout_says_what_git_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert own_version() == from_git(Path(__file__).parents[2])
