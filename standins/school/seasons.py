"""The school's calendar: which days bring more of a thing than others, and how it grows."""

from __future__ import annotations

from bisect import bisect_left
from datetime import date, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING

from .table import TODAY

if TYPE_CHECKING:
    from random import Random

# Tickets by month, January first: exams are in March, July and November, terms begin in January,
# May and September, and in August and December hardly anybody is there.
DESK = (1.6, 1.0, 1.4, 0.7, 1.2, 1.0, 1.5, 0.35, 1.5, 1.0, 1.5, 0.4)
# Leave by month: people go in the holidays.
HOLIDAYS = (0.3, 0.2, 0.2, 0.8, 0.3, 0.2, 0.3, 1.0, 0.3, 0.2, 0.2, 0.9)
WEEKEND, GROWTH_A_YEAR = 0.1, 0.12
_SATURDAY = 5
FIRST_TICKET = date(2023, 11, 21)


def _weight(day: date) -> float:
    growth: float = (1 + GROWTH_A_YEAR) ** ((day - FIRST_TICKET).days / 365)
    return DESK[day.month - 1] * growth * (WEEKEND if day.weekday() >= _SATURDAY else 1)


_DAYS = tuple(FIRST_TICKET + timedelta(days=d) for d in range((TODAY - FIRST_TICKET).days + 1))
_REACHED = tuple(accumulate(map(_weight, _DAYS)))


def opened_on(n: int, total: int) -> date:
    """Return the day of the n-th of ``total`` tickets: three years' worth, the last one today."""
    return _DAYS[bisect_left(_REACHED, _REACHED[-1] * (n / total))]


def day_off(rng: Random, first: date, last: date) -> date:
    """Return a day between ``first`` and ``last`` on which a leave begins, mostly a holiday."""
    span = (last - first).days + 1
    day = first + timedelta(days=rng.randrange(span))
    while rng.random() > HOLIDAYS[day.month - 1]:
        day = first + timedelta(days=rng.randrange(span))
    return day


def turn_of_term(rng: Random, year: int) -> date:
    """Return a day on which people come or go: mostly in September, else in January."""
    month = rng.choices((9, 1, rng.randint(1, 10)), (55, 30, 15))[0]
    return date(year, month, rng.randint(1, 15))
