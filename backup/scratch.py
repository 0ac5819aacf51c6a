"""Private directories on the scratch disk, gone on any exit but a kill -9."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backup.errors import BackupError, WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterator

# A unix socket's path holds 107 bytes; `/S.gpg-agent.browser` and `/.s.PGSQL.5432` must fit behind.
LONGEST_SOCKET_DIRECTORY = 86


@contextmanager
def private_directory(scratch: Path, purpose: str) -> Iterator[Path]:
    """Make a directory of mode 700 under ``scratch`` and remove it with all it holds."""
    if not scratch.is_dir():
        raise WrongUse(
            f"scratch directory {scratch} does not exist",
            hint="Create it or point BACKUP_SCRATCH at a directory with room for one dump.",
        )
    with tempfile.TemporaryDirectory(prefix=f"{purpose}-", dir=scratch) as made:
        if len(made.encode()) > LONGEST_SOCKET_DIRECTORY:
            raise WrongUse(
                f"scratch directory {scratch} has too long a path for unix sockets",
                hint="Point BACKUP_SCRATCH at a path of 70 characters at most.",
            )
        yield Path(made)


def require_room(directory: Path, needed: int, what: str) -> None:
    """Refuse to start on a disk that cannot hold ``needed`` bytes more."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise BackupError(
            f"scratch directory {directory} has {free} bytes free, {what} needs about {needed}",
            hint="Free space there or point BACKUP_SCRATCH at a larger disk.",
        )
