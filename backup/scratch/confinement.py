"""The border around the scratch server, where strangers' code runs with all rights of PostgreSQL.

What holds it is the container: a uid of its own, no capability, no network, a process namespace
whose first process is ours. Here it is looked at, and what strangers leave is taken away.
"""

from __future__ import annotations

import ctypes
import os
import resource
import secrets
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterator

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_IPC_RMID = 0
_REAPED = 10_000  # at a time: who forks without end is not to hold us
END_SECONDS = 30  # a process that SIGKILL does not end so soon waits for a broken disk
HOW = (
    "Start it in a container without network, as a user of its own: "
    "docker run --read-only --network none --cap-drop all --security-opt no-new-privileges "
    "--user 50004:50004 IMAGE scratch-server DIRECTORY; the runbook shows it whole."
)
_libc = ctypes.CDLL(None, use_errno=True)


def check_border() -> None:
    """Raise WrongUse unless this process is alone, without network and not root."""
    if os.geteuid() == 0:
        raise WrongUse("the scratch server runs as root, and PostgreSQL refuses to", hint=HOW)
    if os.getpid() != 1:
        raise WrongUse(
            "the scratch server is not the first process of a container, so what strangers leave "
            "could not be told from processes of others",
            hint=HOW,
        )
    if networks := sorted(_networks()):
        raise WrongUse(f"the scratch server reaches a network, by {', '.join(networks)}", hint=HOW)


def _networks() -> set[str]:
    """Return the devices by which something can be reached, the loopback aside."""
    routes = [line.split()[0] for line in _lines("/proc/net/route")[1:]]
    routes += [line.split()[-1] for line in _lines("/proc/net/ipv6_route")]
    return {device for device in routes if device != "lo"}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:  # a kernel without IPv6
        return []


def shut_in() -> None:
    """Let no process of our own uid look into this one, and none of its children gain a right."""
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
        if _libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl was refused")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold rows
    os.umask(0o077)
    os.chdir("/")


def reap() -> Iterator[tuple[int, int]]:
    """Yield pid and exit status of each child that ended; orphans of the server are ours too."""
    with suppress(ChildProcessError):
        for _ in range(_REAPED):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            yield pid, status


def end_others() -> None:
    """Kill every other process of this container: as its first process, we can reach no further.

    One call of kill(-1) reaches all at once, so nothing outruns it by forking.
    Raises :class:`Failure` if one outlives it.
    """
    until = time.monotonic() + END_SECONDS
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # nobody is left, or nobody of ours
            return
        for _ in reap():
            pass
        if time.monotonic() > until:
            raise Failure(
                "processes of the scratch server outlive SIGKILL",
                hint="Look at the disk of its data: they probably wait for it.",
            )
        time.sleep(0.01)


def wipe(directory: Path, keep: str = "") -> None:
    """Remove all that is ours in ``directory`` but ``keep``, however deep and whatever its modes.

    Nothing runs meanwhile that could change it. What is another user's, or a mount, stays.
    """
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        folders = _unlink_files(top, top, keep)
        while folders:  # each is emptied into the top: a tree may be deeper than a path is long
            name = folders.pop()
            with suppress(OSError):
                os.chmod(name, 0o700, dir_fd=top)
                folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                try:
                    folders += _unlink_files(folder, top)
                finally:
                    os.close(folder)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def _unlink_files(folder: int, top: int, keep: str = "") -> list[str]:
    """Remove what is no directory from ``folder``; move directories to ``top``, return names."""
    moved = []
    with os.scandir(folder) as entries:
        listed = [entry.name for entry in entries if entry.name != keep]
    for name in listed:
        with suppress(OSError):
            found = os.lstat(name, dir_fd=folder)
            if found.st_uid != os.geteuid():
                continue
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(name, dir_fd=folder)
                continue
            if folder != top:  # one that cannot be written cannot be moved elsewhere
                os.chmod(name, 0o700, dir_fd=folder)
            new = secrets.token_hex(16)
            os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)  # not of a mount
            moved.append(new)
    return moved


def remove_shared_memory() -> None:
    """Remove the segments of System V that processes of this container made and left."""
    for line in _lines("/proc/sysvipc/shm")[1:]:
        _key, identifier, _mode, _size, maker, *_ = line.split()
        if maker != "0":  # 0 is a process outside: its namespace of segments is not ours alone
            _libc.shmctl(int(identifier), _IPC_RMID, None)
