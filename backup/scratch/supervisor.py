"""The first process of the scratch server's container: a cluster a lease, and nothing in between.

A connection to its socket is a lease. It ends when the client closes it, or dies; then every other
process of the container is killed, and all that they could write is removed.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backup.scratch import cluster as scratch_cluster
from backup.scratch.cluster import LeaseOver, Watch
from backup.scratch.confinement import end_others, remove_shared_memory, wipe
from backup.scratch.directory import LONGEST_SOCKET_DIRECTORY
from backup.scratch.lease import (
    CONTROL,
    Answer,
    Garbled,
    Needs,
    Ready,
    Refused,
    peer_uid,
    read_line,
    write_line,
)
from backup.scratch.server import ScratchServer
from frame.failure import Failure, Stopped, WrongUse
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUEST_SECONDS = 10  # a client connects to ask at once
DISK_SECONDS = 600  # another drill of this node may have the disk: one database's turn

log = get_logger(__name__)


@dataclass(frozen=True)
class Place:
    """Where the server is and what it may use.

    ``sockets`` and ``data`` are directories of its user's alone; they are emptied, as are those
    of ``wiped``, of what is that user's. Below ``programs`` is PostgreSQL, in MAJOR/bin.
    """

    sockets: Path
    data: Path
    programs: Path
    wiped: tuple[Path, ...] = ()

    def prepare(self) -> None:
        """Make the directories. Raises :class:`WrongUse` for one that is not ours alone."""
        if len(bytes(self.sockets)) > LONGEST_SOCKET_DIRECTORY:
            raise WrongUse(
                f"directory {self.sockets} has too long a path for unix sockets",
                hint=f"Give one of {LONGEST_SOCKET_DIRECTORY} bytes at most.",
            )
        for directory in self.wiped:
            if directory in (
                *self.sockets.parents[1:],
                self.sockets,
                self.data,
                *self.data.parents,
            ):
                raise WrongUse(
                    f"directory {directory} is to be wiped, and holds the server's own",
                    hint="Give --wipe directories beside DIRECTORY and the data.",
                )
        # Whoever is to connect must get to the sockets, and nobody to the rows.
        for directory, mode in ((self.data, 0o700), (self.sockets, 0o711)):
            try:
                directory.mkdir(parents=True, exist_ok=True)
                if directory.lstat().st_uid != os.geteuid():
                    raise WrongUse(
                        f"directory {directory} is not this user's alone, and all in it is removed",
                        hint="Give a directory that belongs to the user of the scratch server.",
                    )
                directory.chmod(mode)
            except OSError as error:
                raise WrongUse(
                    f"directory {directory} cannot be used: {error.strerror}",
                    hint="Make it for the user of the scratch server.",
                ) from error

    def server_programs(self, major: int) -> tuple[int, Path]:
        """Return the version and the directory of the server ``major``, or of the next newer."""
        at_hand = sorted(
            int(program.parents[1].name)
            for program in self.programs.glob("*/bin/postgres")
            if program.parents[1].name.isdecimal()
        )
        for each in at_hand:
            if each >= major:
                return each, self.programs / str(each) / "bin"
        raise Failure(
            f"no server of PostgreSQL {major} or newer in {self.programs}: "
            f"there is {', '.join(map(str, at_hand)) or 'none'}",
            hint=f"Build the backup image with {major} among PG_MAJORS.",
        )


class Supervisor:
    """Serves leases one by one, in the order of the connections, until it is stopped."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._listener: socket.socket | None = None
        self._inode = 0  # of the control socket; nobody else's while we listen on it

    def serve(self) -> None:
        """Serve until a signal stops it, and leave nothing."""
        try:
            while True:
                connection, _ = self._listening().accept()
                with connection:  # closed last: the client waits for it
                    self._serve(connection)
        finally:
            end_others()
            wipe(self.place.sockets)

    def _listening(self) -> socket.socket:
        """Return the listening socket, a new one if strangers took its name away."""
        control = self.place.sockets / CONTROL
        if self._listener is not None:
            with suppress(OSError):
                if control.lstat().st_ino == self._inode:
                    return self._listener
            log.warning("the control socket was taken away", path=str(control))
            self._listener.close()
        self.place.prepare()
        wipe(self.place.sockets)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(control))
        control.chmod(0o666)  # who connects is known by uid
        self._inode = control.lstat().st_ino
        self._listener.listen()
        log.info("ready for leases", directory=str(self.place.sockets))
        return self._listener

    def _serve(self, connection: socket.socket) -> None:
        """Serve one lease. Whatever a client does, the next one is served."""
        try:
            needs = self._request(connection)
            with Watch(connection) as watch, self._disk(watch):
                self._lease(watch, needs)
        except LeaseOver:
            log.info("lease over")
        except Failure as failure:
            log.warning("no lease", why=failure.message)
            refused = Refused(message=failure.message, hint=failure.hint)
            with suppress(OSError):
                write_line(connection, Answer(refused=refused), REQUEST_SECONDS)

    @staticmethod
    def _request(connection: socket.socket) -> Needs:
        if peer_uid(connection) == os.geteuid():
            raise Failure(
                "the scratch server leases nothing to its own user",
                hint="Run the drill as another user: this one is for strangers' code.",
            )
        try:
            return read_line(connection, Needs, REQUEST_SECONDS)
        except Garbled as error:
            raise Failure(
                f"the scratch server got no request: {error}",
                hint="Use one image for the drill and its server.",
            ) from None

    @contextmanager
    def _disk(self, watch: Watch) -> Iterator[None]:
        """Have the directory of data alone: drills of one node may share it, one at a time."""
        disk = os.open(self.place.data, os.O_RDONLY | os.O_DIRECTORY)
        until = time.monotonic() + DISK_SECONDS
        try:
            while not _locked(disk):
                if time.monotonic() > until:
                    raise Failure(
                        f"another drill has used {self.place.data} for {DISK_SECONDS} seconds",
                        hint="Wait for it, or give each scratch server a directory of its own.",
                    )
                watch.pause()
            wipe(self.place.data)  # what one left that was killed
            try:
                yield
            finally:
                self._end()
        finally:
            os.close(disk)

    def _lease(self, watch: Watch, needs: Needs) -> None:
        """Make a cluster and watch over it. Raises LeaseOver in the end, or Failure."""
        major, programs = self.place.server_programs(needs.major)
        data = self.place.data / "data"
        password = scratch_cluster.make(watch, programs, data, needs)
        server = ScratchServer(self.place.sockets, major, needs.superuser, password)
        pid = scratch_cluster.start(watch, programs, data, needs, server)
        log.info("leased", major=major, encoding=needs.encoding, locale=needs.locale)
        try:
            ready = Answer(ready=Ready(major=major, password=password))
            write_line(watch.client, ready, REQUEST_SECONDS)
        except OSError:
            raise LeaseOver from None
        scratch_cluster.watch_until_it_ends(watch, pid)

    def _end(self) -> None:
        """Kill all that runs here, and remove what it left; a signal does not shorten it."""
        try:
            self._end_and_wipe()
        except Stopped:
            self._end_and_wipe()
            raise

    def _end_and_wipe(self) -> None:
        end_others()
        remove_shared_memory()
        for directory in (self.place.data, *self.place.wiped):
            beside = directory == self.place.sockets.parent
            with suppress(OSError):
                wipe(directory, keep=self.place.sockets.name if beside else "")
        wipe(self.place.sockets, keep=CONTROL)


def sweep_data(data: Path) -> None:
    """Empty a scratch server's directory of data, unless one has it: that one does so itself."""
    disk = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _locked(disk):
            wipe(data)
        else:
            log.info("a scratch server is at work", directory=str(data))
    finally:
        os.close(disk)


def _locked(disk: int) -> bool:
    try:
        fcntl.flock(disk, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
