"""Several pairs of sessions, one to the source and one to the warehouse, that share work."""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from frame.failure import Failure
from frame.log import prepare as prepare_log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)
_CANCEL = 5.0  # seconds for a server to take a request to cancel
_AGAIN = 1.0  # seconds until it is asked again: a request between two statements ends neither

Part = tuple[int, int | None] | None


class Work(Protocol):
    """One table's work: ``begin``, then every part on any session, then ``end``."""

    size: int
    parts: Sequence[Part]

    def begin(self, sessions: Sessions) -> None:
        """Make ready; called once, before any part."""

    def run(self, sessions: Sessions, part: Part) -> None:
        """Do one part; several run at once."""

    def end(self, sessions: Sessions) -> None:
        """Finish; called once, after the last part."""


class Sessions:
    """A worker's two sessions, opened when first needed, and again after a failure.

    ``lent``: they are somebody else's, and stay open.
    """

    def __init__(
        self,
        source: Callable[[], psycopg.Connection[Any]],
        target: Callable[[], psycopg.Connection[Any]],
        *,
        lent: bool = False,
    ) -> None:
        self._open_source, self._open_target = source, target
        self.lent = lent
        self._source: psycopg.Connection[Any] | None = None
        self._target: psycopg.Connection[Any] | None = None
        self._stopped = False

    def open(self) -> None:
        """Open those of the two that are not. Raises Failure."""
        _ = self.source, self.target

    @property
    def source(self) -> psycopg.Connection[Any]:
        """The session that reads in the snapshot. Raises Failure once stopped."""
        if self._source is None:
            self._source = self._open_source()
        self._check()
        return self._source

    @property
    def target(self) -> psycopg.Connection[Any]:
        """The session that writes into the warehouse. Raises Failure once stopped."""
        if self._target is None:
            self._target = self._open_target()
        self._check()
        return self._target

    def close(self) -> None:
        """Close what is its own: a transaction that is still open is undone by its server."""
        for connection in (self._source, self._target):
            if connection is not None and not self.lent:
                connection.close()
        self._source = self._target = None

    def stop(self) -> None:
        """End what both servers are doing, and give out neither again; for another thread."""
        self._stopped = True
        for connection in (self._source, self._target):
            if connection is not None and not connection.closed:
                with suppress(psycopg.Error):
                    connection.cancel_safe(timeout=_CANCEL)

    def _check(self) -> None:
        if self._stopped:
            raise Failure("expected to go on, found the run stopped", hint="Run again.")


class Shared:
    """Works that several workers take parts of, the largest work first.

    One failure does not stop the other works, unless ``lost`` says that the source is gone.
    """

    def __init__(self, works: Sequence[Work], lost: Callable[[], bool]) -> None:
        self.failures: dict[int, Failure] = {}  # by the place of the work
        self._works = works
        self._lost = lost
        self._lock = threading.Lock()
        order = sorted(range(len(works)), key=lambda place: -works[place].size)
        self._queue = deque((place, part) for place in order for part in works[place].parts)
        self._left = {place: len(works[place].parts) for place in order}
        self._beginning = {place: threading.Lock() for place in order}
        self._begun: set[int] = set()

    def run(self, lent: Sessions, others: Sequence[Sessions]) -> None:
        """Do all works with the sessions that are ``lent``, and with ``others`` that can be opened.

        A server that allows no more sessions makes it slower, no more.
        """
        workers = [lent, *others]
        with ThreadPoolExecutor(len(workers), thread_name_prefix="ingest") as pool:
            running = [pool.submit(self._work, mine) for mine in workers]
            try:
                prepare_log()  # this thread has nothing else to do
                for done in wait(running, return_when=FIRST_EXCEPTION).done:
                    done.result()
            except BaseException:  # a signal, too, must not wait for hours of COPY
                self._queue.clear()
                while wait(running, timeout=0).not_done:
                    for mine in workers:
                        mine.stop()
                    wait(running, timeout=_AGAIN)
                raise

    def _work(self, mine: Sessions) -> None:
        with closing(mine):
            while True:
                try:
                    if self._queue:
                        mine.open()
                except Failure as error:
                    log.warning("fewer sessions read beside each other: %s", error.message)
                    return
                try:
                    place, part = self._queue.popleft()
                except IndexError:
                    return
                try:
                    self._part(place, part, mine)
                except Failure as error:
                    self.failures.setdefault(place, error)
                    mine.close()

    def _part(self, place: int, part: Part, mine: Sessions) -> None:
        work = self._works[place]
        with self._beginning[place]:  # the other parts wait for what begin makes
            if place in self.failures or self._lost():
                return
            if place not in self._begun:
                work.begin(mine)
                self._begun.add(place)
        work.run(mine, part)
        with self._lock:
            self._left[place] -= 1
            last = not self._left[place]
        if last:
            work.end(mine)
