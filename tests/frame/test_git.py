"""Git as this house starts it: nothing that others configure takes part, and all is bounded."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from frame.git import MEBIBYTE, Git, GitError, fetched

if TYPE_CHECKING:
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
