"""``python -m harmattan.groom FOLDER DAYS``: once an hour, delete logs that are older than DAYS."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

HOUR = 3600.0
DAY = 24 * HOUR


def groom(folder: Path, older_than: float) -> int:
    """Delete the files below ``folder`` last written before ``older_than`` (seconds since 1970).

    Folders that are empty for an hour go too. Symbolic links are removed, never followed. Returns
    the number of files deleted; what cannot be deleted is left for the next round.
    """
    deleted = 0
    for parent, folders, names in os.walk(folder, topdown=False):
        # os.walk counts a link to a folder among the folders.
        for name in [*names, *(each for each in folders if Path(parent, each).is_symlink())]:
            path = Path(parent, name)
            try:
                if path.lstat().st_mtime < older_than:
                    path.unlink()
                    deleted += 1
            except OSError:
                continue
        if Path(parent) != folder:
            try:
                # A task that just made its folder is about to write into it.
                if Path(parent).lstat().st_mtime < time.time() - HOUR:
                    Path(parent).rmdir()
            except OSError:
                continue
    return deleted


def main() -> None:
    """Groom the folder until stopped."""
    folder, days = Path(sys.argv[1]), float(sys.argv[2])
    while True:
        deleted = groom(folder, time.time() - days * DAY)
        print(f"deleted {deleted} log files older than {days:g} days", flush=True)
        time.sleep(HOUR)


if __name__ == "__main__":
    main()
