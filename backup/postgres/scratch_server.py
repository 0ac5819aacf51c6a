"""A PostgreSQL server of the drill's own: made, used and thrown away in a private directory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
from psycopg import sql

from backup.pipeline import last_words, run_tool
from backup.postgres.connection import PostgresUri, plain_environment
from backup.scratch import private_directory
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backup.manifest import Source

READY_SECONDS = 60
STOP_SECONDS = 30

SERVER_SETTINGS = (
    "listen_addresses=",  # nobody but this user, through the directory of mode 700
    "fsync=off",  # nothing in it outlives the drill
    "full_page_writes=off",
    "synchronous_commit=off",
    "wal_level=minimal",  # COPY into a table made in the same transaction writes no WAL
    "max_wal_senders=0",
    "max_wal_size=2GB",
    "autovacuum=off",
    "maintenance_work_mem=128MB",
    "dynamic_shared_memory_type=mmap",  # a container's /dev/shm holds 64 MB
)


@dataclass(frozen=True)
class ScratchServer:
    """The running server; its superuser is ``postgres``, known by the directory it can enter."""

    sockets: Path

    def uri(self, database: str) -> PostgresUri:
        """Return the superuser's URI of ``database``."""
        name, host = quote(database, safe=""), quote(str(self.sockets), safe="")
        return PostgresUri(f"postgresql://postgres@/{name}?host={host}", "the scratch server")

    def create_database(self, name: str, source: Source) -> PostgresUri:
        """Create an empty database like ``source``, with its roles, and return the URI of it.

        The collation is the image's own: the source's may not be installed here.
        """
        locale = "C.UTF-8" if source.encoding == "UTF8" else "C"
        with self.uri("postgres").connect("drill") as connection:
            self._create_roles(connection, source.roles)
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE {}").format(
                    sql.Identifier(name), sql.Literal(source.encoding), sql.Literal(locale)
                )
            )
        return self.uri(name)

    @staticmethod
    def _create_roles(
        connection: psycopg.Connection[tuple[object, ...]], roles: Sequence[str]
    ) -> None:
        for role in roles:
            with suppress(psycopg.errors.DuplicateObject):
                connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))


@contextmanager
def scratch_server(pg_bin: Path, scratch: Path) -> Iterator[ScratchServer]:
    """Yield a new, empty server; it is stopped and removed on leaving."""
    if os.geteuid() == 0:
        raise WrongUse(
            "the drill runs as root, and PostgreSQL refuses to",
            hint="Run it as another user, as the backup image does.",
        )
    with private_directory(scratch, "pg", sockets=True) as home:
        data = home / "data"
        run_tool(
            [pg_bin / "initdb", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
             "--auth=trust", "--username=postgres", "--pgdata", data],
            plain_environment(),
        )  # fmt: skip
        settings = [word for setting in SERVER_SETTINGS for word in ("-c", setting)]
        with (home / "log").open("wb") as server_log:
            server = subprocess.Popen(
                [pg_bin / "postgres", "-D", data, "-k", home, *settings],
                stdin=subprocess.DEVNULL,
                stdout=server_log,
                stderr=server_log,
                env=plain_environment(),
                process_group=0,
            )
        try:
            found = ScratchServer(home)
            _wait_until_ready(found, server, home / "log")
            yield found
        finally:
            _stop(server)


def _wait_until_ready(
    found: ScratchServer, server: subprocess.Popen[bytes], server_log: Path
) -> None:
    until = time.monotonic() + READY_SECONDS
    while server.poll() is None and time.monotonic() < until:
        with suppress(psycopg.OperationalError):
            psycopg.connect(found.uri("postgres").uri, connect_timeout=2).close()
            return
        time.sleep(0.1)
    raise Failure(
        f"scratch server did not start: {last_words(server_log.read_text(errors='replace'))}",
        hint="Look at memory and disk of the drill's host, and that no limit forbids its start.",
    )


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Stop fast; by force if that takes long. The postmaster ends its own children."""
    for way in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if server.poll() is not None:
            return
        server.send_signal(way)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)
