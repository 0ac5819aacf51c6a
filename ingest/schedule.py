"""The schedule of a pipeline: five cron fields in UTC, or a preset.

A strict subset of what Airflow's CronTriggerTimetable takes, so that a file that passes here
never breaks the DAG processor.
"""

from __future__ import annotations

import re

PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_ITEM = re.compile(r"(?:\*|([a-z]{3}|\d{1,2})(?:-([a-z]{3}|\d{1,2}))?)(?:/(\d{1,2}))?")
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def check(text: str) -> None:
    """Raise ValueError, saying what was expected, if ``text`` is no schedule or never comes."""
    if text in PRESETS:
        return
    fields = text.lower().split()
    if text.startswith("@") or len(fields) != len(_FIELDS):
        raise ValueError(f"expected five cron fields or one of {', '.join(PRESETS)}")
    values = [_expand(field, *limits) for field, limits in zip(fields, _FIELDS, strict=True)]
    days, months = values[2], values[3]
    if fields[4] == "*" and all(min(days) > _DAYS_OF_MONTH[month - 1] for month in months):
        raise ValueError("expected a day that one of these months has")


def _expand(field: str, what: str, low: int, high: int, names: tuple[str, ...]) -> set[int]:
    values: set[int] = set()
    for item in field.split(","):
        found = _ITEM.fullmatch(item)
        if found is None:
            raise ValueError(f"expected *, numbers, ranges or steps as the {what}, found {item!r}")
        first, last, step = found.groups()
        start = _number(first, what, low, high, names) if first else low
        if last:
            end = _number(last, what, low, high, names)
        else:
            end = start if first and not step else high
        if end < start or (step and not 1 <= int(step) <= high):
            raise ValueError(f"expected a rising range and a step of 1 to {high} as the {what}")
        values.update(range(start, end + 1, int(step or 1)))
    return values


def _number(text: str, what: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + low
    if not text.isdigit() or not low <= int(text) <= high:
        raise ValueError(f"expected {low} to {high} as the {what}, found {text!r}")
    return int(text)
