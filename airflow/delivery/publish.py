"""``dag-sync publish``: move ``live`` if Nomad says that the judge found the push sound.

A yes is believed from Nomad alone. A no and an unknown are believed from anyone: strangers who
forge one hold up their own push. What the judge handed over is shown, never obeyed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from delivery import (
    bundle,
    chat,
    contents,
    forge,
    fsck,
    history,
    live,
    mail,
    mirror,
    nomad,
    report,
    verdict,
)
from delivery import candidate as candidates
from delivery.errors import LiveMovedError
from delivery.nomad import Word
from delivery.verdict import UNKNOWN_TRIES, Verdict
from frame.git import MEBIBYTE, Git, GitError
from frame.log import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from delivery.candidate import Candidate
    from delivery.settings import PublishSettings
    from delivery.verdict import Exemption, Finding

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
        _settle(settings.mirror, looked=found is not None)
        candidates.remove(run)
        _tell(verdict.load(settings.mirror / "verdict.json"))
        return None
    handed = _handed(settings, found)
    word = _word(settings, found, handed)
    with mirror.locked(settings.mirror):
        mirror.prepare(settings.mirror)
        _still_newest(verdict.load(settings.mirror / "verdict.json"), found)
        analysts = Git(mirror.repository(settings.mirror, "analysts"), protocol="file")
        before = live.stands(analysts)
        if word.outcome == "sound":
            _take(analysts, run, found)
            live.settle(settings.mirror)
        made = _verdict(settings.mirror, analysts, found, word, handed)
        pushed = Git(run / "repo.git")
        sync = history.describe(pushed, made, before)
        kept = history.store(settings.mirror, sync)
        contents.store(settings.mirror, made.commit, contents.of(pushed, made.commit), kept)
        # The last step: without it the next run judges this commit again.
        verdict.store(settings.mirror / "verdict.json", made)
        report.looked(settings.mirror, well=True)
        report.write(settings.mirror)
        _tidy(settings.mirror)
    candidates.remove(run)
    _forget(settings.alloc_dir / "data" / "findings.json")
    _tell(made)
    forge.tell(settings, made)
    mail.tell(settings, sync)
    chat.tell(settings, sync)
    return made


def _forget(findings: Path) -> None:
    """Remove what the judge handed over: a dead allocation is kept for a while, for its logs."""
    try:
        findings.unlink(missing_ok=True)
    except OSError as error:  # strangers can put a folder there
        log.warning("findings could not be removed", error=str(error))


def _settle(root: Path, *, looked: bool) -> None:
    """Put right what a run that died, a pin or an upgrade left to do, and report.

    ``looked`` tells whether this round's fetch saw the remote.
    """
    with mirror.locked(root):
        mirror.prepare(root)
        report.looked(root, well=looked)
        try:
            live.settle(root)
        finally:
            report.write(root)


def _tell(last: Verdict | None) -> None:
    """Log the verdict in every round while it stands, so that an analyst finds it in the newest."""
    if last is None:
        return
    for line in (line for finding in last.findings for line in finding.lines()):
        log.warning(line)
    log.info(
        "verdict", commit=last.commit, verdict=last.outcome, reason=last.reason, live=last.live
    )


@dataclass(frozen=True)
class _Handed:
    """What the judge handed over of this commit; strangers may have written it."""

    outcome: object
    findings: tuple[Finding, ...]
    exemptions: tuple[Exemption, ...]


def _handed(settings: PublishSettings, found: Candidate) -> _Handed:
    value = verdict.read_json(settings.alloc_dir / "data" / "findings.json")
    told = value if isinstance(value, dict) and value.get("commit") == found.commit else {}
    return _Handed(
        told.get("verdict"),
        tuple(verdict.findings_from(told.get("findings"))),
        tuple(verdict.exemptions_from(told.get("exemptions"))),
    )


def _word(settings: PublishSettings, found: Candidate, handed: _Handed) -> Word:
    """Return the verdict on the candidate."""
    if found.refused:
        return Word("refused", "fetch: the push cannot be taken")
    if handed.outcome == "refused":
        # Nomad is not asked: after a failed main task it refuses this one's identity.
        return Word("refused", "the judge's findings say no")
    if handed.outcome == "unknown":
        # As with a no: whoever forges it keeps the own push waiting.
        return Word("unknown", "the judge could not look at all of it")
    return nomad.ask(settings)


def _still_newest(last: Verdict | None, found: Candidate) -> None:
    """Raise LiveMovedError if a push that was fetched later has its verdict already."""
    if last is not None and last.commit not in (found.last, found.commit):
        raise LiveMovedError(
            f"{last.commit} was judged while this run judged {found.commit}",
            "Another run was faster; the next sync judges the branch as it is then.",
        )


def _take(analysts: Git, run: Path, found: Candidate) -> None:
    """Bring the sound commit into the mirror and note it as the newest."""
    stands = live.stands(analysts)
    expected = found.previous or bundle.first_commit(analysts, "analysts")
    if stands not in (expected, found.commit):
        raise LiveMovedError(
            f"live is at {stands}, not at {expected} as when this push was fetched",
            "Another run was faster; the next sync judges the branch as it is then.",
        )
    analysts.run(
        *fsck.UNCHECKED, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules",
        "--no-write-fetch-head", "--", str(run / "repo.git"), "refs/heads/candidate",
        seconds=300, most=1024 * MEBIBYTE,
    )  # fmt: skip
    # The id that was fetched and judged, whatever the ref in that folder says now.
    analysts.run("cat-file", "-e", f"{found.commit}^{{commit}}")
    analysts.run("update-ref", live.NEWEST, found.commit)


def _verdict(root: Path, analysts: Git, found: Candidate, word: Word, handed: _Handed) -> Verdict:
    last = verdict.load(root / "verdict.json")
    again = last is not None and last.commit == found.commit and last.outcome == "unknown"
    attempts = last.attempts + 1 if last is not None and again else 1
    return Verdict(
        commit=found.commit,
        outcome=word.outcome,
        reason=word.reason,
        judged=word.outcome != "unknown" or attempts >= UNKNOWN_TRIES,
        attempts=attempts,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        live=live.stands(analysts),
        findings=() if word.outcome == "sound" else found.refused or handed.findings,
        exemptions=handed.exemptions,
    )


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
