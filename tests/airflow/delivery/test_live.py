"""Pins: where live stands when an operator says so, and what later pushes do then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.airflow.delivery.conftest import git

FILES = {"dags/a.py": "# airflow dag\n", "pipelines/hr.yaml": "name: hr\n"}


def push(verbs: Any, name: str, **how: Any) -> str:
    """Deliver a push with one more pipeline file and return its commit."""
    commit = verbs.remote.push(FILES | {f"pipelines/{name}.yaml": f"name: {name}\n"}, **how)
    verbs.deliver()
    return str(commit)


def test_a_pin_holds_live_while_later_pushes_are_judged_and_unpin_goes_to_the_newest(
    verbs: Any,
) -> None:
    good, bad = push(verbs, "good"), push(verbs, "bad")
    done = verbs("pin", good[:8], "--because", "bad\x1b[31m counts twice")
    assert done.returncode == 0, done.stderr
    assert verbs.live("analysts") == good
    assert "pipelines/good.yaml" in verbs.files("pipelines")
    assert verbs.verdict()["pin"]["because"] == "bad[31m counts twice"
    tags = git(f"--git-dir={verbs.mirror}/analysts.git", "tag")
    assert tags == f"replaced/{bad}", "runs may still be pinned to it"
    newest = push(verbs, "newest")
    assert (verbs.verdict()["commit"], verbs.verdict()["verdict"]) == (newest, "sound")
    assert verbs.live("analysts") == verbs.verdict()["live"] == good
    assert verbs("fetch").returncode == 0
    assert verbs.candidate()["judged"] is True
    assert verbs("publish").returncode == 0
    assert verbs.live("analysts") == good
    for _ in range(2):
        done = verbs("unpin")
        assert (done.returncode, done.stdout) == (0, f"live: {newest}\n")
    assert verbs.live("analysts") == newest
    assert "pipelines/newest.yaml" in verbs.files("pipelines")
    assert verbs.verdict()["pin"] is None


def test_a_pin_is_repeatable_and_may_be_moved(verbs: Any) -> None:
    first, second = push(verbs, "first"), push(verbs, "second")
    for commit in (first, first, second):
        assert verbs("pin", commit, "--because", "so").returncode == 0
        assert verbs.live("analysts") == commit


def test_only_what_was_judged_sound_can_be_pinned(verbs: Any) -> None:
    push(verbs, "first")
    refused = verbs.remote.push({"a": "-> /etc/passwd"})
    verbs.deliver()
    before = verbs.live("analysts")
    for commit, because, reason in (
        (refused, "so", "was not found sound: refused"),
        ("0" * 40, "so", "is no commit that was judged"),
        ("main", "so", "main is no commit that was judged"),
        (before, " ", "a pin needs a reason"),
    ):
        done = verbs("pin", commit, "--because", because)
        assert done.returncode == 2
        assert reason in done.stderr
        assert done.stderr.count("HINT: ") == 1
    assert verbs("pin", before).returncode == 2
    assert verbs.live("analysts") == before
    assert not (verbs.mirror / "pin.json").exists()


def test_a_pinned_commit_that_a_new_mirror_lacks_is_one_clear_error(verbs: Any) -> None:
    first = push(verbs, "first")
    assert verbs("pin", first, "--because", "so").returncode == 0
    subprocess.run(["rm", "-rf", verbs.mirror / "analysts.git"], check=True)
    newest = verbs.remote.push(FILES, parents=False)
    assert verbs("fetch").returncode == 0
    done = verbs("publish")
    assert done.returncode == 1
    assert f"commit {first} is not in the mirror" in done.stderr
    done = verbs("unpin")
    assert (done.returncode, done.stdout) == (0, f"live: {newest}\n")


KILLED = """
import os, signal, sys
from frame.git import Git
from delivery.__main__ import app
left = int(sys.argv.pop(1))
real = Git.swap

def deadly(*words):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*words)

Git.swap = deadly
app()
"""


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_pin_that_is_killed_at_any_step_is_finished_by_the_next_round(
    verbs: Any, step: int
) -> None:
    """Steps: the pipelines' live, the tag of the commit that is left, the analysts' live."""
    good, bad = push(verbs, "good"), push(verbs, "bad")
    words = [sys.executable, "-c", KILLED, str(step), "pin", good, "--because", "so"]
    killed = subprocess.run(words, env=os.environ | verbs.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert verbs.live("analysts") == bad
    verbs.deliver()
    assert verbs.live("analysts") == good
    assert "pipelines/good.yaml" in verbs.files("pipelines")


def test_the_tags_of_replaced_commits_are_bounded(
    verbs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delivery.live.MAX_REPLACED", 2)
    commits = [push(verbs, f"p{n}", parents=False) for n in range(5)]
    tags = git(f"--git-dir={verbs.mirror}/analysts.git", "tag").split()
    assert len(tags) == 2
    assert f"replaced/{commits[-2]}" in tags


def test_history_holds_who_when_and_what(verbs: Any) -> None:
    assert verbs("history").returncode == 3
    first = push(verbs, "first")
    refused = verbs.remote.push(FILES | {"a": "-> /etc/passwd"})
    verbs.deliver()
    told = json.loads(verbs("history", "--json").stdout)
    assert told["pin"] is None
    newest, oldest = told["syncs"]
    assert (newest["commit"], newest["verdict"], newest["live"]) == (refused, "refused", first)
    assert (newest["live_before"], newest["author"]) == (first, "Ama <ama@school.example>")
    assert newest["committed"].startswith("20")
    assert (newest["changed"], newest["changes"]) == (["a", "pipelines/first.yaml"], 2)
    assert (oldest["commit"], oldest["verdict"], oldest["live"]) == (first, "sound", first)
    assert oldest["changes"] == 3
    shown = verbs("history").stdout
    assert "1 findings, 0 exemptions" in shown
    assert verbs("verdict", refused[:7]).stdout.startswith(f"{refused}  refused")
    assert "/etc/passwd" in verbs("verdict", refused).stdout
    done = verbs("verdict", "abcdef0")
    assert done.returncode == 2
    assert "abcdef0 is no commit that was judged" in done.stderr


def test_history_is_bounded_and_the_newest_stay(
    verbs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delivery.history.MOST", 2)
    commits = [push(verbs, f"p{n}") for n in range(4)]
    kept = [each["commit"] for each in json.loads(verbs("history", "--json").stdout)["syncs"]]
    assert kept == [commits[3], commits[2]]
    assert len(list((verbs.mirror / "verdicts").iterdir())) == 2
