"""One timed run of a command or a pipe of commands: wall seconds and peak memory."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import psutil

from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Command = list[str]
Pipe = list[Command]  # each one's output is the next one's input, without us in between

_PAGE = os.sysconf("SC_PAGE_SIZE")
_EVERY = 0.05  # seconds between two looks at the memory of the processes that are known
_FAMILY = 10  # looks between two searches for their children, which read all of /proc (3 ms)
# Programs are measured as they are installed: compiled once, and not at each start.
_INHERITED = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
_TAIL = 700  # characters of a failed command's output that an error repeats


@dataclass(frozen=True)
class Sample:
    """One run: wall seconds, and the peak resident memory of its client processes in MB."""

    seconds: float
    peak_mb: float


def run(
    pipe: Pipe,
    *,
    environment: Mapping[str, str],
    log: Path,
    timeout: float,
    cwd: Path | None = None,
    output: Path | None = None,
) -> Sample:
    """Run ``pipe`` to its end, at most ``timeout`` seconds.

    What the commands say goes into ``log``, the last one's standard output too unless ``output``
    is to hold it. Memory is the sum over all processes of the pipe and their children, so pages
    that forked ones share count for each. Raises Failure when a command fails or is late.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    for file in {log, output or log}:
        file.unlink(missing_ok=True)
    processes: list[subprocess.Popen[bytes]] = []
    with log.open("ab") as said, (output or log).open("ab") as result:
        try:
            began = time.perf_counter()
            feed: int | None = subprocess.DEVNULL
            for place, command in enumerate(pipe):
                last = place == len(pipe) - 1
                process = subprocess.Popen(
                    command,
                    stdin=feed,
                    stdout=result if last else subprocess.PIPE,
                    stderr=said,
                    env={**_INHERITED, **environment},
                    cwd=cwd,
                    start_new_session=True,
                )
                _close(processes)
                processes.append(process)
                feed = process.stdout.fileno() if process.stdout else None
            with _Watch([process.pid for process in processes], timeout) as watch:
                # Popen.wait with a timeout polls in steps of 50 ms: the watch bounds it instead.
                codes = [process.wait() for process in processes]
            seconds = time.perf_counter() - began
        finally:
            _close(processes)
            _end(process.pid for process in processes)
    if any(codes):
        why = f"did not end within {timeout:.0f} s" if watch.late else "failed"
        tail = log.read_text(errors="replace").strip()[-_TAIL:]
        raise Failure(f"{Path(pipe[-1][0]).name} {why}: {tail}", f"Read {log}.")
    return Sample(seconds, watch.peak / 1e6)


def _close(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Close our end of each pipe, so that a reader that ends is noticed by its writer."""
    for process in processes:
        if process.stdout:
            process.stdout.close()


def _end(groups: Iterable[int]) -> None:
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


class _Watch:
    """Looks at the memory of some processes while they run, and ends them when they are late."""

    def __init__(self, pids: list[int], timeout: float) -> None:
        self.peak = 0  # bytes
        self.late = False
        self._pids = pids
        self._deadline = time.monotonic() + timeout
        self._ended = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        known = self._pids
        for look in itertools.count(1):
            self.peak = max(self.peak, sum(map(_resident, known)))
            if self._ended.wait(_EVERY):
                return
            if look % _FAMILY == 0:
                known = self._pids + [pid for root in self._pids for pid in _children(root)]
            if time.monotonic() > self._deadline:
                self.late = True
                _end(self._pids)
                return


def _resident(pid: int) -> int:
    """Return the resident bytes of one process, none if it ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
