"""The few programs that run on the host itself: started in the background, stopped by id."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psutil

from frame.failure import Failure
from scripts.local.home import PID_FILES
from scripts.repository import LOGS
from scripts.shell import NO_TELEMETRY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


def find(name: str) -> psutil.Process | None:
    """Return the running process that :func:`start` started as ``name``, ``None`` if it ended.

    The start time is kept beside the id, so an id that the system gave to another program since
    is never taken for ours.
    """
    try:
        pid, created, *_ = (PID_FILES / name).read_text().split()
        process = psutil.Process(int(pid))
        if abs(process.create_time() - float(created)) > 1 or not process.is_running():
            return None
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None


def is_up_to_date(name: str, command: Sequence[str | Path], files: Sequence[Path] = ()) -> bool:
    """Tell whether ``name`` runs, was started by ``command`` and has read ``files`` as they are."""
    return find(name) is not None and (PID_FILES / name).read_text().endswith(
        f" {_fingerprint(command, files)}"
    )


def start(
    name: str,
    command: Sequence[str | Path],
    *,
    files: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Start ``command`` in a session of its own, its output in ``.local/logs/NAME.log``.

    ``files`` is what it reads when it starts: one that runs with others, or by another command, is
    stopped first. With ``environment`` given it gets that and PATH, nothing else: what the
    operator's shell holds does not reach it.
    """
    if is_up_to_date(name, command, files):
        return
    stop(name)
    LOGS.mkdir(parents=True, exist_ok=True)
    PID_FILES.mkdir(parents=True, exist_ok=True)
    kept = os.environ if environment is None else {"PATH": os.environ["PATH"], **environment}
    if not shutil.which(command[0]):
        raise Failure(f"{command[0]} is not installed", "Install it and run this again.")
    with (LOGS / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**kept, **NO_TELEMETRY},
            start_new_session=True,
        )
    created = psutil.Process(process.pid).create_time()
    fingerprint = _fingerprint(command, files)
    (PID_FILES / name).write_text(f"{process.pid} {created} {fingerprint}")


def _fingerprint(command: Sequence[str | Path], files: Sequence[Path]) -> str:
    digest = hashlib.sha256(repr([str(word) for word in command]).encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def stop(name: str, *, timeout: float = 60) -> None:
    """End the process started as ``name``: asked first, killed after ``timeout`` seconds."""
    if process := find(name):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)
    (PID_FILES / name).unlink(missing_ok=True)


def wait_for(name: str, ready: Callable[[], bool], *, timeout: float = 60) -> None:
    """Wait until ``ready()`` is true, at most ``timeout`` seconds; the process may not end before.

    Raises :class:`Failure` with the end of the log when it does.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if ready():
            return
        if not find(name):
            what = "ended before it was ready"
            break
        time.sleep(0.2)
    else:
        what = f"was not ready within {timeout:.0f} s"
    log = LOGS / f"{name}.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
    raise Failure(
        f"{name} {what}; its log ends with:\n{tail}",
        f"Read {log}, mend the cause and run the same command again.",
    )
