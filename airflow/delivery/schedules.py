"""Whether a schedule runs too close to itself, by its fields alone: no run is counted out.

Times are those of the wall clock; the hour that a change to summer time takes or gives is left out.
"""

from __future__ import annotations

import difflib
from bisect import bisect_right
from datetime import datetime, timedelta
from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from delivery import crons

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery.crons import Cron

WITHOUT_CRON = ("@once", "@continuous")
MAX_CRONS = 50
"""Most cron expressions of one timetable that are compared with each other."""
MAX_DEPTH = 10
"""How deep timetables may stand in each other."""

_DAY = 24 * 60 * 60
_WEEKDAYS = ("Sundays", "Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays")
# The least seconds of each of a relativedelta's relative fields; its others say no distance.
_LEAST = {
    "years": 365 * _DAY,
    "months": 28 * _DAY,
    "days": _DAY,
    "hours": 3600,
    "minutes": 60,
    "seconds": 1,
    "microseconds": 1e-6,
    "leapdays": 0,
}


def unreadable(schedule: str) -> str | None:
    """Return why Airflow cannot run by ``schedule`` and what it may be, None if it can.

    Random numbers (``R``) are refused: they are others whenever the schedule is read.
    """
    if schedule in WITHOUT_CRON or crons.read(schedule) is not None:
        return None
    words = (*crons.PRESETS, *WITHOUT_CRON)
    near = difflib.get_close_matches(schedule[:20].lower(), words, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return (
        f'{schedule[:40]!r} is no schedule: expected five cron fields, as "0 4 * * *", or one of'
        f" {', '.join(words)}{meant}"
    )


def cron_too_close(schedule: str, minutes: int) -> str | None:
    """Return why the cron fields or preset ``schedule`` run too close; see ``too_close``."""
    return _crons_too_close((schedule,), minutes)


def too_close(timetable: Mapping[str, Any], minutes: int) -> str | None:
    """Return in one line why a DAG runs less than ``minutes`` after its own last run, else None.

    ``timetable`` is as Airflow serialises it: {"__type": import path, "__var": {…}}. A cron that
    never runs is said too. A timetable of another type or shape is None: nothing is known of it.
    """
    inner: object = timetable
    for _ in range(MAX_DEPTH):
        if not isinstance(inner, dict) or not isinstance(inner.get("__type"), str):
            return None
        kind = inner["__type"]
        values = inner.get("__var")
        if not isinstance(values, dict) or not kind.startswith("airflow.timetables."):
            return None
        if kind != "airflow.timetables.assets.AssetOrTimeSchedule":
            return _plain_too_close(kind.rpartition(".")[2], values, minutes)
        inner = values.get("timetable")
    return None


def _plain_too_close(kind: str, values: Mapping[str, Any], minutes: int) -> str | None:
    match kind:
        case "ContinuousTimetable":
            return "runs again as soon as it has ended"
        case "CronTriggerTimetable" | "CronDataIntervalTimetable" | "CronPartitionTimetable":
            return _crons_too_close(_texts([values.get("expression")]), minutes)
        case "MultipleCronTriggerTimetable":
            return _crons_too_close(_texts(values.get("expressions")), minutes)
        case "DeltaTriggerTimetable" | "DeltaDataIntervalTimetable":
            return _delta_too_close(values.get("delta"), minutes)
        case "EventsTimetable":
            return _events_too_close(values.get("event_dates"), minutes)
        case _:
            return None


def _texts(expressions: object) -> tuple[str, ...]:
    if not isinstance(expressions, list):
        return ()
    return tuple(dict.fromkeys(each for each in expressions if isinstance(each, str)))


def _delta_too_close(delta: object, minutes: int) -> str | None:
    parts: dict[Any, Any] = delta if isinstance(delta, dict) else {"seconds": delta}
    seconds = 0.0
    for key, value in parts.items():
        if key not in _LEAST or type(value) not in {int, float}:
            return None
        seconds += _LEAST[key] * value
    if not seconds < minutes * 60:
        return None
    return f"runs every {seconds:g} seconds"


def _events_too_close(dates: object, minutes: int) -> str | None:
    if not isinstance(dates, list):
        return None
    times = sorted({moment for each in dates if (moment := _moment(each)) is not None})
    for earlier, later in pairwise(times):
        if later - earlier < timedelta(minutes=minutes):
            return f"runs at {earlier:%Y-%m-%d %H:%M:%S} and {later:%H:%M:%S}"
    return None


def _moment(text: object) -> datetime | None:
    """Return an ISO time as one without a zone, in UTC if it says its distance from that."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment - (moment.utcoffset() or timedelta())).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=1024)
def _crons_too_close(schedules: tuple[str, ...], minutes: int) -> str | None:
    if len(schedules) > MAX_CRONS:
        return f"has {len(schedules)} crons: at most {MAX_CRONS} are compared with each other"
    known = {text: cron for text in schedules if (cron := crons.read(text)) is not None}
    for text, cron in known.items():
        if not cron.days:
            return f"{text!r} never runs: there is no such day until {crons.LAST.year}"
    least = minutes * 60
    for cron in known.values():
        earlier = None
        for time in cron.times():
            if earlier is not None and time - earlier < least:
                return _says(earlier, time, cron.days)
            earlier = time
    return _each_other(list(known.values()), least)


def _each_other(known: list[Cron], least: int) -> str | None:
    """Compare the crons, each of which leaves ``least`` seconds within a day, and over midnight."""
    runs = sorted((time, cron.days) for cron in known for time in cron.times())
    if not runs:
        return None
    tomorrow = runs[: bisect_right(runs, (least, 0))]
    runs += [(time + _DAY, days >> 1) for time, days in tomorrow]
    common = cache(lambda one, other: one & other)
    for index, (time, days) in enumerate(runs):
        if time >= _DAY:
            break
        for later, others in runs[index + 1 :]:
            if later - time >= least:
                break
            if later > time and common(days, others):
                return _says(time, later, days & others)
    return None


def _says(earlier: int, later: int, days: int) -> str:
    days_of = crons.calendar()
    # What runs over midnight of the last day is beyond the calendar.
    known = days_of.every >> 1
    weekdays = [each & known for each in days_of.weekdays]
    if days & known == known:
        when = "every day"
    elif days & known in weekdays:
        when = f"on {_WEEKDAYS[weekdays.index(days & known)]}"
    else:
        when = f"on {crons.FIRST + timedelta(days=(days & -days).bit_length() - 1)}"
    if later >= _DAY:
        return f"runs at {_clock(earlier)} {when} and at {_clock(later - _DAY)} the day after"
    return f"runs at {_clock(earlier)} and {_clock(later)} {when}"


def _clock(time: int) -> str:
    clock = f"{time // 3600:02}:{time // 60 % 60:02}"
    return f"{clock}:{time % 60:02}" if time % 60 else clock
