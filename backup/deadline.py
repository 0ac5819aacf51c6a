"""A bound on every run."""

from __future__ import annotations

import re
import signal
import time
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

from frame.failure import Stopped, WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> int:
    """Return the seconds in ``90s``, ``15m`` or ``4h``."""
    found = re.fullmatch(r"([1-9][0-9]*)([smh])", text)
    if not found:
        raise WrongUse(
            f"duration {text!r} is not understood",
            hint="Give a whole number and a unit, such as 90s, 15m or 4h.",
        )
    return int(found[1]) * UNITS[found[2]]


def left() -> float:
    """Return the seconds until the time limit is over, in any thread; infinite without one."""
    return signal.getitimer(signal.ITIMER_REAL)[0] or inf


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`Stopped` in the main thread when ``seconds`` are over.

    Limits nest: what was left of the outer one goes on afterwards.
    """

    def ring(signum: int, frame: FrameType | None) -> None:
        raise Stopped(f"the time limit of {seconds:g} seconds is over")

    before = signal.signal(signal.SIGALRM, ring)
    started = time.monotonic()
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer:
            left = outer - (time.monotonic() - started)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))
