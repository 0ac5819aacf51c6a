"""Works shared by several workers, and how they are stopped."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest.workers import Sessions, Shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import Connection

    from ingest.workers import Part
    from tests.conftest import PostgresServer


class Breaks:
    """What ends the whole run, as a signal does, once ``ready``."""

    size = 1
    parts = (None,)

    def __init__(self, ready: threading.Event) -> None:
        self._ready = ready

    def begin(self, sessions: Sessions) -> None: ...

    def run(self, sessions: Sessions, part: Part) -> None:
        self._ready.wait(30)
        raise RuntimeError("stop all")

    def end(self, sessions: Sessions) -> None: ...


class Dawdles:
    """Takes its time between two statements, of which the second is long."""

    parts = (None,)

    def __init__(
        self, size: int, ready: threading.Event, take: Callable[[Sessions], object]
    ) -> None:
        self.size = size
        self.begun = False
        self._ready, self._take = ready, take

    def begin(self, sessions: Sessions) -> None: ...

    def run(self, sessions: Sessions, part: Part) -> None:
        self.begun = True
        self._take(sessions)
        self._ready.set()
        time.sleep(0.5)
        sessions.source.execute("SELECT pg_sleep(30)")

    def end(self, sessions: Sessions) -> None: ...


class Holds(Dawdles):
    """Asks for its session before it dawdles."""

    def run(self, sessions: Sessions, part: Part) -> None:
        self.begun = True
        source = sessions.source
        self._ready.set()
        time.sleep(0.5)
        with pytest.raises(psycopg.errors.QueryCanceled):
            source.execute("SELECT pg_sleep(30)")


@pytest.mark.parametrize(("kind", "opened"), [(Dawdles, False), (Dawdles, True), (Holds, True)])
def test_a_worker_between_two_statements_is_stopped_too(
    postgres: PostgresServer, kind: type[Dawdles], opened: bool
) -> None:
    def connect() -> Connection[object]:
        return psycopg.connect(postgres.uri(), autocommit=True)

    ready = threading.Event()
    slow, later = (
        kind(size, ready, lambda sessions: sessions.source if opened else None) for size in (2, 0)
    )
    shared = Shared([slow, Breaks(ready), later], lambda: False)
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="stop all"):
        shared.run(Sessions(connect, connect), [Sessions(connect, connect)])
    assert time.monotonic() - began < 15
    assert (slow.begun, later.begun) == (True, False)
