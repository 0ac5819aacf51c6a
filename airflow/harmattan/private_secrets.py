"""``python -m harmattan.private_secrets COMMAND…``: run COMMAND with secrets no child can replace.

Nomad leaves a task's /secrets open to every user of the container: one who cannot read a secret
there can still put a file of its own in its place. Before any such user runs, this copies the
secrets to a folder of root's own and becomes COMMAND.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

SECRETS = Path("/secrets")
PRIVATE = Path("/run/airflow")


def copy(source: Path, target: Path) -> None:
    """Copy each secret of ``source``, a file of mode 400, to ``target``, made with mode 700.

    Raises :class:`PermissionError` if anything in ``source`` belongs to another user: a child of
    this task's last life may have put it there.
    """
    target.mkdir(mode=0o700, exist_ok=True)
    for path in source.iterdir():
        found = path.lstat()
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{path} was put there by another user (uid {found.st_uid})")
        if stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == stat.S_IRUSR:
            (target / path.name).write_bytes(path.read_bytes())


def main() -> None:
    """Copy the secrets and replace this process by the command."""
    try:
        copy(SECRETS, PRIVATE)
    except PermissionError as error:
        sys.exit(f"{error}\nHINT: Look at what it parsed; `nomad alloc stop` starts it afresh.")
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606


if __name__ == "__main__":
    main()
