from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dashboards.mirror import fetch, live
from frame.failure import Failure
from tests.conftest import free_port
from tests.dashboards.examples import BARS_FILE, Repository

if TYPE_CHECKING:
    from collections.abc import Iterator


class Mirror:
    """A repository that git's own daemon serves, as the job dag-mirror does."""

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.url = root, f"git://127.0.0.1:{port}"
        self.work = root / "work"
        git("init", "--quiet", "--bare", root / "analysts.git")
        git("init", "--quiet", self.work)

    def push(self) -> str:
        git("-C", self.work, "add", "--all")
        git("-C", self.work, "commit", "--quiet", "--message", "Change")
        git("-C", self.work, "push", "--quiet", self.root / "analysts.git", "HEAD:refs/heads/live")
        return git("-C", self.work, "rev-parse", "HEAD")


def git(*words: str | Path) -> str:
    return subprocess.check_output(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], text=True
    ).strip()


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    port = free_port()
    made = Mirror(tmp_path, port)
    daemon = subprocess.Popen(
        ["git", "daemon", "--export-all", "--reuseaddr", f"--base-path={tmp_path}",
         "--listen=127.0.0.1", f"--port={port}"],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    while subprocess.run(["git", "ls-remote", f"{made.url}/analysts.git"], capture_output=True,
                         check=False).returncode:  # fmt: skip
        assert daemon.poll() is None
    yield made
    daemon.terminate()
    daemon.communicate(timeout=10)


pytestmark = pytest.mark.programs


def test_the_live_commit_is_read_as_it_was_pushed(mirror: Mirror) -> None:
    repository = Repository()
    repository.write(mirror.work)
    (mirror.work / "dags").mkdir()
    (mirror.work / "dags/a.py").write_text("print()")
    commit = mirror.push()
    assert live(mirror.url) == commit
    assert fetch(mirror.url, commit).texts == repository.texts()


def test_a_link_is_refused(mirror: Mirror) -> None:
    Repository().write(mirror.work)
    (mirror.work / BARS_FILE).unlink()
    (mirror.work / BARS_FILE).symlink_to("/etc/passwd")
    with pytest.raises(Failure, match="is a link"):
        fetch(mirror.url, mirror.push())


def test_a_commit_that_moved_meanwhile_is_left_to_the_next_round(mirror: Mirror) -> None:
    Repository().write(mirror.work)
    first = mirror.push()
    (mirror.work / "README").write_text("x")
    mirror.push()
    with pytest.raises(Failure, match="moved while it was read"):
        fetch(mirror.url, first)


def test_a_mirror_that_is_not_there_is_said() -> None:
    with pytest.raises(Failure, match="git ls-remote failed with 128"):
        live(f"git://127.0.0.1:{free_port()}")
