"""``dag-sync fetch``: bring the analysts' branch to the incoming volume, and run none of it.

The only step with the network and the deploy key. A push that breaks a limit is a verdict
against the push, not a failure of this step.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import tenacity

from delivery import candidate as candidates
from delivery import limits, verdict
from delivery.candidate import Candidate
from delivery.errors import RemoteError
from delivery.verdict import Finding
from frame.failure import Failure, WrongUse
from frame.git import MEBIBYTE, Git, GitError, init_bare
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from delivery.settings import FetchSettings

log = get_logger(__name__)
T = TypeVar("T")

_REF = "refs/heads/candidate"
_LIVE = "refs/heads/live"
_HOPELESS = re.compile(
    r"Host key verification failed|Permission denied|No such file|does not appear to be a git|"
    r"fsck|error in packed object|No user exists"
)
_ENDED_EARLY = re.compile(r"EOF|disconnect|hung up|reset|closed|Broken pipe")
_CORRUPT = re.compile(r"fsck error|error in packed object")
LISTING_SECONDS = 30.0
# 2,000 files with the longest paths take under 1 MB; ten times that is a tree made to hurt.
LISTING_BYTES = 8 * MEBIBYTE


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
    live = _live(settings.mirror)
    last = verdict.load(settings.mirror / "verdict.json")
    with _ssh(settings) as command:
        head = _retry(settings, lambda: _head(settings, command))
        if is_judged(last, head, live):
            log.info("nothing new: this commit was judged already", commit=head)
            commit, refused = head, tuple[Finding, ...]()
        else:
            commit, refused = _take(settings, command, run, head)
    found = Candidate(
        commit,
        previous=live,
        last=last.commit if last else "",
        judged=is_judged(last, commit, live),
        refused=refused,
    )
    candidates.save(run, found)
    return found


def is_judged(last: verdict.Verdict | None, commit: str, live: str) -> bool:
    """Whether ``commit`` need not be judged again, with ``live`` as it is now.

    A sound commit that is not live was judged in vain (a mirror made anew): judge it again.
    """
    if last is None or last.commit != commit or not last.judged:
        return False
    return last.outcome != "sound" or live == commit


def _take(
    settings: FetchSettings, command: str, run: Path, head: str
) -> tuple[str, tuple[Finding, ...]]:
    """Fetch the branch into ``run``; return its commit and what refuses it unjudged.

    A branch that moved since ``head`` was listed is taken as it is now.
    """
    git = init_bare(run / "repo.git")
    objects = settings.mirror / "analysts.git" / "objects"
    if objects.is_dir():
        alternates = run / "repo.git" / "objects" / "info" / "alternates"
        alternates.parent.mkdir(exist_ok=True)
        alternates.write_text(f"{objects}\n")
    try:
        _retry(settings, lambda: _download(settings, command, git))
    except GitError as error:
        if not _CORRUPT.search(error.said):
            raise
        finding = Finding.of("", "git finds the history corrupt or unsafe", error.said)
        log.warning("refused by git's own checks", commit=head)
        return head, (finding,)
    commit = git.text("rev-parse", "--verify", f"{_REF}^{{commit}}")
    findings = _limits(settings, git, commit)
    if findings:
        for line in (line for finding in findings for line in finding.lines()):
            log.warning(line)
        return commit, tuple(verdict.bounded(findings))
    _export(git, commit, run / "tree")
    log.info("fetched", commit=commit)
    return commit, ()


def _limits(settings: FetchSettings, git: Git, commit: str) -> list[Finding]:
    """Check the tree's listing; a tree that takes too long or too much to list breaks a limit."""
    try:
        listing = git.run(
            "ls-tree", "-r", "-l", "-z", "--full-tree", commit,
            seconds=LISTING_SECONDS, most=LISTING_BYTES,
        )  # fmt: skip
    except GitError as error:
        return [Finding.of("", "the tree cannot be listed within bounds", error.message)]
    return limits.check(listing, max_files=settings.max_files, max_bytes=settings.max_bytes)


def _export(git: Git, commit: str, tree: Path) -> None:
    """Check the commit out as Airflow's own clone will, then take every write bit away.

    A checkout and not ``git archive``: what .gitattributes does to a file in Airflow's clone
    (line ends, encodings) it must have done to the file that is judged.
    """
    tree.mkdir()
    index = {"GIT_INDEX_FILE": str(tree.parent / "index")}
    # An encoding in .gitattributes can make a file at most four times its size.
    git.run(f"--work-tree={tree}", "read-tree", "--reset", "-u", commit, environ=index, seconds=120)
    for path in tree.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    tree.chmod(0o555)


def _live(mirror: Path) -> str:
    repository = mirror / "analysts.git"
    return (Git(repository).ref(_LIVE) or "") if repository.is_dir() else ""


def _head(settings: FetchSettings, command: str) -> str:
    ref = f"refs/heads/{settings.branch}"
    listed = Git(protocol="ssh", environ={"GIT_SSH_COMMAND": command}).text(
        "ls-remote", "--", settings.remote, ref, seconds=settings.seconds
    )
    for line in listed.splitlines():
        object_id, _, name = line.partition("\t")
        if name == ref and re.fullmatch(r"[0-9a-f]{40}", object_id):
            return object_id
    raise Failure(
        f"{settings.remote} has no branch {settings.branch}",
        "Push that branch, or set DELIVERY_BRANCH to the one that is to be delivered.",
    )


def _download(settings: FetchSettings, command: str, git: Git) -> None:
    Git(git.repository, protocol="ssh", environ={"GIT_SSH_COMMAND": command}).run(
        "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
        "--", settings.remote, f"+refs/heads/{settings.branch}:{_REF}",
        seconds=settings.seconds, most=settings.max_transfer,
    )  # fmt: skip


def _retry(settings: FetchSettings, ask: Callable[[], T]) -> T:
    """Ask the remote with back-off; RemoteError when it is hopeless or tries are used up."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, GitError) and not _hopeless(error.said)
        ),
        stop=tenacity.stop_after_attempt(settings.attempts),
        wait=tenacity.wait_exponential_jitter(initial=1, max=15),
        before_sleep=lambda state: log.warning(
            "the remote did not answer", tries=state.attempt_number
        ),
        reraise=True,
    )
    try:
        return retrying(ask)
    except GitError as error:
        hint = "See that the remote runs and is reached from this node; the next run tries again."
        if "Host key" in error.said:
            hint = (
                "Put the remote's real host key into DELIVERY_KNOWN_HOSTS_FILE, after checking it."
            )
        elif "Permission denied" in error.said:
            hint = "Add the deploy key's public half to the remote, with the right to read only."
        elif _too_large(error.said):
            hint = "Raise DELIVERY_MAX_TRANSFER if the history is right to be that large."
        raise RemoteError(f"{settings.remote}: {error.message}", hint, error.said) from error


def _hopeless(said: str) -> bool:
    """Whether git's words tell that another try would end the same."""
    return bool(_HOPELESS.search(said)) or _too_large(said)


def _too_large(said: str) -> bool:
    """Whether index-pack died without the remote's doing: at the bound on a file's size."""
    return "invalid index-pack output" in said and not _ENDED_EARLY.search(said)


@contextmanager
def _ssh(settings: FetchSettings) -> Iterator[str]:
    """Yield GIT_SSH_COMMAND; the key is copied, as ssh wants mode 600 and a final newline."""
    try:
        key = settings.key_file.read_text().replace("\r\n", "\n").strip() + "\n"
        hosts = settings.known_hosts_file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUse(
            f"deploy key or known hosts cannot be read: {error}",
            "See that the job's templates render both and that the task's user may read them.",
        ) from error
    # Nomad's secrets directory is memory: the copy should not leave it for a disk.
    beside = settings.key_file.parent
    place = beside if os.access(beside, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="dag-sync-", dir=place) as private:
        key_file, hosts_file = Path(private, "key"), Path(private, "known_hosts")
        for path, content in ((key_file, key), (hosts_file, hosts)):
            path.touch(mode=0o600)
            path.write_text(content)
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(hosts_file),
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "ForwardAgent": "no",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "ConnectTimeout": "10",
            # A remote that goes silent is given up after a minute, not after TCP's two hours.
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
            "LogLevel": "ERROR",
        }
        given = [word for key_, value in options.items() for word in ("-o", f"{key_}={value}")]
        yield shlex.join(["ssh", "-F", "/dev/null", "-i", str(key_file), *given])
