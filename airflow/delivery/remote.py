"""The analysts' remote over ssh: which commit its branch is at, and the branch itself."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import tenacity

from delivery import absence, fsck
from delivery.errors import RemoteError
from frame.failure import Failure, WrongUse
from frame.git import Git, GitError
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from delivery.settings import FetchSettings

log = get_logger(__name__)
T = TypeVar("T")

_HOPELESS = re.compile(
    r"Host key verification failed|Permission denied|No such file|does not appear to be a git|"
    r"No user exists"
)
_ENDED_EARLY = re.compile(r"EOF|disconnect|hung up|reset|closed|Broken pipe")


@dataclass(frozen=True)
class Remote:
    """The remote of ``settings``; ``command`` is git's GIT_SSH_COMMAND."""

    settings: FetchSettings
    command: str

    def head(self) -> str:
        """Return the commit that the branch is at. Raises RemoteError, Failure without a branch."""
        return _retry(self.settings, lambda: _head(self.settings, self.command))

    def download(self, git: Git, ref: str) -> None:
        """Fetch the branch into ``git`` as ``ref``. Raises RemoteError."""
        _retry(self.settings, lambda: _download(self.settings, self.command, git, ref))


@contextmanager
def connected(settings: FetchSettings) -> Iterator[Remote]:
    """Yield the remote; what fails meanwhile is noted and told (:mod:`delivery.absence`)."""
    with _ssh(settings) as command, absence.watched(settings):
        yield Remote(settings, command)


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
        f"{settings.remote} has no branch {settings.branch}; what is live stays live",
        "Push that branch, or set DELIVERY_BRANCH to the one that is to be delivered.",
    )


def _download(settings: FetchSettings, command: str, git: Git, ref: str) -> None:
    Git(git.repository, protocol="ssh", environ={"GIT_SSH_COMMAND": command}).run(
        *fsck.UNCHECKED,
        "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
        "--", settings.remote, f"+refs/heads/{settings.branch}:{ref}",
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
