"""The analysts' remote: which commit its branch is at, and the branch itself."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import tenacity

from delivery import absence, access, fsck
from delivery.errors import RemoteError
from frame.failure import Failure
from frame.git import GitError
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from delivery.access import Access
    from delivery.settings import FetchSettings
    from frame.git import Git

log = get_logger(__name__)
T = TypeVar("T")

_ENDED_EARLY = re.compile(r"EOF|disconnect|hung up|reset|closed|Broken pipe")


@dataclass(frozen=True)
class Remote:
    """The remote of ``settings``, and how git gets in there."""

    settings: FetchSettings
    access: Access

    def head(self) -> str:
        """Return the commit that the branch is at. Raises RemoteError, Failure without a branch."""
        return self._retry(self._head)

    def download(self, git: Git, ref: str) -> None:
        """Fetch the branch into ``git`` as ``ref``. Raises RemoteError."""
        self._retry(lambda: self._download(git, ref))

    def _head(self) -> str:
        settings, ref = self.settings, f"refs/heads/{self.settings.branch}"
        listed = self.access.git(None).text(
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

    def _download(self, git: Git, ref: str) -> None:
        settings = self.settings
        self.access.git(git.repository).run(
            *fsck.UNCHECKED,
            "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
            "--", settings.remote, f"+refs/heads/{settings.branch}:{ref}",
            seconds=settings.seconds, most=settings.max_transfer,
        )  # fmt: skip

    def _retry(self, ask: Callable[[], T]) -> T:
        """Ask the remote with back-off; RemoteError when it is hopeless or tries are used up."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, GitError) and not self._hopeless(error.said)
            ),
            stop=tenacity.stop_after_attempt(self.settings.attempts),
            wait=tenacity.wait_exponential_jitter(initial=1, max=15),
            before_sleep=lambda state: log.warning(
                "the remote did not answer", tries=state.attempt_number
            ),
            reraise=True,
        )
        try:
            return retrying(ask)
        except GitError as error:
            remote = self.settings.remote
            if "certificate" in error.said and (fault := access.distrusted(remote)):
                raise RemoteError(*fault, error.said) from error
            hint = self.access.hint(error.said)
            if _too_large(error.said):
                hint = "Raise DELIVERY_MAX_TRANSFER if the history is right to be that large."
            raise RemoteError(f"{remote}: {error.message}", hint, error.said) from error

    def _hopeless(self, said: str) -> bool:
        """Whether git's words mean that another try would end the same."""
        return self.access.refused(said) or _too_large(said)


@contextmanager
def connected(settings: FetchSettings) -> Iterator[Remote]:
    """Yield the remote; what fails meanwhile is noted and told (:mod:`delivery.absence`)."""
    with access.opened(settings) as opened, absence.watched(settings):
        yield Remote(settings, opened)


def _too_large(said: str) -> bool:
    """Whether index-pack died without the remote's doing: at the bound on a file's size."""
    return "invalid index-pack output" in said and not _ENDED_EARLY.search(said)
