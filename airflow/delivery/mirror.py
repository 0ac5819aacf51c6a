"""The mirror: bare repositories, served read-only by git's own daemon.

Airflow clones two, and its web server reads what the gate reports in the third.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from delivery import bundle
from delivery.bundle import LIVE
from delivery.candidate import remove
from frame import git
from frame.failure import Failure
from frame.git import NOTHING, Git
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from delivery.settings import MirrorSettings

log = get_logger(__name__)

NAMES = ("pipelines", "analysts", "verdicts")
LOCK_SECONDS = 120.0


def repository(mirror: Path, name: str) -> Path:
    """Return the path of the bare repository ``name``."""
    return mirror / f"{name}.git"


@contextmanager
def locked(mirror: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the mirror alone: the lock goes with the process, however that ends."""
    if not os.access(mirror, os.W_OK | os.X_OK):
        raise Failure(
            f"{mirror} cannot be written by uid {os.geteuid()}",
            "Let the mirror volume exist and be owned by the task's user.",
        )
    handle = os.open(mirror / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise Failure(
                        f"another run has held {mirror} for {seconds:.0f} s",
                        "See which allocation of the sync still runs, and stop it.",
                    ) from error
                time.sleep(0.2)
        yield
    finally:
        os.close(handle)


def prepare(mirror: Path) -> None:
    """Let the repositories exist with a ``live`` that can be cloned; the lock must be held.

    Mends what a killed run left: a half-made repository, git's own lock files.
    """
    for name in NAMES:
        final = repository(mirror, name)
        half = mirror / f".{name}.half"
        remove(half)
        if not final.is_dir():
            made = git.init_bare(half)
            made.swap(LIVE, bundle.first_commit(made, name), NOTHING)
            half.rename(final)
            log.info("made the repository", repository=final.name)
        # Only the holder of our lock writes here, so a lock of git's is a dead run's.
        for stale in (*final.glob("*.lock"), *final.glob("refs/**/*.lock")):
            stale.unlink()
            log.warning("removed the lock of a run that died", lock=str(stale))
        known = Git(final)
        if known.ref(LIVE) is None:
            known.swap(LIVE, bundle.first_commit(known, name), NOTHING)


def daemon_command(settings: MirrorSettings) -> list[str]:
    """Return the command of the read-only service: the repositories, fetch only."""
    return [
        git.daemon_program(),
        "--reuseaddr",
        "--export-all",
        "--strict-paths",
        f"--base-path={settings.mirror}",
        f"--listen={settings.listen}",
        f"--port={settings.port}",
        # A client asks at once, or it is none; a clone that stalls for 2 minutes is dead.
        "--init-timeout=10",
        "--timeout=120",
        f"--max-connections={settings.connections}",
        "--enable=upload-pack",
        *(
            f"--{how}={service}"
            for service in ("receive-pack", "upload-archive")
            for how in ("disable", "forbid-override")
        ),
        "--log-destination=stderr",
        *(str(repository(settings.mirror, name)) for name in NAMES),
    ]


def serve(settings: MirrorSettings) -> NoReturn:
    """Prepare the mirror and become git's daemon."""
    os.umask(0o022)
    with locked(settings.mirror):
        prepare(settings.mirror)
    command = daemon_command(settings)
    log.info("serving", port=settings.port, mirror=str(settings.mirror))
    os.execve(command[0], command, git.environment())  # noqa: S606 - no shell is the point
