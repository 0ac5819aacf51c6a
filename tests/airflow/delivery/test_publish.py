"""Moving ``live``: only on Nomad's word, in order, by compare-and-swap, mended after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from delivery import bundle
from tests.airflow.delivery.conftest import git
from tests.http_server import Answer

FILES = {
    "dags/a.py": "# airflow dag\n",
    "pipelines/hr.yaml": "name: hr\n",
    "pipelines/README.md": "about\n",
    "pipelines/evil.py": "# airflow dag\n",
}


def hand_over(verbs: Any, outcome: str, commit: str, findings: Any = ()) -> None:
    value = {"commit": commit, "verdict": outcome, "findings": findings}
    (verbs.place / "alloc/data/findings.json").write_text(json.dumps(value))


def test_a_sound_push_becomes_live_in_both_repositories(verbs: Any) -> None:
    commit = verbs.remote.push(FILES)
    verbs.deliver()
    assert verbs.live("analysts") == commit
    assert verbs.files("pipelines") == {"dags.py": "100644", "pipelines/hr.yaml": "100644"}
    told = verbs.verdict()
    assert (told["commit"], told["verdict"], told["judged"], told["live"]) == (
        commit, "sound", True, commit)  # fmt: skip
    assert list(verbs.incoming.iterdir()) == []
    question = verbs.nomad.requests[-1]
    assert question.path == f"/v1/allocation/{verbs.run_folder.name}"
    assert question.headers["X-Nomad-Token"] == "a-token"


def test_what_an_older_release_derived_is_derived_again_and_judged_no_more(
    verbs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = bundle.DAGS_PY.replace(b"harmattan.pipelines", b"older.module")
    with monkeypatch.context() as release:
        release.setattr(bundle, "DAGS_PY", older)
        commit = verbs.remote.push(FILES)
        verbs.deliver()
    before, verdict = verbs.live("pipelines"), verbs.verdict()
    verbs.deliver()
    assert verbs.live("analysts") == commit
    assert verbs.live("pipelines") != before
    assert verbs.files("pipelines") == {"dags.py": "100644", "pipelines/hr.yaml": "100644"}
    current = verbs.live("pipelines")
    assert verbs.verdict() == verdict
    verbs.deliver()
    assert verbs.live("pipelines") == current


def test_a_pipeline_file_that_is_a_link_is_derived_as_the_file_it_leads_to(verbs: Any) -> None:
    verbs.remote.push(
        FILES | {"shared.yaml": "name: it\n", "pipelines/it.yaml": "-> ../shared.yaml"}
    )
    verbs.deliver()
    assert verbs.files("pipelines")["pipelines/it.yaml"] == "100644"
    read = git(f"--git-dir={verbs.mirror}/pipelines.git", "show", "live:pipelines/it.yaml")
    assert read == "name: it"


def test_what_environments_toml_says_goes_with_the_pipelines(verbs: Any) -> None:
    verbs.remote.push(FILES | {"environments.toml": "[production]\noff = ['ingest_hr']\n"})
    verbs.deliver()
    assert verbs.files("pipelines")["environments.toml"] == "100644"


def test_a_branch_each_goes_to_the_mirror_of_its_environment_and_a_merge_promotes(
    verbs: Any, place: Path
) -> None:
    """Two environments of one remote: the job's branch and volumes are all that differ."""
    moved = {str(place / name): str(place / "staging" / name) for name in ("mirror", "incoming")}
    for path in moved.values():
        Path(path).mkdir(parents=True)
    environ = {name: moved.get(value, value) for name, value in verbs.environ.items()}
    staging = replace(
        verbs, place=place / "staging", environ=environ | {"DELIVERY_BRANCH": "staging"}
    )
    repository = f"--git-dir={verbs.remote.path}"
    before = verbs.remote.push(FILES)
    tried = verbs.remote.push(FILES | {"dags/new.py": "# airflow dag\n"})
    git(repository, "update-ref", "refs/heads/staging", tried)
    git(repository, "update-ref", "refs/heads/main", before)
    for environment in (verbs, staging):
        environment.deliver()
    assert (verbs.live("analysts"), staging.live("analysts")) == (before, tried)
    git(repository, "update-ref", "refs/heads/main", "refs/heads/staging", before)
    verbs.deliver()
    assert verbs.live("analysts") == staging.live("analysts") == tried
    assert verbs.files("pipelines") == staging.files("pipelines")


def test_the_pipelines_commit_moves_only_with_its_files_and_is_the_same_anywhere(
    verbs: Any,
) -> None:
    verbs.remote.push(FILES)
    verbs.deliver()
    first = verbs.live("pipelines")
    verbs.remote.push(FILES | {"dags/b.py": "# airflow dag\n"})
    verbs.deliver()
    assert verbs.live("pipelines") == first
    verbs.remote.push({"dags/a.py": "# airflow dag\n"})
    verbs.deliver()
    assert verbs.files("pipelines") == {"dags.py": "100644"}
    again = verbs.live("pipelines")
    for name in ("pipelines.git", "analysts.git", "verdict.json"):
        subprocess.run(["rm", "-rf", verbs.mirror / name], check=True)
    verbs.remote.push({"dags/a.py": "# airflow dag\n"})
    verbs.deliver()
    assert again != verbs.live("pipelines") != first


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ({"code": 1}, "refused"),
        ({"code": 0, "state": {"Failed": True}}, "unknown"),
    ],
)
def test_what_nomad_does_not_call_sound_moves_nothing(
    verbs: Any, answer: dict[str, Any], outcome: str
) -> None:
    verbs.remote.push(FILES)
    verbs.deliver()
    before = {name: verbs.live(name) for name in ("analysts", "pipelines")}
    commit = verbs.remote.push({"dags/broken.py": ""})
    assert verbs("fetch").returncode == 0
    # Strangers can write this file: it must not help them.
    hand_over(verbs, "sound", commit)
    verbs.judge_ended(answer.pop("code"), **answer)
    done = verbs("publish")
    assert done.returncode == 0, done.stderr
    assert {name: verbs.live(name) for name in ("analysts", "pipelines")} == before
    told = verbs.verdict()
    assert (told["commit"], told["verdict"], told["judged"]) == (
        commit, outcome, outcome == "refused")  # fmt: skip
    assert list(verbs.incoming.iterdir()) == []


def test_a_refused_commit_is_nothing_new_and_none_of_it_enters_the_mirror(verbs: Any) -> None:
    commit = verbs.remote.push(FILES)
    verbs.deliver(code=1)
    assert verbs("fetch").returncode == 0
    assert verbs.candidate()["judged"] is True
    done = subprocess.run(
        ["git", f"--git-dir={verbs.mirror}/analysts.git", "cat-file", "-e", commit],
        check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert verbs("publish").returncode == 0
    assert list(verbs.incoming.iterdir()) == []


def test_an_unknown_verdict_is_tried_three_times(verbs: Any) -> None:
    verbs.remote.push(FILES)
    for attempt in (1, 2, 3):
        assert verbs("fetch").returncode == 0
        assert verbs.candidate()["judged"] is False
        verbs.nomad.answer(Answer(403, "Permission denied"))
        assert verbs("publish", DELIVERY_NOMAD_SECONDS="1").returncode == 0
        told = verbs.verdict()
        assert (told["attempts"], told["judged"]) == (attempt, attempt == 3)
        assert "403" in told["reason"]
    assert verbs("fetch").returncode == 0
    assert verbs.candidate()["judged"] is True


def test_a_no_in_the_findings_is_believed_when_nomad_is_silent(verbs: Any) -> None:
    commit = verbs.remote.push(FILES)
    assert verbs("fetch").returncode == 0
    hand_over(verbs, "refused", commit, [{"file": "dags/a.py", "what": "\x1b[31mbad\n" * 99}])
    verbs.nomad.answer(Answer(403, "Permission denied"))
    assert verbs("publish", DELIVERY_NOMAD_SECONDS="1").returncode == 0
    told = verbs.verdict()
    assert (told["verdict"], told["judged"]) == ("refused", True)
    (finding,) = told["findings"]
    assert not (verbs.place / "alloc/data/findings.json").exists()
    assert "\x1b" not in finding["what"]
    assert len(finding["what"]) <= 300


def test_an_unknown_in_the_findings_is_believed_at_once_and_by_its_own_reason(verbs: Any) -> None:
    commit = verbs.remote.push(FILES)
    assert verbs("fetch").returncode == 0
    hand_over(verbs, "unknown", commit, [{"file": "dags/a.py", "what": "took too long"}])
    verbs.nomad.answer(Answer(403, "Permission denied"))
    assert verbs("publish").returncode == 0
    assert verbs.nomad.requests == []
    told = verbs.verdict()
    assert (told["verdict"], told["judged"], told["attempts"]) == ("unknown", False, 1)
    assert told["reason"] == "the judge could not look at all of it"
    assert told["findings"][0]["what"] == "took too long"


def test_what_a_sound_push_departs_from_is_in_its_verdict_and_in_history(verbs: Any) -> None:
    commit = verbs.remote.push(FILES)
    assert verbs("fetch").returncode == 0
    exemption = {"file": "dags/a.py", "line": 3, "rule": "owner", "because": "a try"}
    value = {"commit": commit, "verdict": "sound", "findings": [], "exemptions": [exemption]}
    (verbs.place / "alloc/data/findings.json").write_text(json.dumps(value))
    verbs.judge_ended(0)
    assert verbs("publish").returncode == 0
    assert verbs.verdict()["exemptions"] == [exemption]
    assert json.loads(verbs("history", "--json").stdout)["syncs"][0]["exemptions"] == [exemption]


def test_findings_of_another_commit_or_that_make_no_sense_are_dropped(verbs: Any) -> None:
    verbs.remote.push(FILES)
    for content in (json.dumps({"commit": "b" * 40, "findings": [{"what": "x"}]}), "[" * 99_999):
        assert verbs("fetch").returncode == 0
        (verbs.place / "alloc/data/findings.json").write_text(content)
        verbs.judge_ended(4)
        assert verbs("publish").returncode == 0
        assert verbs.verdict()["findings"] == []


def test_a_broken_limit_is_refused_without_asking_nomad(verbs: Any) -> None:
    verbs.remote.push({"a": "-> /etc/passwd"})
    verbs.deliver()
    assert verbs.nomad.requests == []
    told = verbs.verdict()
    assert told["verdict"] == "refused"
    assert "symbolic link leads to /etc/passwd" in told["findings"][0]["what"]


def test_a_run_that_another_overtook_moves_nothing(verbs: Any) -> None:
    verbs.remote.push(FILES)
    verbs.deliver()
    verbs.remote.push(FILES | {"pipelines/old.yaml": "name: old\n"})
    assert verbs("fetch").returncode == 0
    slow = verbs.incoming / "slow"
    verbs.run_folder.rename(slow)
    newest = verbs.remote.push(FILES | {"pipelines/new.yaml": "name: new\n"})
    verbs.deliver()
    slow.rename(verbs.run_folder)
    done = verbs("publish")
    assert done.returncode == 1
    assert "Another run was faster" in done.stderr
    assert verbs.live("analysts") == newest
    assert "pipelines/new.yaml" in verbs.files("pipelines")
    assert verbs.verdict()["commit"] == newest


def test_a_slow_refusal_does_not_take_the_place_of_a_newer_verdict(verbs: Any) -> None:
    verbs.remote.push(FILES)
    verbs.deliver()
    refused = verbs.remote.push(FILES | {"dags/a.py": "# airflow dag, broken\n"})
    assert verbs("fetch").returncode == 0
    slow = verbs.incoming / "slow"
    verbs.run_folder.rename(slow)
    newest = verbs.remote.push(FILES | {"dags/a.py": "# airflow dag, mended\n"})
    verbs.deliver()
    slow.rename(verbs.run_folder)
    hand_over(verbs, "refused", refused)
    done = verbs("publish")
    assert done.returncode == 1
    assert "Another run was faster" in done.stderr
    assert (verbs.verdict()["commit"], verbs.verdict()["verdict"]) == (newest, "sound")


def test_two_publishes_at_once_wait_for_each_other(verbs: Any) -> None:
    commit = verbs.remote.push(FILES)
    assert verbs("fetch").returncode == 0
    # The lock held by a living process, as a second run would.
    held = subprocess.Popen(["flock", verbs.mirror / ".lock", "sleep", "1.5"])
    done = verbs("publish")
    held.wait()
    assert done.returncode == 0, done.stderr
    assert verbs.live("analysts") == commit


def test_a_push_on_top_leaves_no_tags(verbs: Any) -> None:
    for text in ("1", "2"):
        verbs.remote.push(FILES | {"b.txt": text})
        verbs.deliver()
    tags = ["git", f"--git-dir={verbs.mirror}/analysts.git", "tag"]
    assert subprocess.run(tags, check=True, capture_output=True).stdout == b""


def test_a_forced_push_keeps_the_old_commit_for_runs_pinned_to_it(verbs: Any) -> None:
    old = verbs.remote.push(FILES)
    verbs.deliver()
    new = verbs.remote.push(FILES | {"b.txt": ""}, parents=False)
    verbs.deliver()
    assert verbs.live("analysts") == new
    tag = [
        "git",
        f"--git-dir={verbs.mirror}/analysts.git",
        "rev-parse",
        f"refs/tags/replaced/{old}",
    ]
    assert subprocess.run(tag, check=True, capture_output=True, text=True).stdout.strip() == old


KILLED = """
import os, signal, sys
from delivery import candidate, verdict
from frame.git import Git
from delivery.__main__ import app
left = int(sys.argv.pop(1))

def deadly(real):
    def step(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return step

Git.swap = deadly(Git.swap)
verdict.store = deadly(verdict.store)
candidate.remove = deadly(candidate.remove)
app()
"""


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_kill_before_any_step_is_mended_by_the_next_run(verbs: Any, step: int) -> None:
    """Steps: pipelines' live, analysts' live, verdict, removal of the run's folder."""
    verbs.remote.push(FILES)
    verbs.deliver()
    before = verbs.live("pipelines"), verbs.live("analysts")
    commit = verbs.remote.push(FILES | {"pipelines/new.yaml": "name: new\n"})
    assert verbs("fetch").returncode == 0
    verbs.judge_ended(0)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(step), "publish"], env=verbs.environ, check=False
    )
    assert killed.returncode == -9
    moved = verbs.live("pipelines") != before[0], verbs.live("analysts") != before[1]
    assert moved == (step > 1, step > 2)
    assert (verbs.verdict()["commit"] == commit) is (step > 3)
    verbs.deliver()
    assert verbs.live("analysts") == commit
    assert "pipelines/new.yaml" in verbs.files("pipelines")
    told = verbs.verdict()
    assert (told["commit"], told["verdict"]) == (commit, "sound")
    assert list(verbs.incoming.iterdir()) == []


def test_locks_and_halves_that_a_dead_run_left_are_cleared(verbs: Any) -> None:
    verbs.remote.push(FILES)
    verbs.deliver()
    for lock in ("analysts.git/refs/heads/live.lock", "analysts.git/packed-refs.lock"):
        (verbs.mirror / lock).touch()
    (verbs.mirror / ".pipelines.half").mkdir()
    commit = verbs.remote.push(FILES | {"b.txt": ""})
    verbs.deliver()
    assert verbs.live("analysts") == commit
    assert not (verbs.mirror / ".pipelines.half").exists()


def test_a_mirror_made_anew_gets_the_sound_commit_again(verbs: Any) -> None:
    commit = verbs.remote.push(FILES)
    verbs.deliver()
    subprocess.run(["rm", "-rf", verbs.mirror / "analysts.git"], check=True)
    verbs.deliver()
    assert verbs.live("analysts") == commit


def test_after_a_fetch_that_failed_there_is_nothing_to_publish(verbs: Any) -> None:
    done = verbs("publish")
    assert done.returncode == 0, done.stderr
    assert "no fetch" in done.stderr
