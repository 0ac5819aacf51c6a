"""The mirror over git's own daemon, as Airflow clones it."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def git(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=False, timeout=30,
        env={"PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": "/nonexistent"},
    )  # fmt: skip


@pytest.fixture
def daemon(verbs: Any) -> Iterator[str]:
    """Start the verb ``mirror`` and return the URL it serves."""
    import socket
    import time

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "delivery", "mirror", "--port", str(port)],
        env=verbs.environ | {"DELIVERY_LISTEN": "127.0.0.1"},
        stderr=subprocess.DEVNULL,
    )
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert process.poll() is None
            time.sleep(0.05)
    yield f"git://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    process.wait(10)


def test_both_repositories_can_be_cloned_before_any_push(daemon: str, tmp_path: Path) -> None:
    for name, file in (("pipelines", "dags.py"), ("analysts", "README")):
        bare = tmp_path / f"{name}-bare"
        # As Airflow's GitDagBundle does it: a bare clone, and a clone of that.
        assert git("clone", "--bare", f"{daemon}/{name}.git", bare).returncode == 0
        assert git("clone", bare, tmp_path / name).returncode == 0
        assert git("-C", tmp_path / name, "checkout", "live").returncode == 0
        assert [p.name for p in (tmp_path / name).iterdir() if p.name != ".git"] == [file]


def test_airflow_discovers_the_platforms_file(daemon: str, tmp_path: Path) -> None:
    assert git("clone", f"{daemon}/pipelines.git", tmp_path / "x").returncode == 0
    content = (tmp_path / "x/dags.py").read_text()
    # airflow.utils.file.might_contain_dag, which skips what holds not both words
    assert "airflow" in content.lower()
    assert "dag" in content.lower()
    compile(content, "dags.py", "exec")


def test_a_clone_follows_live(daemon: str, verbs: Any, tmp_path: Path) -> None:
    assert git("clone", "--bare", f"{daemon}/analysts.git", tmp_path / "bare").returncode == 0
    for text in ("1", "2"):
        commit = verbs.remote.push({"a.txt": text})
        verbs.deliver()
        fetch = ("-C", tmp_path / "bare", "fetch", "origin", "+refs/heads/*:refs/heads/*")
        assert git(*fetch).returncode == 0
        assert git("-C", tmp_path / "bare", "rev-parse", "live").stdout.strip() == commit


def test_nobody_can_push_and_nothing_else_is_served(
    daemon: str, verbs: Any, tmp_path: Path
) -> None:
    assert git("clone", f"{daemon}/analysts.git", tmp_path / "x").returncode == 0
    pushed = git("-C", tmp_path / "x", "push", "origin", "HEAD:refs/heads/evil")
    assert pushed.returncode != 0
    (verbs.mirror / "other.git").mkdir()
    git("init", "--bare", verbs.mirror / "other.git")
    assert git("ls-remote", f"{daemon}/other.git").returncode != 0
    assert git("ls-remote", f"{daemon}/../incoming").returncode != 0
    refs = git("ls-remote", f"{daemon}/analysts.git").stdout.splitlines()
    assert [line.split("\t")[1] for line in refs] == ["HEAD", "refs/heads/live"]


def test_starting_again_keeps_what_is_there(verbs: Any, daemon: str) -> None:
    commit = verbs.remote.push({"a.txt": "1"})
    verbs.deliver()
    from delivery import mirror

    with mirror.locked(verbs.mirror):
        mirror.prepare(verbs.mirror)
    assert verbs.live("analysts") == commit


def test_a_mirror_that_cannot_be_written_is_said(verbs: Any) -> None:
    done = verbs("mirror", DELIVERY_MIRROR="/nonexistent")
    assert done.returncode == 1
    assert "HINT: Let the mirror volume exist" in done.stderr


def test_the_first_commits_are_the_same_on_any_machine(place: Path) -> None:
    from delivery import mirror
    from frame.git import Git

    ids = []
    for name in ("one", "two"):
        (place / name).mkdir()
        with mirror.locked(place / name):
            mirror.prepare(place / name)
        ids.append([Git(place / name / f"{n}.git").ref("refs/heads/live") for n in mirror.NAMES])
    assert ids[0] == ids[1]
