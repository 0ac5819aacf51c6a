"""The time of a command: one limit for its work and for the clean-up behind it.

Work is stopped early enough that clean-up ends within the limit. Python runs the handler of an
alarm in the main thread, so limits are set and hold there; :func:`left` is for every thread.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backup.waits import waited_for
from frame.failure import ExitCode, Failure, Stopped, WrongUse
from frame.log import get_logger
from frame.output import print_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

UNITS = {"s": 1, "m": 60, "h": 3600}
CLEAN_UP_SECONDS = 30.0  # at most, or a quarter of the limit: B2 answers a cancel within seconds
PART_OF_LIMIT = 0.25
LAST_SECONDS = 1.0  # behind the limit, until the process ends itself whatever it hangs in
SHARE = 0.8  # of what is left for one act of clean-up: others follow
STOPS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

log = get_logger(__name__)


def parse_duration(text: str) -> int:
    """Return the seconds in ``90s``, ``15m`` or ``4h``."""
    found = re.fullmatch(r"([1-9][0-9]*)([smh])", text)
    if not found:
        raise WrongUse(
            f"duration {text!r} is not understood",
            hint="Give a whole number and a unit, such as 90s, 15m or 4h.",
        )
    return int(found[1]) * UNITS[found[2]]


@dataclass(eq=False)
class _Alarm:
    """When the main thread is stopped by ``stop``; once, and never if it is ``off``."""

    at: float
    stop: Callable[[], BaseException]
    of_work: bool = False
    off: bool = False


_alarms: list[_Alarm] = []  # the innermost last


def left() -> float:
    """Return the seconds until work, or the clean-up that goes on, is stopped; of any thread."""
    waiting = [alarm.at for alarm in tuple(_alarms) if not alarm.off]
    return max(0.0, min(waiting) - time.monotonic()) if waiting else inf


def _set_timer() -> None:
    seconds = left()
    signal.setitimer(signal.ITIMER_REAL, 0 if seconds == inf else max(seconds, 0.001))


def _ring(_number: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    due = [alarm for alarm in _alarms if not alarm.off and alarm.at <= now]
    if due:
        due[-1].off = True
    _set_timer()
    if due:
        raise due[-1].stop()


@contextmanager
def _alarm(alarm: _Alarm) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _ring)
    _alarms.append(alarm)
    _set_timer()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _alarms.remove(alarm)
        signal.signal(signal.SIGALRM, before)
        if _alarms:
            _set_timer()


class TimeOver(Stopped):
    """The time of a command is over."""


class _Limit:
    """One command's: the alarms that end its work and, later, all of it; and what ended it."""

    def __init__(self, seconds: float) -> None:
        self.reserve = min(CLEAN_UP_SECONDS, seconds * PART_OF_LIMIT)
        self.told = f"time limit of {seconds:g} s is over"
        self.waited = ""  # for what, when the work was stopped
        self.exit_code: int = ExitCode.FAILED
        until = time.monotonic() + seconds
        self.end = _Alarm(until, self._end)
        self.work = _Alarm(until - self.reserve, self._stopped, of_work=True)

    def _stopped(self) -> Stopped:
        self.waited = waited_for()
        return TimeOver(f"{self.told}{self.waited}", self.exit_code)

    def _end(self) -> Stopped:
        return TimeOver(
            f"{self.told}, and so is that of clean-up{waited_for() or self.waited}", self.exit_code
        )

    def stop(self, number: signal.Signals) -> None:
        """End the work now, as a signal asks; what follows has the time of clean-up."""
        if not self.work.off:
            self.work.off = True
            self.told, self.exit_code = f"stopped by {number.name}", 128 + number
            self.end.at = min(self.end.at, time.monotonic() + self.reserve)
            _set_timer()

    @contextmanager
    def heeds_signals(self) -> Iterator[None]:
        """Hear of each signal that stops the command before the handler that is there does."""
        handlers = {number: signal.getsignal(number) for number in STOPS}

        def stop(number: int, frame: FrameType | None) -> None:
            self.stop(signal.Signals(number))
            handler = handlers[signal.Signals(number)]
            assert callable(handler)  # noqa: S101 - others are left as they are
            handler(number, frame)

        mine = [number for number in STOPS if callable(handlers[number])]
        for number in mine:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number in mine:
                signal.signal(number, handlers[number])

    @contextmanager
    def ends_the_process(self) -> Iterator[None]:
        """End the process soon after the limit if it hangs where no alarm reaches its thread."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(min(1.0, max(0.0, self._seconds_to_last()))):
                if self._seconds_to_last() <= 0:
                    message = f"{self.told}, and clean-up did not end{waited_for() or self.waited}"
                    _end_process(message, self.exit_code)

        threading.Thread(target=watch, name="limit", daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _seconds_to_last(self) -> float:
        return self.end.at + LAST_SECONDS - time.monotonic()


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Bound a whole command: raise :class:`TimeOver` in the main thread when its work is over.

    That is before ``seconds`` are, so that clean-up, each act bounded by :func:`clean_up`, ends
    within them. Once they are over it is stopped too, and if even that does not end it, the process
    is. A signal that stops the command leaves it the time of clean-up and no more.
    """
    limit = _Limit(seconds)
    with (
        _alarm(limit.end),
        limit.heeds_signals(),
        limit.ends_the_process(),
        _alarm(limit.work),
    ):
        try:
            yield
        except Stopped as stopped:
            log.error("stopped", why=str(stopped))
            raise


def _end_process(message: str, exit_code: int) -> None:
    """End this process and its children, which have groups of their own, without any clean-up."""
    print_failure(Failure(message, "Run it again; the next run tidies what this one left."))
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in listed.read_text().split():
            with suppress(OSError):
                os.killpg(int(child), signal.SIGKILL)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(exit_code)


class _CleanUpOver(BaseException):
    """The time of one act of clean-up is over."""


@contextmanager
def clean_up(what: str, share: float = SHARE) -> Iterator[None]:
    """Bound an act behind a failure: it is given up, told in the log, when its time is over.

    That is ``share`` of what the command has left, and of half a minute at most. The end of work
    does not ring meanwhile, nor behind it if it was reached; another attempt may follow otherwise.
    """
    silenced = [alarm for alarm in _alarms if alarm.of_work and not alarm.off]
    for alarm in silenced:
        alarm.off = True
    seconds = share * min(CLEAN_UP_SECONDS, left())
    over = _CleanUpOver()
    waited = ""

    def stop() -> BaseException:
        nonlocal waited
        waited = waited_for()
        return over

    try:
        with _alarm(_Alarm(time.monotonic() + seconds, stop)):
            yield
    except _CleanUpOver as error:
        if error is not over:
            raise
        log.warning(f"{what} given up after {seconds:.0f} s{waited}")
    finally:
        for alarm in silenced:
            alarm.off = alarm.at <= time.monotonic()
        _set_timer()


@contextmanager
def threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool whose threads are waited for at its end, and not behind an error or a stop.

    What they wait for may never answer.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def limited(command: Callable[..., None]) -> Callable[..., None]:
    """Bound a command, all of it, by its option ``timeout``."""

    @wraps(command)
    def run(*, timeout: str, **options: Any) -> None:
        with time_limit(parse_duration(timeout)):
            command(timeout=timeout, **options)

    return run
