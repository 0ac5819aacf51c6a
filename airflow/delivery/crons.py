"""Cron expressions by their fields: the times of their days, and which days those are.

Days are counted until 2099, where cron's years end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, lru_cache
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
MAX_EXPRESSION = 500
"""Most characters of a cron expression."""
FIRST = date(2026, 1, 1)
LAST = date(2099, 12, 31)
# croniter takes an R for a number that it draws again whenever the expression is read.
_RANDOM = re.compile("(?<![a-z])r(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Cron:
    """When it runs; ``days`` has a bit for each day since FIRST."""

    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]
    days: int

    def times(self) -> Iterator[int]:
        """Yield the times of a day, in seconds."""
        for hour in self.hours:
            for minute in self.minutes:
                for second in self.seconds:
                    yield hour * 3600 + minute * 60 + second


@lru_cache(maxsize=4096)
def read(text: str) -> Cron | None:
    """Return the fields of a cron expression or preset, None if it is none."""
    text = PRESETS.get(text, text)
    if len(text) > MAX_EXPRESSION or not text.isascii() or _RANDOM.search(text):
        return None
    try:
        cron = croniter(text)
    except (CroniterError, ValueError, KeyError, TypeError, IndexError, OverflowError):
        return None
    minutes, hours, _, _, _, *more = cron.expanded
    return Cron(
        _values(hours, range(24)),
        _values(minutes, range(60)),
        _values(more[0], range(60)) if more else (0,),
        _days(cron),
    )


def _values(field: list[Any], every: range) -> tuple[int, ...]:
    return tuple(every) if "*" in field else tuple(sorted(set(field)))


@dataclass(frozen=True)
class Calendar:
    """Days since FIRST as bits, by what cron says of them."""

    every: int
    years: dict[int, int]
    months: dict[int, int]
    days: dict[int | str, int]
    weekdays: list[int]
    weeks: dict[int | str, int]
    nearest: dict[int, int]


@cache
def calendar() -> Calendar:
    """Return the calendar; "l" is the last day of a month, or its last seven among the weeks."""
    count = (LAST - FIRST).days + 1
    marks: dict[tuple[str, int | str], bytearray] = {}

    def mark(what: str, value: int | str, index: int) -> None:
        if 0 <= index < count:
            marks.setdefault((what, value), bytearray(b"0") * count)[count - 1 - index] = 0x31

    for index in range(count):
        day = FIRST + timedelta(days=index)
        left = _month_end(day) - day.day
        mark("every", 0, index)
        mark("years", day.year, index)
        mark("months", day.month, index)
        mark("days", day.day, index)
        mark("weekdays", day.isoweekday() % 7, index)
        mark("weeks", (day.day + 6) // 7, index)
        if not left:
            mark("days", "l", index)
        if left < 7:  # noqa: PLR2004 - days of a week
            mark("weeks", "l", index)
        away = {5: -1 if day.day > 1 else 2, 6: 1 if left else -2}.get(day.weekday(), 0)
        mark("nearest", day.day, index + away)
    bits: dict[str, dict[Any, int]] = {}
    for (what, value), digits in marks.items():
        bits.setdefault(what, {})[value] = int(digits, 2)
    return Calendar(
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
    all_days = calendar()
    _, _, of_month, months, of_week, *more = cron.expanded
    allowed = _any(all_days.months, months, all_days.every)
    if len(more) > 1:
        allowed &= _any(all_days.years, more[1], all_days.every)
    month_days = _any(all_days.days, of_month, all_days.every)
    if cron.nearest_weekday:
        month_days = _any(all_days.nearest, list(cron.nearest_weekday), all_days.every)
    week_days = _any(dict(enumerate(all_days.weekdays)), of_week, all_days.every)
    if cron.nth_weekday_of_month:
        week_days = 0
        for weekday, weeks in cron.nth_weekday_of_month.items():
            week = all_days.every if weekday == "*" else all_days.weekdays[weekday]
            week_days |= week & _any(all_days.weeks, list(weeks), all_days.every)
    if of_month[0] == "*" or of_week[0] == "*":
        return allowed & month_days & week_days
    if not cron.nth_weekday_of_month and not cron.nearest_weekday:
        return allowed & (month_days | week_days)
    # Here croniter asks for both, twice, and fails for good if it finds no day for one of them.
    one = allowed & month_days & (week_days if cron.nth_weekday_of_month else all_days.every)
    other = allowed & week_days & (month_days if cron.nearest_weekday else all_days.every)
    return one | other if one and other else 0


def _any(bits: Mapping[Any, int], values: list[Any], every: int) -> int:
    if "*" in values:
        return every
    days = 0
    for value in values:
        days |= bits.get(value, 0)
    return days
