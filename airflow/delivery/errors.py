"""The kinds of failure that this package tells apart."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from frame.failure import ExitCode, Failure
from frame.git import MEBIBYTE, GitError

if TYPE_CHECKING:
    from pathlib import Path

ROOM = 64 * MEBIBYTE
"""With less room on a volume, what git could not write says nothing about a push."""


class RemoteError(GitError):
    """The analysts' remote refused or did not answer."""


class LiveMovedError(Failure):
    """``live`` is not where this run found it: another run was faster."""


class FullError(Failure):
    """A volume is full: nothing is known about the push."""


def raise_if_full(error: GitError, folder: Path | None) -> None:
    """Raise FullError if ``error`` may come of the volume of ``folder`` and not of a push."""
    if folder is None:
        return
    volume = os.statvfs(folder)
    room = volume.f_bavail * volume.f_frsize
    if "No space left" in error.said or room < ROOM or (volume.f_files and not volume.f_favail):
        raise FullError(
            f"{folder} has room for {room} bytes and {volume.f_favail} files: {error.message}",
            "Make room on that volume; the next run tries again.",
        ) from error


class SandboxError(Failure):
    """The sandbox itself does not hold or did not start: nothing is known about the push."""

    exit_code = ExitCode.UNKNOWN
