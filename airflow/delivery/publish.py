"""``dag-sync publish``: move ``live`` if Nomad says that the judge found the push sound.

A yes is believed from Nomad alone. A no is believed from anyone: strangers who forge one refuse
their own push. What the judge handed over is shown, never obeyed.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from delivery import bundle, mirror, nomad, verdict
from delivery import candidate as candidates
from delivery.bundle import LIVE
from delivery.errors import LiveMovedError
from delivery.nomad import Word
from delivery.verdict import UNKNOWN_TRIES, Finding, Verdict
from frame.git import MEBIBYTE, NOTHING, Git, GitError
from frame.log import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from delivery.candidate import Candidate
    from delivery.settings import PublishSettings

log = get_logger(__name__)


def publish(settings: PublishSettings) -> Verdict | None:
    """Publish this run's candidate or record why not; None if there was nothing to do.

    Raises LiveMovedError if another run was faster, Failure if the mirror cannot be written.
    """
    os.umask(0o022)
    run = candidates.folder(settings.incoming, settings.alloc_id)
    found = candidates.load(run)
    if found is None or found.judged:
        log.info("nothing to publish", reason="no fetch" if found is None else "nothing new")
        if found is not None:
            _follow_release(settings.mirror)
        candidates.remove(run)
        _tell(verdict.load(settings.mirror / "verdict.json"))
        return None
    word, findings = _word(settings, found)
    with mirror.locked(settings.mirror):
        mirror.prepare(settings.mirror)
        _still_newest(verdict.load(settings.mirror / "verdict.json"), found)
        analysts = Git(mirror.repository(settings.mirror, "analysts"), protocol="file")
        if word.outcome == "sound":
            _move(settings.mirror, analysts, run, found)
        made = _record(settings.mirror / "verdict.json", analysts, found, word, findings)
        _tidy(settings.mirror)
    candidates.remove(run)
    _tell(made)
    return made


def _follow_release(root: Path) -> None:
    """Derive the pipelines' commit again after an upgrade, from the commit that is live."""
    with mirror.locked(root):
        mirror.prepare(root)
        analysts, pipelines = (
            Git(mirror.repository(root, name)) for name in ("analysts", "pipelines")
        )
        if not bundle.is_current(pipelines):
            _derive(analysts, pipelines, _ref(analysts))


def _derive(analysts: Git, pipelines: Git, commit: str) -> None:
    before = _ref(pipelines)
    after = bundle.derive(analysts, pipelines, commit, before)
    if after != before:
        pipelines.swap(LIVE, after, before)
        log.info("moved live", repository="pipelines", commit=after)


def _tell(last: Verdict | None) -> None:
    """Log the verdict in every round while it stands, so that an analyst finds it in the newest."""
    if last is None:
        return
    for line in (line for finding in last.findings for line in finding.lines()):
        log.warning(line)
    log.info(
        "verdict", commit=last.commit, verdict=last.outcome, reason=last.reason, live=last.live
    )


def _word(settings: PublishSettings, found: Candidate) -> tuple[Word, list[Finding]]:
    """Return the verdict on the candidate and the findings to show with it."""
    if found.refused:
        return Word("refused", "the push breaks a limit"), list(found.refused)
    handed = verdict.read_json(settings.alloc_dir / "data" / "findings.json")
    told = handed if isinstance(handed, dict) and handed.get("commit") == found.commit else {}
    findings = verdict.findings_from(told.get("findings"))
    if told.get("verdict") == "refused":
        # Nomad is not asked: after a failed main task it refuses this one's identity.
        return Word("refused", "the judge's findings say no"), findings
    word = nomad.ask(settings)
    return word, findings if word.outcome != "sound" else []


def _still_newest(last: Verdict | None, found: Candidate) -> None:
    """Raise LiveMovedError if a push that was fetched later has its verdict already."""
    if last is not None and last.commit not in (found.last, found.commit):
        raise LiveMovedError(
            f"{last.commit} was judged while this run judged {found.commit}",
            "Another run was faster; the next sync judges the branch as it is then.",
        )


def _move(root: Path, analysts: Git, run: Path, found: Candidate) -> None:
    """Move both ``live`` refs: pipelines first, so that a kill between is seen and done again."""
    pipelines = Git(mirror.repository(root, "pipelines"))
    live = _ref(analysts)
    first = bundle.first_commit(analysts, "analysts")
    expected = found.previous or first
    if live not in (expected, found.commit):
        raise LiveMovedError(
            f"live is at {live}, not at {expected} as when this push was fetched",
            "Another run was faster; the next sync judges the branch as it is then.",
        )
    analysts.run(
        "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
        "--", str(run / "repo.git"), "refs/heads/candidate",
        seconds=300, most=1024 * MEBIBYTE,
    )  # fmt: skip
    # The id that was fetched and judged, whatever the ref in that folder says now.
    analysts.run("cat-file", "-e", f"{found.commit}^{{commit}}")
    _derive(analysts, pipelines, found.commit)
    if live != found.commit:
        if live != first:
            _keep(analysts, live, found.commit)
        analysts.swap(LIVE, found.commit, live)
        log.info("moved live", repository="analysts", commit=found.commit)


def _ref(git: Git) -> str:
    return git.ref(LIVE) or NOTHING


def _keep(analysts: Git, old: str, new: str) -> None:
    """Keep a commit that a forced push took off the branch: runs may still be pinned to it.

    As a tag, because Airflow's bundle fetches heads and tags only.
    """
    try:
        analysts.run("merge-base", "--is-ancestor", old, new)
    except GitError:
        name = f"refs/tags/replaced/{old}"
        if analysts.ref(name) is None:
            analysts.swap(name, old, NOTHING)


def _record(
    path: Path, analysts: Git, found: Candidate, word: Word, findings: list[Finding]
) -> Verdict:
    """Store the verdict, the last step: without it the next run judges this commit again."""
    last = verdict.load(path)
    again = last is not None and last.commit == found.commit and last.outcome == "unknown"
    attempts = last.attempts + 1 if last is not None and again else 1
    made = Verdict(
        commit=found.commit,
        outcome=word.outcome,
        reason=word.reason,
        judged=word.outcome != "unknown" or attempts >= UNKNOWN_TRIES,
        attempts=attempts,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        live=_ref(analysts),
        findings=tuple(verdict.bounded(findings)),
    )
    verdict.store(path, made)
    return made


def _tidy(root: Path) -> None:
    """Pack what many pushes leave; a failure changes nothing for anyone."""
    for name in mirror.NAMES:
        try:
            Git(mirror.repository(root, name)).run(
                "-c", "gc.auto=6700", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet",
                seconds=600, most=4096 * MEBIBYTE,
            )  # fmt: skip
        except GitError as error:
            log.warning("the repository was not packed", repository=name, error=error.message)
