"""What a run may take of the source: sessions, bytes a second, hours of the day."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, time, timedelta
from time import monotonic, sleep
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ByteSize, Field, WithJsonSchema

from frame.failure import Failure
from ingest.rules import STRICT, Duration

# Two cores are kept busy by four sessions, as one side waits for the other.
JOBS, MOST_JOBS = 4, 64
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_RATE = re.compile(r"[1-9]\d{0,5} ?[kMG]i?B")


class Hours(NamedTuple):
    """A part of the day in UTC, over midnight if it ends before it begins."""

    begin: time
    end: time

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M}"

    def have(self, moment: time) -> bool:
        """Return whether ``moment`` lies in them."""
        if self.begin <= self.end:
            return self.begin <= moment < self.end
        return moment >= self.begin or moment < self.end


def _hours(value: Any) -> Any:
    found = _HOURS.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("expected hours of the day in UTC, such as 22:00-06:00")
    begin_hour, begin_minute, end_hour, end_minute = map(int, found.groups())
    return Hours(time(begin_hour, begin_minute), time(end_hour, end_minute))


def _rate(value: Any) -> Any:
    if not (isinstance(value, str) and _RATE.fullmatch(value)):
        raise ValueError("expected bytes a second, such as 20MB")
    return value


class Limits(BaseModel):
    """What a run may take of the source."""

    model_config = STRICT

    jobs: int = Field(
        default=JOBS, ge=1, le=MOST_JOBS, description="sessions that read beside each other"
    )
    rate: (
        Annotated[
            ByteSize,
            BeforeValidator(_rate),
            WithJsonSchema({"type": "string", "pattern": f"^{_RATE.pattern}$"}),
        ]
        | None
    ) = Field(default=None, description="bytes that all of them read in a second, such as 20MB")
    lock_wait: Duration = Field(
        default=timedelta(minutes=10),
        description="how long a table that others hold is tried, during which nobody waits for us",
    )
    hours: (
        Annotated[
            Hours,
            BeforeValidator(_hours),
            WithJsonSchema({"type": "string", "pattern": f"^{_HOURS.pattern}$"}),
        ]
        | None
    ) = Field(
        default=None,
        description="the only hours of the day, in UTC, in which a table begins to be read",
    )

    def expect_open(self, side: str) -> None:
        """Raise Failure unless it is one of the hours in which ``side`` may be read."""
        now = datetime.now(UTC).time()
        if self.hours is not None and not self.hours.have(now):
            raise Failure(
                f"{side}: expected to read in the hours {self.hours} (UTC), found {now:%H:%M}",
                hint="Run again within them, or change limits.hours in the pipeline file.",
            )


class Throttle:
    """Lets ``rate`` bytes a second by, of all threads together; None lets all by."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free = monotonic()  # from when on the next bytes may go

    def let_by(self, size: int) -> None:
        """Wait until ``size`` bytes may go."""
        if self._rate is None:
            return
        with self._lock:
            self._free = max(self._free, monotonic()) + size / self._rate
            until = self._free
        sleep(max(0.0, until - monotonic()))
