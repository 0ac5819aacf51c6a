"""Private directories on the scratch disk, gone on any exit; of a kill -9, by the next sweep.

They hold plaintext. Each is locked while its process lives, so one that is not is nobody's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from frame.failure import Failure, WrongUse
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = ".harmattan-"  # as nobody else calls what is then removed
# A unix socket's path holds 107 bytes; `/S.gpg-agent.browser` and `/.s.PGSQL.5432` must fit behind.
LONGEST_SOCKET_DIRECTORY = 86
MORE_ROOM = "Free space there or point BACKUP_SCRATCH at a larger disk."
LEFT_SECONDS = 10  # before which a directory may be one that is about to be locked

log = get_logger(__name__)


@contextmanager
def private_directory(scratch: Path, purpose: str, *, sockets: bool = False) -> Iterator[Path]:
    """Make a directory of mode 700 under ``scratch`` and remove it with all it holds.

    What killed runs left there goes first. Its path is short enough for unix ``sockets`` in it.
    Raises :class:`WrongUse` if it is not, or nothing can be made there.
    """
    try:
        _sweep(scratch)
        directory = tempfile.TemporaryDirectory(prefix=f"{PREFIX}{purpose}-", dir=scratch)
    except OSError as error:
        raise WrongUse(
            f"no directory can be made in {scratch}: {error.strerror}",
            hint="Create it or let this user write there; restores and drills use BACKUP_SCRATCH, "
            "a directory with room for one dump.",
        ) from error
    with directory as made:
        if sockets and len(made.encode()) > LONGEST_SOCKET_DIRECTORY:
            raise WrongUse(
                f"scratch directory {scratch} has too long a path for unix sockets",
                hint="Point BACKUP_SCRATCH at a path of 60 characters at most.",
            )
        lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # at most a sweeping neighbour has it for a moment
            yield Path(made)
        finally:
            os.close(lock)


def sweep(scratch: Path) -> None:
    """Remove what killed runs left under ``scratch``; wait for what is too young to tell."""
    for _ in range(LEFT_SECONDS + 1):
        if not _sweep(scratch):
            return
        time.sleep(1)


def _sweep(scratch: Path) -> bool:
    """Remove the directories of processes that were killed; return whether a young one is left."""
    young = False
    for left in scratch.glob(f"{PREFIX}*-????????"):
        with suppress(OSError):  # locked by its process, somebody else's, or gone by now
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found = os.fstat(lock)
                if found.st_uid != os.geteuid():
                    continue
                if time.time() - found.st_ctime > LEFT_SECONDS:
                    shutil.rmtree(left)
                    log.warning("what a killed run left is removed", directory=str(left))
                else:
                    young = True
            finally:
                os.close(lock)
    return young


def require_room(directory: Path, needed: int, what: str) -> None:
    """Refuse to start on a disk that cannot hold ``needed`` bytes more."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise Failure(
            f"scratch directory {directory} has {free} bytes free, {what} needs about {needed}",
            hint=MORE_ROOM,
        )
