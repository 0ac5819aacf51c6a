"""A drill's own PostgreSQL server, as another user's process makes it: leased, and gone afterwards.

It runs strangers' code, so it has neither key nor network, and nothing that it says is believed
but of its own database.
"""

from __future__ import annotations

import os
import select
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from backup.postgres.connection import PostgresUri
from backup.scratch.lease import (
    CONTROL,
    Answer,
    Garbled,
    Needs,
    Ready,
    peer_uid,
    read_line,
    write_line,
)
from frame.failure import Failure, Stopped, WrongUse
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backup.settings import Settings

CONTROL_SECONDS = 60  # the server's container may start after ours
ANSWER_SECONDS = 900  # another drill may have the server's disk; initdb takes 2 seconds
TOLD_SECONDS = 2  # in which a supervisor notices that its server has ended
WIPE_SECONDS = 300  # to remove a terabyte's files

log = get_logger(__name__)


@dataclass(frozen=True)
class ScratchServer:
    """A running server, empty when it is leased; ``major`` is its version."""

    sockets: Path
    major: int
    superuser: str
    password: str = field(repr=False)

    def uri(self, database: str) -> PostgresUri:
        """Return the superuser's connection string of ``database``.

        A server that is not what it was can ask for no other proof than of that password, which
        opens nothing else.
        """
        return PostgresUri(
            make_conninfo(
                dbname=database,
                host=str(self.sockets),
                user=self.superuser,
                password=self.password,
                sslmode="disable",
                gssencmode="disable",
                require_auth="scram-sha-256",
            ),
            "the scratch server",
        )


def server_directory(settings: Settings) -> Path:
    """Return where the scratch server is. Raises :class:`WrongUse` if none is named."""
    if settings.scratch_server is None:
        raise WrongUse(
            "settings are incomplete: BACKUP_SCRATCH_SERVER is not set",
            hint="Start one as another user, `backup scratch-server DIRECTORY` in a container of "
            "its own (the runbook shows how), and set BACKUP_SCRATCH_SERVER to DIRECTORY.",
        )
    return settings.scratch_server


@contextmanager
def scratch_server(settings: Settings, needs: Needs) -> Iterator[ScratchServer]:
    """Lease a new, empty server; on leaving, it and all that it left is gone.

    Raises :class:`WrongUse` where none is up, :class:`Failure` where it does not start, or ended
    before its time.
    """
    directory = server_directory(settings)
    with _connect(directory) as connection:
        ready = _lease(connection, needs)
        log.info("scratch server leased", major=ready.major)
        try:
            yield ScratchServer(directory, ready.major, needs.superuser, ready.password)
        except Stopped:  # no other lease follows, and whoever stops us does not wait
            raise
        except Exception as error:
            told = _told_meanwhile(connection)
            _give_back(connection)
            if told:
                raise told from error
            raise
        _give_back(connection)


def _connect(directory: Path) -> socket.socket:
    """Return a connection to the supervisor, which must be another user's."""
    control = directory / CONTROL
    connection = socket.socket(socket.AF_UNIX)
    until = time.monotonic() + CONTROL_SECONDS
    while True:
        try:
            connection.settimeout(max(0.1, until - time.monotonic()))
            connection.connect(str(control))
            break
        except OSError as error:
            if time.monotonic() > until or isinstance(error, PermissionError):
                connection.close()
                raise WrongUse(
                    f"no scratch server answers at {control}: {error.strerror or error}",
                    hint="Start `backup scratch-server` as another user, or see its log.",
                ) from error
            time.sleep(0.1)
    if peer_uid(connection) == os.geteuid():
        connection.close()
        raise WrongUse(
            f"the scratch server at {control} runs as this user, whose key it could read",
            hint="Start it as a user of its own.",
        )
    return connection


def _lease(connection: socket.socket, needs: Needs) -> Ready:
    try:
        write_line(connection, needs, CONTROL_SECONDS)
        answer = read_line(connection, Answer, ANSWER_SECONDS)
    except (Garbled, OSError) as error:
        raise Failure(
            f"scratch server gave no answer: {error}", hint="Look at the server's log."
        ) from error
    if answer.ready is None:
        raise _refusal(answer)
    return answer.ready


def _refusal(answer: Answer) -> Failure:
    if answer.refused is None:
        return Failure("scratch server gave no answer", hint="Look at the server's log.")
    return Failure(answer.refused.message, answer.refused.hint)


def _told_meanwhile(connection: socket.socket) -> Failure | None:
    """Return why the server ended by itself, if it did."""
    if not select.select([connection], [], [], TOLD_SECONDS)[0]:
        return None
    with suppress(Garbled):
        return _refusal(read_line(connection, Answer, 1))
    return Failure("scratch server ended with its supervisor", hint="Look at the server's log.")


def _give_back(connection: socket.socket) -> None:
    """End the lease and wait until nothing of it is left: the next one must not meet it."""
    connection.settimeout(WIPE_SECONDS)
    try:
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1024):
            pass
    except OSError as error:
        raise Failure(
            f"scratch server was not cleaned up: {error}",
            hint="End it, see that its directories are empty, and start it again.",
        ) from error
