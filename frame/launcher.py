"""``python -m frame.launcher --stranger UID … COMMAND…``: shut Nomad's folders, become COMMAND.

The first process of every task that runs strangers' code, root in its container with the capability
FOWNER. Nomad leaves a task's folders open to every user and writes into them as root of the node,
through links too: one who puts a link in the place of a file there has any file of the node
overwritten. So this shuts them to the strangers' user before it runs, gives its own rights up and
becomes COMMAND. Like frame.trust, in whose place it stands, it adds the cluster's authorities.

It is done by an access control list that names the user. Modes and owners would not last: when
Nomad's agent starts again it gives its folders mode 777 and the user nobody once more, and what an
entry of a list denies stays denied (docs/decisions/0052).
"""

from __future__ import annotations

import argparse
import errno
import os
import pwd
import stat
import struct
import sys
from pathlib import Path

from frame import trust
from frame.failure import Failure

SETPRIV = "/usr/bin/setpriv"
# Where Nomad writes as root; below /alloc it keeps the logs.
FOLDERS = (Path("/secrets"), Path("/local"), Path("/alloc/logs"), Path("/alloc"))

# The extended attribute's form, by linux/posix_acl_xattr.h: a version, then (tag, rights, id) for
# the owner, the user named, the group, the mask and all others, in this order.
_HEAD, _ENTRY, _VERSION = struct.Struct("<I"), struct.Struct("<HHI"), 2
_OWNER, _USER, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_ALL, _PASS, _NONE = 7, 1, 0


def shut(folder: Path, *strangers: int, may_pass: bool = False) -> None:
    """Deny the users ``strangers`` the ``folder``, whatever its mode is now or later.

    With ``may_pass`` they still reach, by its name, what is below. Nothing is done where nobody
    writes: since 2.0.1 Nomad itself mounts its folder of logs read-only. Raises :class:`Failure`
    where the file system keeps no access control lists or the rights are missing.
    """
    mode = stat.S_IMODE(folder.stat().st_mode)
    entries = (
        (_OWNER, mode >> 6 & _ALL, _NO_ID),
        *((_USER, _PASS if may_pass else _NONE, each) for each in sorted(strangers)),
        (_GROUP, mode >> 3 & _ALL, _NO_ID),
        (_MASK, _ALL, _NO_ID),
        (_OTHERS, mode & _ALL, _NO_ID),
    )
    packed = _HEAD.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in entries)
    try:
        os.setxattr(folder, "system.posix_acl_access", packed)
    except OSError as error:
        if error.errno == errno.EROFS:
            return
        what = f"{folder}: expected to shut it to the user {strangers[0]}, found {error.strerror}"
        if error.errno == errno.ENOTSUP:
            raise Failure(
                what,
                "Keep Nomad's data_dir on a file system with access control lists, such as ext4 or "
                "XFS, mounted without noacl.",
            ) from error
        raise Failure(what, "Run the task as root with the capability FOWNER.") from error


def command_line(user: str | None, keep: str, command: list[str]) -> list[str]:
    """Return ``command`` as ``user`` ("UID:GID") runs it, with the capabilities ``keep`` alone.

    They are ambient, so that they last through programs: whoever runs strangers gives them up.
    Without a user the command stays root.
    """
    if user is None:
        return command
    uid, gid = user.split(":")
    kept = ",".join(["-all", *(f"+{capability}" for capability in keep.split(",") if capability)])
    return [
        SETPRIV, f"--reuid={uid}", f"--regid={gid}", "--clear-groups", f"--inh-caps={kept}",
        f"--ambient-caps={kept}", "--no-new-privs", *command,
    ]  # fmt: skip


def main() -> None:
    """Shut the folders and become the command."""
    parser = argparse.ArgumentParser("frame.launcher", description=__doc__)
    parser.add_argument("--stranger", type=int, action="append", required=True)
    parser.add_argument("--user")
    parser.add_argument("--keep", default="")
    parser.add_argument("--pass", dest="passed", type=Path, action="append", default=[])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    try:
        for folder in FOLDERS:
            shut(folder, *given.stranger, may_pass=folder in given.passed)
        trust.add(os.environ)
    except Failure as failure:
        sys.exit(f"{failure.message}\nHINT: {failure.hint}")
    if given.user is not None:
        os.environ["HOME"] = pwd.getpwuid(int(given.user.split(":")[0])).pw_dir
    command = command_line(given.user, given.keep, given.command)
    os.execvp(command[0], command)  # noqa: S606 - the job file names the command


if __name__ == "__main__":
    main()
