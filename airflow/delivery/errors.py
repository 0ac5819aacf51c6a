"""The kinds of failure that this package tells apart."""

from __future__ import annotations

from frame.failure import ExitCode, Failure


class GitError(Failure):
    """A git command failed; ``said`` is the end of what it wrote to stderr."""

    def __init__(self, message: str, hint: str, said: str = "") -> None:
        super().__init__(message, hint)
        self.said = said


class RemoteError(GitError):
    """The analysts' remote refused or did not answer."""


class LiveMovedError(Failure):
    """``live`` is not where this run found it: another run was faster."""


class SandboxError(Failure):
    """The sandbox itself does not hold or did not start: nothing is known about the push."""

    exit_code = ExitCode.UNKNOWN
