"""A warm interpreter that forks a child for each parse, and ends what a parse leaves behind.

``python -m harmattan.fork_server DESCRIPTOR USER…`` has Airflow loaded and holds no secret: it
starts with the environment of :func:`harmattan.strangers.child_environment`. It never runs a
stranger's code itself, so it keeps the capabilities SETUID and SETGID for the children that do.
Each runs as one of the users, alone: as no two run as the same one at a time, none can signal,
trace or read another, and whatever a parse started ends with it.

Requests come by the socket DESCRIPTOR: four descriptors of a child (requests, stdout, stderr, logs)
and a socket of the parse's own, on which the server says :data:`BEGUN` when a user is free for it,
and its exit code when it has ended, each an ``int`` as :mod:`struct` packs it. The other side is
closed, or shut for writing, to end the parse.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from delivery import prctl
from frame.failure import Failure
from harmattan.strangers import LOGS, STRANGER, child_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

CODE = struct.Struct("i")
BEGUN = 1 << 16  # no exit code
_DESCRIPTORS = 5
# Processes and threads of one user: both together leave the container room to end them.
_MOST_PROCESSES = 128
# What most DAGs import is loaded here once, not in each child.
_WARMS = """
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Asset, Variable, dag, task
@dag("warm", schedule=[Asset("warm")])
def warm():
    @task
    def first(): ...
    first() >> EmptyOperator(task_id="last")
warm()
"""
# <linux/capability.h>: version 3, of this process; effective, permitted and inheritable twice.
_CAPABILITIES, _NONE = struct.pack("II", 0x20080522, 0), bytes(24)
_libc = ctypes.CDLL(None, use_errno=True)


class ForkServer:
    """The process, as its parent has it; it ends with its parent."""

    def __init__(self, users: Sequence[int]) -> None:
        """Start it, with as many parses at a time as there are ``users``; it warms up meanwhile."""
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                # Nothing that a stranger can write, such as its home folder, is looked into.
                [sys.executable, "-s", "-P", "-m", "harmattan.fork_server",
                 str(theirs.fileno()), *map(str, users)],
                pass_fds=[theirs.fileno()],
                env=child_environment(os.environ),
                stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def parse(self, descriptors: Sequence[int]) -> socket.socket:
        """Have a child forked with these four ``descriptors``; return the parse's own socket.

        The child waits for a free user. Raises :class:`Failure` if the server has ended.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(self._requests, [b"parse"], [*descriptors, theirs.fileno()])
            except OSError as error:
                ours.close()
                raise lost() from error
        return ours


def lost() -> Failure:
    """Return the failure of a server that is gone, which no stranger can end."""
    return Failure(
        "the fork server of the DAG processor: expected it to run, found that it has ended",
        "Nomad starts the DAG processor again; if it ends again, look for its last lines above and "
        "whether its memory is enough.",
    )


@dataclass(frozen=True)
class _Parse:
    user: int
    pid: int
    ended: int  # a descriptor of the process
    own: socket.socket

    def end(self) -> None:
        """Kill the process, and whatever its user left, and say how it ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.ended, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.ended)
        sweep(self.user)
        with self.own, suppress(BrokenPipeError):
            self.own.send(CODE.pack(os.waitstatus_to_exitcode(status)))


def become(user: int) -> None:
    """Give up everything but ``user`` and the strangers' group, for good."""
    os.setgroups([])
    os.setresgid(STRANGER, STRANGER, STRANGER)
    os.setresuid(user, user, user)
    # Between two users that are not root the kernel keeps capabilities.
    _check(_libc.capset(_CAPABILITIES, _NONE))
    prctl.set_to(prctl.NO_NEW_PRIVS, 1)
    # A change of user shuts a process's own /proc to it.
    prctl.set_to(prctl.DUMPABLE, 1)


def sweep(user: int) -> None:
    """Kill every process of ``user``, and delete what it left in the temporary folder.

    The kernel kills them at once, so no process forks itself out of it. Raises OSError.
    """
    pid = os.fork()
    if pid == 0:
        try:
            become(user)
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            for entry in os.scandir(tempfile.gettempdir()):
                if entry.stat(follow_symlinks=False).st_uid != user:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if status:
        raise OSError(f"cannot end what the user {user} left")


def serve(requests: socket.socket, users: Sequence[int]) -> None:
    """Fork children as ``requests`` come, until its other side is closed."""
    free, parses = list(users), list[_Parse]()
    for user in users:
        sweep(user)
    while True:
        watched = [each for parse in parses for each in (parse.ended, parse.own)]
        ready, _, _ = select.select([*watched, *([requests] if free else [])], [], [])
        for parse in list(parses):
            if parse.ended in ready or parse.own in ready:
                parse.end()
                parses.remove(parse)
                free.append(parse.user)
        if requests in ready:
            message, descriptors, _, _ = socket.recv_fds(requests, 16, _DESCRIPTORS)
            if not message:
                break
            parses.append(_fork(free.pop(0), descriptors))
    for parse in parses:
        parse.end()


def _fork(user: int, descriptors: list[int]) -> _Parse:
    pid = os.fork()
    if pid == 0:
        try:
            _child(user, descriptors[:-1])
        finally:
            os._exit(1)
    for each in descriptors[:-1]:
        os.close(each)
    own = socket.socket(fileno=descriptors[-1])
    with suppress(OSError):  # who waited for it is gone, which its next look sees
        own.send(CODE.pack(BEGUN))
    return _Parse(user, pid, os.pidfd_open(pid), own)


def _child(user: int, descriptors: list[int]) -> None:
    """Parse one file, as Airflow does in a fork, with its four ``descriptors`` and no other."""
    from airflow.dag_processing.processor import _parse_file_entrypoint
    from airflow.sdk.execution_time.supervisor import _fork_main

    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(LOGS + 1, os.sysconf("SC_OPEN_MAX"))
    become(user)
    prctl.set_to(prctl.PARENT_DEATH_SIGNAL, signal.SIGKILL)
    # Where memory runs out, it is a parse that ends.
    Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_NPROC, (_MOST_PROCESSES, _MOST_PROCESSES))
    _fork_main(
        socket.socket(fileno=0),
        socket.socket(fileno=1),
        socket.socket(fileno=2),
        LOGS,
        _parse_file_entrypoint,
    )


def _check(answer: int) -> None:
    if answer:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def warm() -> None:
    """Load what a parse loads, by one of a DAG of our own."""
    import structlog
    from airflow.dag_processing.processor import DagFileParseRequest, _parse_file

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "warm.py")
        file.write_text(_WARMS)
        asked = DagFileParseRequest(file=str(file), bundle_path=Path(folder), bundle_name="warm")
        answer = _parse_file(asked, structlog.get_logger())
    if answer is None or answer.import_errors:
        raise Failure("a DAG of our own cannot be parsed", "See what Airflow says above.")


def main() -> None:
    """Warm up and serve."""
    # The parent says when to end, by closing its side.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    descriptor, *users = map(int, sys.argv[1:])
    warm()
    gc.collect()
    gc.freeze()  # what is there stays shared with the children
    serve(socket.socket(fileno=descriptor), users)


if __name__ == "__main__":
    main()
