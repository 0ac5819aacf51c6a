"""One cluster of the scratch server: made, started, and watched for as long as its client lives."""

from __future__ import annotations

import os
import secrets
import select
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, Self

import psycopg

from backup.pipeline import STDERR_TAIL, last_words
from backup.postgres.connection import plain_environment
from backup.scratch.confinement import reap
from frame.failure import Failure

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from backup.scratch.lease import Needs
    from backup.scratch.server import ScratchServer

INITDB_SECONDS = 120  # it writes 40 MB
READY_SECONDS = 60
PAUSE_SECONDS = 0.05
WATCH_SECONDS = 0.5  # between two looks at processes; the client's end is seen at once

# What differs from a server of production, and why. All else is PostgreSQL's default, durability
# too, so that a restore takes as long as it would; a request's settings come before these.
SERVER_SETTINGS = {
    "listen_addresses": "",  # it has no network, and needs none
    "autovacuum": "off",  # it would disturb what is timed; the restore analyses by itself
    "dynamic_shared_memory_type": "mmap",  # a container's /dev/shm holds 64 MB
    "log_error_verbosity": "terse",  # details, contexts and statements show values of rows
    "log_min_error_statement": "panic",
    "logging_collector": "off",  # its last words are ours to tell
    "log_destination": "stderr",
}


# Extensions that can be created only if their library is loaded at the start, and what they are
# then told. pg_cron belongs to one database; it finds no server by TCP to run its jobs in, and is
# not to write into its table that it did not.
PRELOADED = {
    "citus": {},
    "pg_cron": {"cron.database_name": "{database}", "cron.log_run": "off"},
    "pg_stat_statements": {},
    "pgaudit": {},
    "timescaledb": {},
}


class LeaseOver(Exception):
    """The client has closed its end, or died."""


class Watch:
    """The processes of a lease, what they say, and whether the client is there."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.said = b""
        self.ended: dict[int, int] = {}
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._read)
        os.close(self._write)

    def start(self, argv: Sequence[str | Path]) -> int:
        """Start a program, whose output is kept in part, and return its pid."""
        return os.posix_spawn(
            argv[0],
            [str(word) for word in argv],
            plain_environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, self._write, 1),
                (os.POSIX_SPAWN_DUP2, self._write, 2),
            ],
            setpgroup=0,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them
        )

    def pause(self, seconds: float = PAUSE_SECONDS) -> None:
        """Wait a little. Raises :class:`LeaseOver` if the client has gone, or says more."""
        client = self.client.fileno()
        readable, _, _ = select.select([client, self._read], [], [], seconds)
        if self._read in readable:
            self.said = (self.said + os.read(self._read, 1 << 16))[-STDERR_TAIL:]
        for pid, status in reap():
            self.ended[pid] = os.waitstatus_to_exitcode(status)
        if client in readable:
            raise LeaseOver

    def failed(self, what: str) -> NoReturn:
        """Raise with the last words of the programs."""
        with suppress(BlockingIOError):
            self.said = (self.said + os.read(self._read, 1 << 16))[-STDERR_TAIL:]
        words = last_words(self.said.decode(errors="replace")) or "no message"
        raise Failure(
            f"scratch server {what}: {words}",
            hint="Look at memory and disk of the scratch server, and that no limit forbids its "
            "start.",
        )


def make(watch: Watch, programs: Path, data: Path, needs: Needs) -> str:
    """Make the cluster and return its superuser's password. Raises Failure, LeaseOver."""
    password = secrets.token_urlsafe(24)
    password_file = data.with_name("password")
    password_file.write_text(password)
    initdb = watch.start(
        [programs / "initdb", "--no-sync", f"--encoding={needs.encoding}",
         f"--locale={needs.locale}", "--auth=scram-sha-256", f"--username={needs.superuser}",
         f"--pwfile={password_file}", f"--pgdata={data}"]
    )  # fmt: skip
    until = time.monotonic() + INITDB_SECONDS
    while initdb not in watch.ended and time.monotonic() < until:
        watch.pause()
    if watch.ended.get(initdb) != 0:
        watch.failed("cannot be made")
    password_file.unlink()
    return password


def start(watch: Watch, programs: Path, data: Path, needs: Needs, server: ScratchServer) -> int:
    """Start the cluster and return the pid once it answers. Raises Failure, LeaseOver."""
    quoted = str(server.sockets).replace('"', '""')
    settings = (
        needs.settings
        | preloaded(needs, programs.with_name("lib"))
        | SERVER_SETTINGS
        | {"unix_socket_directories": f'"{quoted}"'}
    )
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    pid = watch.start([programs / "postgres", "-D", data, *words])
    uri = server.uri("postgres").uri
    until = time.monotonic() + READY_SECONDS
    while pid not in watch.ended and time.monotonic() < until:
        with suppress(psycopg.OperationalError):
            psycopg.connect(uri, connect_timeout=2).close()
            return pid
        watch.pause()
    watch.failed("did not start")


def preloaded(needs: Needs, libraries: Path) -> dict[str, str]:
    """Return the settings that load what the extensions need of what is installed.

    One that is not installed keeps no server from starting: the restore names it.
    """
    names = [
        name
        for name in PRELOADED
        if name in needs.extensions and (libraries / f"{name}.so").exists()
    ]
    settings = {
        setting: value.format(database=needs.database)
        for name in names
        for setting, value in PRELOADED[name].items()
    }
    return settings | ({"shared_preload_libraries": ",".join(names)} if names else {})


def watch_until_it_ends(watch: Watch, pid: int) -> NoReturn:
    """Watch over a running cluster. Raises LeaseOver when the client goes, Failure before."""
    while pid not in watch.ended:
        watch.pause(WATCH_SECONDS)
    watch.failed("ended before its time")
