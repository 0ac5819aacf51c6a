"""Moves rows from one session's COPY TO STDOUT into another's COPY FROM STDIN.

Rows pass as the bytes that the source's server made; nothing here looks into them.
"""

from __future__ import annotations

import select
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from frame.failure import Failure
from ingest.errors import from_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from psycopg import sql

# libpq hands over a row at a time; blocks of this many bytes keep the calls that write few.
_BLOCK = 256 * 1024
# Seconds; the server of a lost network is given up by TCP keepalives long before.
_SILENCE = 3600.0
# Seconds in which a server ends what it was asked to cancel.
_CANCEL = 10.0


@dataclass(frozen=True)
class Moved:
    """What one COPY carried: rows, and bytes of its format."""

    rows: int
    bytes: int


@dataclass(frozen=True)
class End:
    """One end of a transfer: its session, its COPY statement, and how errors name it."""

    connection: psycopg.Connection[Any]
    copy: sql.Composed
    side: str
    table: str


def move(source: End, target: End, progress: Callable[[int], None]) -> Moved:
    """Run both COPYs and pass every byte on; ``progress`` hears of each block's size.

    Memory is a few blocks and the widest row. Raises Failure; whatever failed, the source's COPY
    has ended, or its session is closed, and the target's transaction is undone.
    """
    carried = 0
    stream = _Stream(source)
    try:
        with target.connection.cursor() as cursor:
            with cursor.copy(target.copy) as sink:
                for block in stream.blocks():
                    sink.write(block)
                    carried += len(block)
                    progress(len(block))
            landed = cursor.rowcount
    except BaseException as error:
        stream.abandon()
        if isinstance(error, psycopg.Error):
            raise from_postgres(error, side=target.side, table=target.table) from error
        raise
    if landed != stream.rows:
        raise Failure(
            f"table {target.table}: expected {stream.rows} rows, found {landed} landed",
            hint="Run again, and report it if it happens twice.",
        )
    return Moved(stream.rows, carried)


class _Stream:
    """The source's COPY, read below psycopg's cursors: those cost a generator's turn a row."""

    def __init__(self, end: End) -> None:
        self.rows = -1  # known at the end
        self._end = end
        self._pgconn = end.connection.pgconn
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)

    def blocks(self) -> Generator[bytearray, None, None]:
        """Yield the stream in blocks; raise Failure if the source fails."""
        try:
            self._pgconn.send_query(self._end.copy.as_bytes(self._end.connection))
            self._pgconn.flush()
            self._expect(pq.ExecStatus.COPY_OUT)
            yield from self._copied()
            self.rows = self._expect(pq.ExecStatus.COMMAND_OK).command_tuples or 0
            self._next()  # the end of the answer, without which no other query may begin
        except psycopg.Error as error:
            raise from_postgres(error, side=self._end.side, table=self._end.table) from error

    def abandon(self) -> None:
        """End a COPY that nobody reads on, so that its session can be used again, or close it."""
        try:
            if self._pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                self._end.connection.cancel_safe(timeout=_CANCEL)
                self._drain()
        except psycopg.Error:
            self._end.connection.close()

    def _drain(self) -> None:
        while True:
            with suppress(psycopg.Error):  # what was cancelled, or is no row
                while self._pgconn.get_copy_data(1)[0] > 0:
                    pass
            if self._pgconn.is_busy():
                self._wait(_CANCEL)
            elif self._pgconn.get_result() is None:
                return

    def _copied(self) -> Generator[bytearray, None, None]:
        # Each row is let go of at once: thousands that are held keep the garbage collector busy.
        # The inner loop takes what has come, tens of kB; what stands in it is done for each row.
        get = self._pgconn.get_copy_data
        block = bytearray()
        while True:
            length, row = get(1)
            while length > 0:
                block += row
                length, row = get(1)
            if length < 0:
                yield block
                return
            if len(block) >= _BLOCK:
                yield block
                block = bytearray()
            self._wait()

    def _expect(self, status: pq.ExecStatus) -> pq.abc.PGresult:
        result = self._next()
        if result is None or result.status != status:
            if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
                raise error_from_result(result)
            raise psycopg.OperationalError("the connection was lost")
        return result

    def _next(self) -> pq.abc.PGresult | None:
        while self._pgconn.is_busy():
            self._wait()
        return self._pgconn.get_result()

    def _wait(self, seconds: float = _SILENCE) -> None:
        if not self._poll.poll(seconds * 1000):
            raise psycopg.OperationalError(f"the server said nothing for {seconds:.0f} seconds")
        self._pgconn.consume_input()
