"""What the three databases share: a table's description, seeded dice, keys and moments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The school's today, a Friday. Nothing here reads a clock, and no `updated_at` is later.
TODAY = date(2026, 11, 20)
# Values other systems write for "not known" and "never".
UNKNOWN_DAY, NEVER = date(1900, 1, 1), date(9999, 12, 31)

Row = tuple[object, ...]


@dataclass(frozen=True)
class Table:
    """A table as the loader fills it.

    ``columns`` leaves out generated columns and most identities: rows arrive in order, so the n-th
    row of a new table gets the identity n, and other rows may refer to it. The last column is
    always updated_at. ``rows`` streams the rows of (seed, scale); ``about`` says how many to
    expect. Where rows bring their number, ``sequence`` is moved past the last one.
    """

    name: str
    columns: tuple[str, ...]
    rows: Callable[[int, float], Iterator[Row]]
    about: Callable[[float], int]
    sequence: str | None = None


def dice(seed: int, *what: object) -> Random:
    """Return dice for one thing: what is thrown for it depends on no other thing."""
    return Random("/".join(map(str, (seed, *what))))


def key(seed: int, table: str, n: int) -> UUID:
    """Return the n-th key of ``table``, in any order and without those before it."""
    return UUID(int=dice(seed, "key", table, n).getrandbits(128), version=4)


def size(scale: float, at_one: int, least: int) -> int:
    """Return how many rows ``scale`` makes of ``at_one``; ``least`` keeps small schools odd."""
    return max(least, round(at_one * scale))


def moment(rng: Random, day: date) -> datetime:
    """Return a moment in the working hours of ``day``; Ghana keeps UTC all year."""
    start = datetime.combine(day, time(7), UTC)
    return start + timedelta(microseconds=rng.randrange(10 * 3600 * 1_000_000))


def recently(rng: Random, days: int = 400) -> datetime:
    """Return a moment of the last ``days`` days, today among them."""
    return moment(rng, TODAY - timedelta(days=rng.randrange(days)))
