"""What a command waits for just now, so that the error of its limit can name it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Wait:
    """Something of somebody else's that is waited for: B2, PostgreSQL, a child."""

    of: str
    what: str
    tries: int = 0  # 0: it is not tried again
    failure: str = ""  # of the try before
    since: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        told = self.what
        if self.tries:
            ending = {1: "st", 2: "nd", 3: "rd"}.get(self.tries % 10, "th")
            if self.tries % 100 in (11, 12, 13):
                ending = "th"
            told += f", {self.tries}{ending} try"
        if self.failure:
            told += f" after {self.failure}"
        return f"{self.of} ({told})"


_waits: dict[int, Wait] = {}  # of all threads


@contextmanager
def waiting_for(of: str, what: str, tries: int = 0) -> Iterator[Wait]:
    """Let an error of the limit name what is waited for inside; of several waits the longest."""
    wait = Wait(of, what, tries)
    _waits[id(wait)] = wait
    try:
        yield wait
    finally:
        del _waits[id(wait)]


def waited_for() -> str:
    """Return what is waited for just now, to stand behind an error of the limit; empty if nothing.

    Of several waits, of all threads, the one that began first.
    """
    longest = min(tuple(_waits.values()), key=lambda wait: wait.since, default=None)
    return f" while waiting for {longest}" if longest else ""
