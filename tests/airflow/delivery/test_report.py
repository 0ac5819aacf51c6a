"""What the gate reports beside the repositories that Airflow clones, round by round."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from delivery import bundle, report
from frame.git import Git
from tests.airflow.delivery.conftest import git

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from delivery.report import Report

GOOD = {"dags/a.py": "# airflow dag\n"}
REFUSED = GOOD | {"a": "-> /etc/passwd"}


def reported(verbs: Any) -> Report:
    """Read the report as the web server does."""
    repository = Git(verbs.mirror / "verdicts.git")
    commit = repository.ref("refs/heads/live")
    assert commit is not None
    return report.read(repository, commit)


def test_a_round_reports_the_syncs_what_is_live_since_when_and_how_the_remote_was(
    verbs: Any,
) -> None:
    good = verbs.remote.push(GOOD)
    verbs.deliver()
    first = reported(verbs)
    assert first.live.commit == good
    assert first.live.time
    assert "" < first.look.seen <= first.written
    refused = verbs.remote.push(REFUSED)
    verbs.deliver()
    second = reported(verbs)
    assert [sync.verdict.commit for sync in second.syncs] == [refused, good]
    assert second.syncs[0].verdict.findings[0].file == "a"
    assert second.syncs[0].author == "Ama <ama@school.example>"
    assert second.live == first.live
    assert {commit: sorted(listed) for commit, listed in second.contents.items()} == {
        good: ["dags/a.py"], refused: ["a", "dags/a.py"],
    }  # fmt: skip
    assert second.contents[good]["dags/a.py"] == second.contents[refused]["dags/a.py"]
    verbs.remote.sshd.stop()
    try:
        assert verbs("fetch", DELIVERY_FETCH_ATTEMPTS="1").returncode == 1
        assert verbs("publish").returncode == 0
    finally:
        verbs.remote.sshd.start()
    away = reported(verbs)
    assert (away.look.seen, away.syncs) == (second.look.seen, second.syncs)
    assert away.look.failing >= second.look.seen
    verbs.deliver()
    assert reported(verbs).look.failing == ""


def test_a_pin_and_its_end_are_reported_at_once(verbs: Any) -> None:
    good = verbs.remote.push(GOOD)
    verbs.deliver()
    bad = verbs.remote.push(GOOD | {"b": ""})
    verbs.deliver()
    assert verbs("pin", good, "--because", "counts twice").returncode == 0
    pinned = reported(verbs)
    assert (pinned.live.commit, pinned.pin and pinned.pin.because) == (good, "counts twice")
    assert verbs("unpin").returncode == 0
    assert (reported(verbs).live.commit, reported(verbs).pin) == (bad, None)


def test_before_the_first_push_there_is_a_report_of_nothing(verbs: Any) -> None:
    verbs.remote.commit(git(f"--git-dir={verbs.remote.path}", "mktree"))
    assert verbs("publish").returncode == 0
    empty = reported(verbs)
    assert (empty.syncs, empty.live.commit, empty.look.seen) == ((), "", "")
    assert empty.look.failing


def test_the_repository_does_not_grow(verbs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delivery.report._PRUNED_AFTER", "now")
    verbs.remote.push(REFUSED)
    sizes = []
    for _ in range(3):
        verbs.deliver()
        listed = git(f"--git-dir={verbs.mirror}/verdicts.git", "count-objects", "-v")
        sizes.append([line for line in listed.splitlines() if line.startswith(("count", "in-"))])
    assert sizes[0] == sizes[-1]
    assert sizes[0][0] == "count: 5"  # a commit, a tree, three files


def test_a_report_is_within_bounds_whatever_findings_say(
    verbs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delivery.report._FINDINGS_BYTES", 2000)
    commit = verbs.remote.push(GOOD)
    findings = [
        {"file": f"{n}.py", "what": "<b>" * 80, "trace": ["\u4e00" * 200]} for n in range(50)
    ]
    value = {"commit": commit, "verdict": "refused", "findings": findings}
    assert verbs("fetch").returncode == 0
    (verbs.place / "alloc/data/findings.json").write_text(json.dumps(value))
    assert verbs("publish").returncode == 0
    (sync,) = reported(verbs).syncs
    assert len(sync.verdict.findings) == 3
    assert sync.verdict.findings[0].what == "48 more findings are too long to be shown here"


def test_files_are_told_apart_by_what_is_in_them_and_lists_go_with_their_push(
    verbs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delivery.history.MOST", 2)
    monkeypatch.setattr("delivery.contents.MOST_BYTES", 600)
    pushes = [GOOD, GOOD | {"b": "1"}, GOOD | {"b": "2"}, {f"{n}": "" for n in range(30)} | GOOD]
    commits = []
    for files in pushes:
        commits.append(verbs.remote.push(files))
        verbs.deliver()
    assert reported(verbs).contents.keys() == {commits[2]}, "the newest has too many"
    assert {path.stem for path in (verbs.mirror / "contents").iterdir()} == {commits[2]}


def test_what_is_no_report_is_read_as_nothing(tmp_path: Path) -> None:
    git("init", "--quiet", "--bare", str(tmp_path))
    repository = Git(tmp_path)
    for state, syncs in (
        (b"[", b"{"),
        (b'{"look": 1, "live": [], "pin": 2}', b'[1, {"verdict": "sound"}, {"commit": {}}]'),
    ):
        parts = {b"state.json": state, b"syncs.json": syncs, b"contents.json": state}
        commit = bundle.lone_commit(repository, parts, "x", "0 +0000")
        found = report.read(repository, commit)
        assert (found.written, found.live.commit, found.pin) == ("", "", None)
        assert found.contents == {}
