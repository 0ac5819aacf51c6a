"""``python -m harmattan.groom FOLDER DAYS``: once an hour, delete logs that are older than DAYS."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

HOUR = 3600.0
DAY = 24 * HOUR


def groom(folder: Path, older_than: float) -> int:
    """Delete the files below ``folder`` last written before ``older_than`` (seconds since 1970).

    Folders that are empty for an hour go too. Symbolic links are removed, never followed, not even
    one that takes a folder's place meanwhile: all is named from the open folder that holds it.
    Returns the number of files deleted; what cannot be deleted is left for the next round.
    """
    deleted = 0
    for _, folders, names, within in os.fwalk(folder, topdown=False):
        for name in (*names, *folders):
            try:
                state = os.lstat(name, dir_fd=within)
                if not stat.S_ISDIR(state.st_mode):  # fwalk counts a link to a folder among them
                    if state.st_mtime < older_than:
                        os.unlink(name, dir_fd=within)
                        deleted += 1
                # A task that just made its folder is about to write into it.
                elif state.st_mtime < time.time() - HOUR:
                    os.rmdir(name, dir_fd=within)
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
