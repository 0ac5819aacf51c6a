"""The server's clock: the machine's, moved on by as much as the tests have asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .database import Database

DAY_MS = 24 * 3600 * 1000


class Clock:
    """A clock that tests move forward, and set back; how far it was moved survives a restart."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._moved_ms = int(database.setting("clock_moved_ms") or 0)

    def now_ms(self) -> int:
        """Return the milliseconds since 1970-01-01 UTC."""
        return int(time.time() * 1000) + self._moved_ms

    def advance_ms(self, milliseconds: int) -> None:
        """Move the clock forward."""
        self._set(self._moved_ms + milliseconds)

    def reset(self) -> None:
        """Tell the machine's time again."""
        self._set(0)

    def _set(self, moved_ms: int) -> None:
        self._moved_ms = moved_ms
        self._database.set_setting("clock_moved_ms", str(self._moved_ms))
