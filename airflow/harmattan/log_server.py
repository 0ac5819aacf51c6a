"""``python -m harmattan.log_server FOLDER``: Airflow's log server, which follows no link.

It serves what triggerers wrote to FOLDER, then what workers wrote to Airflow's own folder of logs,
which strangers' tasks write as well. Airflow looks for links before it opens a file, so one that
changes in between is followed - to the key that logs are signed with, say. Here a file is opened
folder by folder, no link is passed, and what was opened is what is served.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import PurePath
from typing import Any

from airflow.utils.serve_logs import log_server, serve_logs


def open_beneath(folder: str, path: str) -> int:
    """Open the file ``path`` below ``folder`` for reading, and return its descriptor.

    Raises :class:`OSError` for what is no file, and wherever a link stands in the way.
    """
    *parents, name = PurePath(path).parts
    if ".." in (*parents, name):
        raise PermissionError(f"{path} leaves its folder")
    within = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        for parent in parents:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
            inner = os.open(parent, flags, dir_fd=within)
            os.close(within)
            within = inner
        # Without O_NONBLOCK a named pipe would be waited for.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=within)
    finally:
        os.close(within)


class LinklessFiles(log_server.JWTAuthStaticFiles):
    """Airflow's signed files, from ``triggers`` and then from its own folder, without links."""

    triggers: str

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Return a path that stays the file that is there now, and its state."""
        if not path.startswith("/"):
            for folder in (self.triggers, str(self.directory)):
                try:
                    descriptor = open_beneath(folder, path)
                except (OSError, ValueError):
                    continue
                state = os.fstat(descriptor)
                if stat.S_ISREG(state.st_mode):
                    return f"/proc/self/fd/{descriptor}", state
                os.close(descriptor)
        return "", None

    def file_response(self, full_path: Any, *rest: Any, **more: Any) -> Any:
        """Answer with the file, which is open for as long as the answer is there."""
        opened = os.fdopen(int(os.path.basename(full_path)), "rb")
        response: Any = super().file_response(full_path, *rest, **more)
        response.opened = opened
        return response


def main() -> None:
    """Serve until stopped."""
    LinklessFiles.triggers = sys.argv[1]
    log_server.JWTAuthStaticFiles = LinklessFiles  # type: ignore[misc]
    serve_logs()


if __name__ == "__main__":
    main()
