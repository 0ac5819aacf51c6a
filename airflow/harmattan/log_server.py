"""``python -m harmattan.log_server FOLDER``: Airflow's log server, which follows no link.

It serves what triggerers wrote to FOLDER, and what workers wrote to Airflow's own folder of logs,
which strangers' tasks write as well. For a task's log the former follows the latter: of a task that
has ended the web server asks for one file, and some tasks never were on a worker.

Airflow looks for links before it opens a file, so one that changes in between is followed - to the
key that logs are signed with, say. Here a file is opened folder by folder, no link is passed, and
what was opened is what is served.
"""

from __future__ import annotations

import glob
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path, PurePath
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


def regular_files(wanted: list[tuple[str, str]]) -> list[int]:
    """Open those of the files (folder, path) that are there, and return their descriptors."""
    opened = []
    for folder, path in wanted:
        try:
            descriptor = open_beneath(folder, path)
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            opened.append(descriptor)
        else:
            os.close(descriptor)
    return opened


def joined(descriptors: list[int]) -> int:
    """Return a file that holds the files one after the other, which are closed."""
    with tempfile.TemporaryFile() as whole:
        for descriptor in descriptors:
            with os.fdopen(descriptor, "rb") as part:
                shutil.copyfileobj(part, whole)
        whole.flush()
        return os.dup(whole.fileno())


class LinklessFiles(log_server.JWTAuthStaticFiles):
    """Airflow's signed files, from ``triggers`` and then from its own folder, without links."""

    triggers: str

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Return a path that stays the file that is there now, and its state."""
        if path.startswith("/") or ".." in PurePath(path).parts:
            return "", None
        found = regular_files([(self.triggers, path)]) or regular_files(
            [(str(self.directory), path), *((self.triggers, each) for each in self._beside(path))]
        )
        if not found:
            return "", None
        descriptor = found[0] if len(found) == 1 else joined(found)
        return f"/proc/self/fd/{descriptor}", os.fstat(descriptor)

    def _beside(self, path: str) -> list[str]:
        """Return the logs of triggers of the task whose log is ``path``, the oldest first."""
        log = PurePath(path)
        folder = Path(self.triggers, log.parent)
        found = [each.name for each in folder.glob(f"{glob.escape(log.name)}.trigger.*.log")]
        found.sort(key=lambda name: (len(name), name))  # their numbers grow
        return [str(log.parent / name) for name in found]

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
