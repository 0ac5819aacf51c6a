"""``dag-sync fetch``: bring the analysts' branch to the incoming volume, and run none of it.

The only step with the network and the login at the remote. A push that breaks a limit is a verdict
against the push, not a failure of this step.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from delivery import candidate as candidates
from delivery import checkout, limits, links, verdict
from delivery.bundle import LIVE
from delivery.candidate import Candidate
from delivery.live import NEWEST
from delivery.policies import finding
from delivery.remote import connected
from delivery.verdict import Finding
from frame.git import Git, init_bare
from frame.log import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from delivery.remote import Remote
    from delivery.settings import FetchSettings

log = get_logger(__name__)

_REF = "refs/heads/candidate"
README = b"README.md"
_ALLOWED = re.compile(rb"^\W*gate: allow removal because \w", re.MULTILINE)


def fetch(settings: FetchSettings) -> Candidate:
    """Fetch the branch and write ``candidate.json`` into this run's folder.

    Returns the candidate, its tree exported read-only beside it if it may be judged. Raises
    RemoteError if the remote does not give it.
    """
    os.umask(0o022)
    run = candidates.folder(settings.incoming, settings.alloc_id)
    candidates.remove(run)
    run.mkdir()
    for name in candidates.remove_stale(settings.incoming, settings.alloc_id):
        log.info("removed the folder of a run that died", run=name)
    live, newest = (_ref(settings.mirror, name) for name in (LIVE, NEWEST))
    last = verdict.load(settings.mirror / "verdict.json")
    with connected(settings) as remote:
        head = remote.head()
        if is_judged(last, head, newest or live):
            log.info("nothing new: this commit was judged already", commit=head)
            commit, refused = head, tuple[Finding, ...]()
        else:
            commit, refused = _take(settings, remote, run)
    found = Candidate(
        commit,
        previous=live,
        last=last.commit if last else "",
        judged=is_judged(last, commit, newest or live),
        refused=refused,
    )
    candidates.save(run, found)
    return found


def is_judged(last: verdict.Verdict | None, commit: str, newest: str) -> bool:
    """Whether ``commit`` need not be judged again, with ``newest`` the mirror's newest sound one.

    A sound commit that the mirror has not got was judged in vain (a mirror made anew).
    """
    if last is None or last.commit != commit or not last.judged:
        return False
    return last.outcome != "sound" or newest == commit


def _take(settings: FetchSettings, remote: Remote, run: Path) -> tuple[str, tuple[Finding, ...]]:
    """Fetch the branch into ``run``; return its commit and what refuses it unjudged.

    A branch that moved since its head was listed is taken as it is now.
    """
    git = init_bare(run / "repo.git")
    objects = settings.mirror / "analysts.git" / "objects"
    if objects.is_dir():
        alternates = run / "repo.git" / "objects" / "info" / "alternates"
        alternates.parent.mkdir(exist_ok=True)
        alternates.write_text(f"{objects}\n")
    remote.download(git, _REF)
    commit = git.text("rev-parse", "--verify", f"{_REF}^{{commit}}")
    entries, findings = checkout.entries_within(settings, git, commit)
    findings += _removal(settings, git, commit, entries)
    if not findings:
        findings = checkout.export(git, commit, run / "tree")
    if findings:
        candidates.remove(run / "tree")
        for line in (line for found in findings for line in found.lines()):
            log.warning(line)
        return commit, tuple(verdict.bounded(findings))
    log.info("fetched", commit=commit)
    return commit, ()


def _removal(
    settings: FetchSettings, git: Git, commit: str, found: list[limits.Entry]
) -> list[Finding]:
    """Refuse a push without a DAG or pipeline while some are live, unless its README says why."""
    if any(limits.delivers(entry) for entry in found) or not _ref(settings.mirror, LIVE):
        return []
    live = Git(settings.mirror / "analysts.git").run("ls-tree", "-r", "-l", "-z", LIVE)
    if not any(limits.delivers(entry) for entry in limits.entries(live)):
        return []
    readme = [e for e in found if e.path == README and e.mode != links.LINK]
    if readme and _ALLOWED.search(git.run("cat-file", "blob", readme[0].object_id)):
        return []
    return [finding("removal", "", "the push removes every DAG and pipeline")]


def _ref(mirror: Path, name: str) -> str:
    repository = mirror / "analysts.git"
    return (Git(repository).ref(name) or "") if repository.is_dir() else ""
