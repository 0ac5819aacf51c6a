"""Runs strangers' code: as another user, bounded in all it can take, and dead when we say so.

What holds it: a user of its own that owns nothing, no new privileges, limits on processes,
address space, file size and time, no stdin, an environment without anything in it, and pipes that
are cut when too much is printed. What this module does not do is left to the container: no
network, no identity, no secrets, a read-only tree, memory and disk as a whole.
"""

from __future__ import annotations

import os
import resource
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from delivery import prctl
from delivery.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLL = 0.2
_MAX_WATCHED = 10_000


@dataclass(frozen=True)
class Bounds:
    """What one child may take: times in seconds, sizes in bytes."""

    seconds: float
    memory: int
    processes: int
    file_bytes: int
    output: int


@dataclass(frozen=True)
class Ended:
    """How a child ended; ``cut`` says which bound ended it, "" if it ended by itself.

    ``strayed`` is where it wrote and must not.
    """

    code: int
    stdout: bytes
    stderr: bytes
    cut: Literal["", "time", "output", "strayed"]
    strayed: str = ""


class Sandbox:
    """A place for strangers' code.

    ``user`` is its (uid, gid), or None for our own user: on a laptop, with code one trusts.
    ``watched`` are folders that it could write and must not: Nomad's shared alloc directory is
    world-writable, so a file of its there ends it.
    """

    def __init__(
        self, user: tuple[int, int] | None, bounds: Bounds, watched: tuple[Path, ...] = ()
    ) -> None:
        self.user = user
        self.bounds = bounds
        self.watched = watched
        if user is not None:
            # Orphans of strangers become our children, as they do when we are process 1.
            prctl.set_to(prctl.CHILD_SUBREAPER, 1)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a folder that strangers may write; removed with all that is in it."""
        folder = Path(tempfile.mkdtemp(prefix="dag-sync-judge-"))
        try:
            if self.user is not None:
                try:
                    os.chown(folder, *self.user)
                except PermissionError:  # in the container we have no CAP_CHOWN
                    folder.chmod(0o777)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, command: list[str], *, folder: Path, environ: dict[str, str]) -> Ended:
        """Run ``command`` in ``folder`` until it ends or is ended; nothing of it is left alive.

        Raises SandboxError if it cannot be started as that user or cannot be killed.
        """
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env=environ,
                start_new_session=True,
                preexec_fn=self._confine,  # noqa: PLW1509 - we never start a thread
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SandboxError(
                f"the sandbox did not start {command[0]}: {error}",
                "Run the task as root with the capabilities SETUID, SETGID and KILL, and see that "
                "the strangers' user may run the interpreter.",
            ) from error
        reader = _Reader(process, self.bounds.output)
        deadline = time.monotonic() + self.bounds.seconds
        cut: Literal["", "time", "output", "strayed"] = ""
        strayed = ""
        try:
            while not cut and process.poll() is None:
                reader.read(_POLL)
                if reader.over:
                    cut = "output"
                elif time.monotonic() > deadline:
                    cut = "time"
                elif strayed := self._strayed():
                    cut = "strayed"
            if not cut and (strayed := self._strayed()):
                cut = "strayed"
        finally:
            self.sweep(process)
        reader.drain()
        return Ended(process.returncode, reader.taken("out"), reader.taken("err"), cut, strayed)

    def sweep(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the child and everything it left, its daemons too."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if self.user is None:
            return
        uid, gid = self.user
        for _ in range(100):
            _broom(uid, gid)
            _reap()
            if not alive(uid):
                return
            time.sleep(0.05)
        raise SandboxError(
            f"processes of user {uid} outlive SIGKILL",
            "See whether another service uses this uid: it must be the judge's alone.",
        )

    def _confine(self) -> None:
        """Run in the child between fork and exec."""
        bounds = self.bounds
        with suppress(OSError):  # if memory runs out, this one is to go first
            Path("/proc/self/oom_score_adj").write_text("1000")
        cpu = int(bounds.seconds) + 5
        for kind, most in (
            *([(resource.RLIMIT_AS, bounds.memory)] if prctl.LINUX else []),
            (resource.RLIMIT_FSIZE, bounds.file_bytes),
            (resource.RLIMIT_CPU, cpu),
            (resource.RLIMIT_NOFILE, 512),
            (resource.RLIMIT_CORE, 0),
            *([(resource.RLIMIT_MEMLOCK, 65536)] if prctl.LINUX else []),
        ):
            _limit(kind, most)
        if self.user is not None:
            uid, gid = self.user
            # Per user: on our own user it would count what has nothing to do with this.
            _limit(resource.RLIMIT_NPROC, bounds.processes)
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        prctl.set_to(prctl.NO_NEW_PRIVS, 1)
        os.umask(0o077)

    def _strayed(self) -> str:
        """Return where the strangers' user wrote and must not, "" if nowhere."""
        if self.user is None:
            return ""
        seen = 0
        for top in self.watched:
            for folder, folders, files in os.walk(top):
                for name in (*folders, *files):
                    seen += 1
                    path = os.path.join(folder, name)
                    with suppress(OSError):
                        if os.lstat(path).st_uid == self.user[0]:
                            return path
                    if seen > _MAX_WATCHED:
                        return str(top)
        return ""


class _Reader:
    """Reads a child's two pipes without ever waiting for it; keeps at most ``most`` of each."""

    def __init__(self, process: subprocess.Popen[bytes], most: int) -> None:
        self._most = most
        self._kept = {"out": bytearray(), "err": bytearray()}
        self._selector = selectors.DefaultSelector()
        self.over = False
        self._pipes: list[IO[bytes]] = []
        for name, pipe in (("out", process.stdout), ("err", process.stderr)):
            if pipe is None:
                raise AssertionError(name)
            self._pipes.append(pipe)
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, name)

    def read(self, seconds: float) -> bool:
        """Read what there is, waiting at most ``seconds``; False when nothing came."""
        if not self._selector.get_map():
            time.sleep(min(seconds, 0.02))
            return False
        came = False
        for key, _ in self._selector.select(seconds):
            chunk = os.read(key.fd, 65536)
            if not chunk:
                self._selector.unregister(key.fileobj)
                continue
            came = True
            kept = self._kept[key.data]
            self.over = self.over or len(kept) + len(chunk) > self._most
            kept += chunk[: self._most - len(kept)]
        return came

    def drain(self) -> None:
        """Read the rest: all writers are dead, so this ends after one pipe's buffer."""
        while self._selector.get_map() and self.read(0):
            pass
        self._selector.close()
        for pipe in self._pipes:
            pipe.close()

    def taken(self, name: str) -> bytes:
        """Return what was kept of "out" or "err"."""
        return bytes(self._kept[name])


def _limit(kind: int, most: int) -> None:
    """Lower a limit to ``most``, or leave the container's own if that is lower already."""
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(kind, (most, most))


def _broom(uid: int, gid: int) -> None:
    """Kill all processes of ``uid`` at once, which no fork bomb can outrun.

    ``kill(-1)`` reaches whoever the sender may signal. The sender has the strangers' uid as its
    effective one only, and no stranger's as its real or saved one, so none can kill it first.
    """
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid + 1, uid, uid + 1)
            with suppress(ProcessLookupError, PermissionError):
                os.kill(-1, signal.SIGKILL)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise SandboxError(
            f"processes of user {uid} could not be killed",
            "Run the task as root with the capabilities SETUID, SETGID and KILL.",
        )


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def alive(uid: int, but: int = 0) -> str:
    """Return name and id of a process of ``uid`` that runs, ``but`` not that one; "" if none does.

    The dead that wait for their parent do not count.
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == but:
            continue
        try:
            status = (entry / "status").read_text()
        except OSError:
            continue
        about = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        if (
            str(uid) in about.get("Uid", "").split()
            and about.get("State", "").split()[0] not in "ZX"
        ):
            return f"{about['Name'].strip()} {entry.name}"
    return ""
