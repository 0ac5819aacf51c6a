"""What goes wrong, as data: a message, a hint and an exit code; and the table of those codes."""

from __future__ import annotations

import re
from enum import IntEnum


class ExitCode(IntEnum):
    """How a command of the house ends; `MEANINGS` says each in words."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    NOTHING_TO_DO = 3
    UNKNOWN = 4
    PASSES = 75  # EX_TEMPFAIL of sysexits.h
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "failed",
    ExitCode.WRONG_USE: "wrong use or settings: a connection, file or variable that is not there",
    ExitCode.NOTHING_TO_DO: "there was nothing to do",
    ExitCode.UNKNOWN: "nothing can be said",
    ExitCode.PASSES: "failed for what may pass: another try, a little later, may do",
    ExitCode.HUNG_UP: "the terminal was closed",
    ExitCode.INTERRUPTED: "interrupted from the keyboard",
    ExitCode.TERMINATED: "stopped by SIGTERM",
}


# One who mixes arguments up names a URI where a name belongs, and a message repeats it.
_PASSWORDS = re.compile(r"""(:/{1,2}[^\s:/@]*):[^\s"]*@|\b(password=)[^\s&'"]+""", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """Return ``text`` with ``***`` for the password of every URI and libpq string in it."""
    return _PASSWORDS.sub(lambda found: f"{found[2]}***" if found[2] else f"{found[1]}:***@", text)


class Failure(Exception):
    """The work could not be done, and what there was is as it was.

    ``message`` names the object, what was expected and what was found, in lower case and without a
    period, and never holds the password of a URI; ``hint`` is a full sentence that says how to go
    on. Kinds that a caller must tell apart are subclasses.
    """

    exit_code: int = ExitCode.FAILED

    def __init__(self, message: str, hint: str, exit_code: int | None = None) -> None:
        message = without_passwords(message)
        super().__init__(message, hint)
        self.message = message
        self.hint = hint
        if exit_code is not None:  # other than its kind's
            self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message}\nHINT: {self.hint}"


class WrongUse(Failure):
    """The command was called or configured wrongly; nothing was started."""

    exit_code = ExitCode.WRONG_USE


class Stopped(BaseException):
    """The command was told to end, or its time is over.

    Not an ``Exception``: libraries turn those into errors of their own, which they then retry.
    """

    def __init__(self, message: str, exit_code: int = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
