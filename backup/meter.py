"""What one child of a chain writes to the next: counted, and its beginning looked at."""

from __future__ import annotations

import fcntl
import io
import os
from contextlib import suppress
from threading import Thread
from typing import IO, TYPE_CHECKING, cast

from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

PIPE_BYTES = 1 << 20  # Linux's own limit for a user; 16 times fewer switches than the default
BLOCK_BYTES = 1 << 16
EXIT_SECONDS = 60  # from the end of the stream to the end of every child and of the move

log = get_logger(__name__)


class Meter:
    """Counts what one child writes to the next, on its way through a second pipe.

    The kernel moves the pages, so no byte is copied but those that ``look`` reads first: it gets
    the stream, and whatever it reads has gone on to the next child. An error of its own ends only
    the looking. The next child sees the end of the first one's output also where moving it failed:
    ``error`` has to be asked before the end is believed.
    """

    def __init__(self, source: IO[bytes], look: Callable[[IO[bytes]], None] | None = None) -> None:
        """Take ``source`` over and move it, until its end, to ``output``."""
        reader, writer = os.pipe()
        self.output: IO[bytes] = os.fdopen(reader, "rb", 0)
        self.count = 0
        self.error: OSError | None = None
        self._look = look
        self._source = source
        self._sink: IO[bytes] = os.fdopen(writer, "wb", 0)
        self._thread = Thread(target=self._move, name="meter", daemon=True)
        widen(self._sink)
        self._thread.start()

    def _move(self) -> None:
        with self._sink, self._source:
            try:
                self._show_beginning()
                while moved := os.splice(self._source.fileno(), self._sink.fileno(), PIPE_BYTES):
                    self.count += moved
            except OSError as error:
                self.error = error

    def _show_beginning(self) -> None:
        if self._look is None:
            return
        passing = _Passing(self)
        try:
            self._look(cast("IO[bytes]", io.BufferedReader(passing, BLOCK_BYTES)))
        except OSError:
            if passing.broken:
                raise
            log.exception("the beginning of a stream could not be looked at")
        except Exception:  # what was read has gone on, so the stream is whole
            log.exception("the beginning of a stream could not be looked at")

    def pass_on(self, buffer: memoryview) -> int:
        """Fill the beginning of ``buffer`` from the source, give it on, and return how far."""
        count = os.readv(self._source.fileno(), [buffer])
        rest = buffer[:count]
        while rest:
            rest = rest[os.write(self._sink.fileno(), rest) :]
        self.count += count
        return count

    def close(self) -> None:
        """Wait for the end of the move, which the end of either child brings."""
        self.output.close()  # where the next child was never started
        self._thread.join(EXIT_SECONDS)


class _Passing(io.RawIOBase):
    """The stream of a meter, each byte of which goes on as it is read; ``broken`` if it cannot."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self.broken = False
        self._meter = meter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            return self._meter.pass_on(memoryview(buffer))
        except OSError:
            self.broken = True
            raise


def widen(pipe: IO[bytes]) -> None:
    """Let ``pipe`` hold as much as may be."""
    with suppress(OSError):  # a busy user may have no pipe pages left: it is only slower
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
