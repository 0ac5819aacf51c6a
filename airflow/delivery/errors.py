"""The kinds of failure that this package tells apart."""

from __future__ import annotations

from frame.failure import ExitCode, Failure
from frame.git import GitError


class RemoteError(GitError):
    """The analysts' remote refused or did not answer."""


class LiveMovedError(Failure):
    """``live`` is not where this run found it: another run was faster."""


class SandboxError(Failure):
    """The sandbox itself does not hold or did not start: nothing is known about the push."""

    exit_code = ExitCode.UNKNOWN
