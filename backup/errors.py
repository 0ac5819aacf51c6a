"""The one exception family of the package, and the exit code that each kind leads to."""

from __future__ import annotations


class BackupError(Exception):
    """The work could not be done.

    ``message`` names the object, what was expected and what was found, in lower case and without a
    period; ``hint`` is a full sentence that says how to go on.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WrongUse(BackupError):  # noqa: N818 - the house calls exit code 2 "wrong use"
    """The program was called or configured wrongly; nothing was started."""

    exit_code = 2
