"""The one family of errors of this package."""

from __future__ import annotations


class DeliveryError(Exception):
    """A step that cannot go on.

    ``message`` is lower case without a period and names the object; ``hint`` is a full sentence
    with the way out.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}\nHINT: {hint}")
        self.message = message
        self.hint = hint


class SettingsError(DeliveryError):
    """A setting is missing or has a value that cannot be used: the caller's doing."""


class GitError(DeliveryError):
    """A git command failed; ``said`` is the end of what it wrote to stderr."""

    def __init__(self, message: str, hint: str, said: str = "") -> None:
        super().__init__(message, hint)
        self.said = said


class RemoteError(GitError):
    """The analysts' remote refused or did not answer."""


class LiveMovedError(DeliveryError):
    """``live`` is not where this run found it: another run was faster."""


class SandboxError(DeliveryError):
    """The sandbox itself does not hold or did not start: nothing is known about the push."""
