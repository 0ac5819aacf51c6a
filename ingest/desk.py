"""A PostgreSQL server of one's own for as long as a command runs: a warehouse at a desk."""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo

from frame.failure import Failure, WrongUse
from frame.progress import step

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where Debian puts each version's programs, which are not on PATH.
_DEBIAN = Path("/usr/lib/postgresql")
_START_SECONDS = 60  # a start after a kill reads its log first
_STOP_SECONDS = 30
_OTHERWISE = "or name a database of yours in AIRFLOW_CONN_WAREHOUSE."


@contextmanager
def server(home: Path) -> Iterator[str]:
    """Run a server whose data is in ``home``; yield how libpq reaches its only database.

    It listens on a socket in a folder of the user's alone, and on no port. Raises WrongUse if there
    are no programs for it, or they may not run; Failure if it does not start.
    """
    programs = _programs()
    if os.geteuid() == 0:
        raise WrongUse(
            "PostgreSQL does not run as root",
            f"Run it as yourself, {_OTHERWISE}",
        )
    home.mkdir(mode=0o700, exist_ok=True)
    with (home / "lock").open("w") as lock, tempfile.TemporaryDirectory(prefix="try-") as sockets:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WrongUse(
                f"another command uses the server of {home}", "Run it again when that has ended."
            ) from error
        _make(programs, home)
        conninfo = make_conninfo(host=sockets, user=getpass.getuser(), dbname="postgres")
        with _started(programs, home, sockets, conninfo):
            yield conninfo


def _programs() -> Path:
    if found := shutil.which("postgres"):
        return Path(found).resolve().parent
    versions = [path for path in _DEBIAN.glob("*/bin") if (path / "postgres").exists()]
    if not versions:
        raise WrongUse(
            "there is no PostgreSQL server on PATH",
            f"Install one (Debian: apt-get install postgresql; macOS: brew install postgresql@17),"
            f" {_OTHERWISE}",
        )
    return max(versions, key=lambda path: int(path.parent.name.partition(".")[0]))


def _make(programs: Path, home: Path) -> None:
    """Make the data, or make it again by another version's programs; all of it or nothing."""
    data, unfinished = home / "data", home / "unfinished"
    said = subprocess.run(
        [programs / "postgres", "--version"], capture_output=True, text=True, check=False
    ).stdout
    made_by = home / "version"
    if made_by.exists() and made_by.read_text() == said and data.exists():
        return
    with step(f"make a PostgreSQL in {home}"):
        shutil.rmtree(data, ignore_errors=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        made = subprocess.run(
            [programs / "initdb", "--no-sync", "--encoding=UTF8", "--locale=C", "--auth=trust",
             f"--username={getpass.getuser()}", unfinished],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            raise Failure(
                f"initdb made no server in {home}: {made.stderr.strip()}",
                f"See that the disk has room, {_OTHERWISE}",
            )
        made_by.write_text(said)
        unfinished.rename(data)


@contextmanager
def _started(programs: Path, home: Path, sockets: str, conninfo: str) -> Iterator[None]:
    log = home / "log"
    _end_orphan(programs, home / "data")
    with log.open("wb") as written:
        running = subprocess.Popen(
            [programs / "postgres", "-D", home / "data", "-c", "listen_addresses=",
             "-c", f"unix_socket_directories={sockets}", "-c", "unix_socket_permissions=0700",
             "-c", "fsync=off"],
            stdin=subprocess.DEVNULL, stdout=written, stderr=written, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(running, conninfo, log)
        yield
    finally:
        running.send_signal(signal.SIGINT)  # its fast way to stop
        try:
            running.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _end_orphan(programs: Path, data: Path) -> None:
    """End the server of a command that was killed, if it answers.

    Where it does not, its number may be another process's by now: PostgreSQL itself looks, and
    starts over what a crash left.
    """
    with suppress(OSError, IndexError, psycopg.OperationalError):
        sockets = (data / "postmaster.pid").read_text().splitlines()[4]
        psycopg.connect(
            host=sockets, user=getpass.getuser(), dbname="postgres", connect_timeout=2
        ).close()
        subprocess.run(
            [programs / "pg_ctl", "-D", data, "stop", "-m", "immediate", "-t", str(_STOP_SECONDS)],
            capture_output=True,
            check=False,
        )


def _wait(running: subprocess.Popen[bytes], conninfo: str, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while running.poll() is None and time.monotonic() < until:
        try:
            psycopg.connect(conninfo, connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    said = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise Failure(
        f"the server of {log.parent} does not start: {' '.join(said)}",
        f"Remove {log.parent}, which holds samples alone, and run again.",
    )
