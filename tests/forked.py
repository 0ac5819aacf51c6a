"""Runs of our programs in processes that are forked from one that has imported them.

Each is a process of its own, with its exit code, its environment and its signals; only the second
of processor time is spared that a new interpreter takes for the imports. A run with another user or
another loader needs an interpreter of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path

# What the process to fork from imports: these programs, and so what most of the others import.
PROGRAMS = ("backup.__main__", "ingest.__main__", "scripts.status", "scripts.deploy")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__, *PROGRAMS])


@dataclass(frozen=True)
class Forked:
    """A run that goes on, with what of :class:`subprocess.Popen` the tests use."""

    process: ForkServerProcess
    out: IO[str]
    err: IO[str]

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self.process.pid
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, the signal that ended it as a negative number, or None while it runs."""
        return self.process.exitcode

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Stop it as Nomad does."""
        self.send_signal(signal.SIGTERM)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end and return its exit code; what it wrote is not to be had afterwards."""
        self.communicate(timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end and return what it wrote; kill it and fail if it has none in time."""
        self.process.join(timeout)
        ended = self.process.exitcode is not None
        if not ended:
            self.process.kill()
            self.process.join()
        written = []
        for stream in (self.out, self.err):
            stream.seek(0)
            written.append(stream.read())
            stream.close()
        assert ended, f"it ran longer than {timeout} s:\n{''.join(written)}"
        return written[0], written[1]


def fork(
    program: str,
    *words: str | Path,
    env: Mapping[str, str],
    cwd: str | Path = "/",
) -> Forked:
    """Start what ``python -m program words`` would."""
    out, err = _unnamed_file(), _unnamed_file()
    process = _context.Process(
        target=_main,
        args=(program, tuple(map(str, words)), dict(env), str(cwd), os.getpid(),
              (out.fileno(), err.fileno())),
    )  # fmt: skip
    process.start()
    return Forked(process, out, err)


def run(
    program: str,
    *words: str | Path,
    env: Mapping[str, str],
    cwd: str | Path = "/",
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run it to its end, or fail if it has none within ``timeout`` seconds."""
    forked = fork(program, *words, env=env, cwd=cwd)
    out, err = forked.communicate(timeout)
    assert forked.returncode is not None
    return subprocess.CompletedProcess([program, *words], forked.returncode, out, err)


def _unnamed_file() -> IO[str]:
    return os.fdopen(os.memfd_create("written"), "w+", encoding="utf-8")


def _main(
    program: str,
    words: tuple[str, ...],
    env: Mapping[str, str],
    cwd: str,
    parent: int,
    streams: tuple[int, int],
) -> None:
    for ours, theirs in zip((1, 2), streams, strict=True):
        opened = os.open(f"/proc/{parent}/fd/{theirs}", os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, ours)
        os.close(opened)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    sys.argv = [program, *words]
    for imported in (program, f"{program}.__main__"):  # it is run again, as the program
        sys.modules.pop(imported, None)
    runpy.run_module(program, run_name="__main__", alter_sys=True)
