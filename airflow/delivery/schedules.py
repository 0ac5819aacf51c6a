"""Whether a schedule runs too close to itself, by its fields alone: no run is counted out.

Times are those of the wall clock; the hour that a change to summer time takes or gives is left out.
Days are counted until 2099, where cron's years end.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from croniter import CroniterError, croniter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}
WITHOUT_CRON = ("@once", "@continuous")
MAX_CRONS = 50
"""Most cron expressions of one timetable that are compared with each other."""
MAX_EXPRESSION = 500
"""Most characters of a cron expression."""
MAX_DEPTH = 10
"""How deep timetables may stand in each other."""

_FIRST = date(2026, 1, 1)
_LAST = date(2099, 12, 31)
_DAY = 24 * 60 * 60
_WEEKDAYS = ("Sundays", "Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays")
# croniter takes an R for a number that it draws again whenever the expression is read.
_RANDOM = re.compile("(?<![a-z])r(?![a-z])", re.IGNORECASE)
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
    if schedule in WITHOUT_CRON or _cron(schedule) is not None:
        return None
    words = (*PRESETS, *WITHOUT_CRON)
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


@dataclass(frozen=True)
class _Cron:
    """``times`` of a day in seconds, in order; ``days`` has a bit for each day since _FIRST."""

    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]
    days: int

    def times(self) -> Iterator[int]:
        for hour in self.hours:
            for minute in self.minutes:
                for second in self.seconds:
                    yield hour * 3600 + minute * 60 + second


@lru_cache(maxsize=1024)
def _crons_too_close(schedules: tuple[str, ...], minutes: int) -> str | None:
    if len(schedules) > MAX_CRONS:
        return f"has {len(schedules)} crons: at most {MAX_CRONS} are compared with each other"
    crons = {text: cron for text in schedules if (cron := _cron(text)) is not None}
    for text, cron in crons.items():
        if not cron.days:
            return f"{text!r} never runs: there is no such day until {_LAST.year}"
    least = minutes * 60
    for cron in crons.values():
        earlier = None
        for time in cron.times():
            if earlier is not None and time - earlier < least:
                return _says(earlier, time, cron.days)
            earlier = time
    return _each_other(list(crons.values()), least)


def _each_other(crons: list[_Cron], least: int) -> str | None:
    """Compare the crons, each of which leaves ``least`` seconds within a day, and over midnight."""
    runs = sorted((time, cron.days) for cron in crons for time in cron.times())
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
    calendar = _calendar()
    # What runs over midnight of the last day is beyond the calendar.
    known = calendar.every >> 1
    weekdays = [each & known for each in calendar.weekdays]
    if days & known == known:
        when = "every day"
    elif days & known in weekdays:
        when = f"on {_WEEKDAYS[weekdays.index(days & known)]}"
    else:
        when = f"on {_FIRST + timedelta(days=(days & -days).bit_length() - 1)}"
    if later >= _DAY:
        return f"runs at {_clock(earlier)} {when} and at {_clock(later - _DAY)} the day after"
    return f"runs at {_clock(earlier)} and {_clock(later)} {when}"


def _clock(time: int) -> str:
    clock = f"{time // 3600:02}:{time // 60 % 60:02}"
    return f"{clock}:{time % 60:02}" if time % 60 else clock


@lru_cache(maxsize=4096)
def _cron(text: str) -> _Cron | None:
    """Return the fields of a cron expression or preset, None if it is none."""
    text = PRESETS.get(text, text)
    if len(text) > MAX_EXPRESSION or not text.isascii() or _RANDOM.search(text):
        return None
    try:
        cron = croniter(text)
    except (CroniterError, ValueError, KeyError, TypeError, IndexError, OverflowError):
        return None
    minutes, hours, _, _, _, *more = cron.expanded
    return _Cron(
        _values(hours, range(24)),
        _values(minutes, range(60)),
        _values(more[0], range(60)) if more else (0,),
        _days(cron),
    )


def _values(field: list[Any], every: range) -> tuple[int, ...]:
    return tuple(every) if "*" in field else tuple(sorted(set(field)))


@dataclass(frozen=True)
class _Calendar:
    """Days since _FIRST as bits, by what cron says of them."""

    every: int
    years: dict[int, int]
    months: dict[int, int]
    days: dict[int | str, int]
    weekdays: list[int]
    weeks: dict[int | str, int]
    nearest: dict[int, int]


@cache
def _calendar() -> _Calendar:
    """Return the calendar; "l" is the last day of a month, or its last seven among the weeks."""
    count = (_LAST - _FIRST).days + 1
    marks: dict[tuple[str, int | str], bytearray] = {}

    def mark(what: str, value: int | str, index: int) -> None:
        if 0 <= index < count:
            marks.setdefault((what, value), bytearray(b"0") * count)[count - 1 - index] = 0x31

    for index in range(count):
        day = _FIRST + timedelta(days=index)
        left = _month_end(day) - day.day
        mark("every", 0, index)
        mark("years", day.year, index)
        mark("months", day.month, index)
        mark("days", day.day, index)
        mark("weekdays", day.isoweekday() % 7, index)
        mark("weeks", (day.day + 6) // 7, index)
        if not left:
            mark("days", "l", index)
        if left < len(_WEEKDAYS):
            mark("weeks", "l", index)
        away = {5: -1 if day.day > 1 else 2, 6: 1 if left else -2}.get(day.weekday(), 0)
        mark("nearest", day.day, index + away)
    bits: dict[str, dict[Any, int]] = {}
    for (what, value), digits in marks.items():
        bits.setdefault(what, {})[value] = int(digits, 2)
    return _Calendar(
        bits["every"][0], bits["years"], bits["months"], bits["days"],
        [bits["weekdays"][each] for each in range(7)], bits["weeks"], bits["nearest"],
    )  # fmt: skip


def _month_end(day: date) -> int:
    return (date(day.year + day.month // 12, day.month % 12 + 1, 1) - timedelta(days=1)).day


def _days(cron: croniter) -> int:
    """Return the days of a cron: one of the days of month or one of those of week will do.

    The nth weekday of a month (``1#2``) and the nearest working day (``15W``) are what croniter
    makes of them beside the other field.
    """
    calendar = _calendar()
    _, _, of_month, months, of_week, *more = cron.expanded
    allowed = _any(calendar.months, months, calendar.every)
    if len(more) > 1:
        allowed &= _any(calendar.years, more[1], calendar.every)
    month_days = _any(calendar.days, of_month, calendar.every)
    if cron.nearest_weekday:
        month_days = _any(calendar.nearest, list(cron.nearest_weekday), calendar.every)
    week_days = _any(dict(enumerate(calendar.weekdays)), of_week, calendar.every)
    if cron.nth_weekday_of_month:
        week_days = 0
        for weekday, weeks in cron.nth_weekday_of_month.items():
            week = calendar.every if weekday == "*" else calendar.weekdays[weekday]
            week_days |= week & _any(calendar.weeks, list(weeks), calendar.every)
    if of_month[0] == "*" or of_week[0] == "*":
        return allowed & month_days & week_days
    if not cron.nth_weekday_of_month and not cron.nearest_weekday:
        return allowed & (month_days | week_days)
    # Here croniter asks for both, twice, and fails for good if it finds no day for one of them.
    one = allowed & month_days & (week_days if cron.nth_weekday_of_month else calendar.every)
    other = allowed & week_days & (month_days if cron.nearest_weekday else calendar.every)
    return one | other if one and other else 0


def _any(bits: Mapping[Any, int], values: list[Any], every: int) -> int:
    if "*" in values:
        return every
    days = 0
    for value in values:
        days |= bits.get(value, 0)
    return days
