"""Rows of the service desk: assets, tickets, comments."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from .hr import employees_at, staff_number
from .names import PERIOD, SUBJECTS, photo, text
from .table import NEVER, TODAY, UNKNOWN_DAY, Row, Table, dice, key, moment, recently, size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

KINDS = ("laptop", "desktop", "printer", "projector", "router", "server")
MODELS = ("ThinkPad E14", "HP LaserJet “M404”", "EB-X06 (Epson)", "hAP ax²  ", "华为 MateBook")
ROOMS = ("Library", "Form 2B", "Lab \\ 1", "Ɔdan 2", "Bursary", "", None)
LABELS = ("exam-critical", "donated", "needs, care", 'so-called "new"', "dumsor 🔌", "ƒoƒo")
WARRANTIES = ("2 years", "1 year 6 mons", "90 days", "-1 days", None)
TAGS = ("network", "printing", "password", "spam", "ɔhaw", "硬件", "")
CHANNELS = ("e-mail", "walk-in 🚶🏾‍♀️", None)
# First answer and resolution, by priority.
TARGETS = {
    1: (timedelta(hours=1), timedelta(hours=8)),
    2: (timedelta(hours=4), timedelta(days=2)),
    3: (timedelta(days=1), timedelta(days=5)),
    4: (timedelta(days=2), timedelta(days=15)),
}
STATUSES = ("new", "open", "waiting", "resolved", "closed")
COMMENTS_MOST = 6


def assets_at(scale: float) -> int:
    """Return how many assets a school of ``scale`` has."""
    return size(scale, 800, 20)


def tickets_at(scale: float) -> int:
    """Return how many tickets a school of ``scale`` has ever had."""
    return size(scale, 5000, 40)


def address(rng: Random) -> str | None:
    """Return an address of the school's network, in either version, or none."""
    four = f"10.4.{rng.randrange(256)}.{rng.randrange(1, 255)}"
    six = f"fd00:4::{rng.randrange(1, 65536):x}"
    return rng.choices((four, f"{four}/22", six, f"{six}/64", None), (60, 15, 10, 5, 10))[0]


def asset(seed: int, n: int) -> Row:
    """Return the n-th asset."""
    rng = dice(seed, "asset", n)
    bought = TODAY - timedelta(days=rng.randrange(12, 3000))
    mac = ":".join(f"{byte:02x}" for byte in rng.randbytes(6))
    specs = {"ram": rng.choice((4, 8, 16, None)), "ports": ["usb", {"hdmi": True}], "ssd": 0.25}
    return (
        key(seed, "assets", n), f"AST-{n:05}", rng.choice(KINDS), rng.choice(MODELS),
        rng.choice(ROOMS), address(rng), mac if rng.random() < 0.8 else None, Jsonb(specs),
        rng.choice((None, rng.sample(LABELS, rng.randrange(3)))),
        Decimal(rng.randrange(200_00, 30_000_00)).scaleb(-2) if rng.random() < 0.9 else None,
        UNKNOWN_DAY if n % PERIOD == 17 else bought, rng.choice(WARRANTIES), photo(rng),
        rng.random() < 0.1, moment(rng, TODAY - timedelta(days=rng.randrange(300))),
    )  # fmt: skip


def assets(seed: int, scale: float) -> Iterator[Row]:
    """Yield every asset."""
    return (asset(seed, n) for n in range(1, assets_at(scale) + 1))


def requester(rng: Random, people: int) -> str:
    """Return somebody's staff number as people type it into a form."""
    number = staff_number(rng.randint(1, people))
    return rng.choices((number, number.lower(), f"{number}  ", f" {number}\t"), (90, 4, 4, 2))[0]


def ticket(seed: int, n: int, day: date, people: int, machines: int) -> Row:
    """Return the n-th ticket, opened on ``day``; it may stay open."""
    rng = dice(seed, "ticket", n)
    opened = moment(rng, day)
    status = rng.choice(STATUSES) if day < TODAY - timedelta(days=20) else "new"
    touched = opened
    if status != "new":
        touched += timedelta(seconds=rng.randrange(20 * 86400))
    due = rng.choices((day + timedelta(days=7), NEVER, None), (70, 5, 25))[0]
    return (
        key(seed, "tickets", n), n,
        key(seed, "assets", rng.randint(1, machines)) if rng.random() < 0.7 else None,
        requester(rng, people), SUBJECTS[n % len(SUBJECTS)], rng.choice((None, "", text(rng, 4))),
        status, rng.choices((1, 2, 3, 4), (5, 20, 60, 15))[0],
        rng.sample(TAGS, rng.randrange(3)), rng.choice((None, [], [4, 3], [2])),
        Jsonb({"channel": rng.choice(CHANNELS), "cc": [requester(rng, people)]}),
        opened, NEVER if n % PERIOD == 18 else due,
        touched if status in {"resolved", "closed"} else None,
        timedelta(seconds=rng.randrange(4 * 3600)), touched,
    )  # fmt: skip


def opened_on(n: int, total: int) -> date:
    """Return the day of the n-th of ``total`` tickets: two years' worth, the last one today."""
    return TODAY - timedelta(days=round((total - n) * 730 / total))


def tickets(seed: int, scale: float) -> Iterator[Row]:
    """Yield every ticket, the oldest first."""
    total, people, machines = tickets_at(scale), employees_at(scale), assets_at(scale)
    for n in range(1, total + 1):
        yield ticket(seed, n, opened_on(n, total), people, machines)


def service_targets(seed: int, scale: float) -> Iterator[Row]:
    """Yield what the desk promises for each priority."""
    del scale
    rng = dice(seed, "targets")
    return ((priority, *target, recently(rng)) for priority, target in TARGETS.items())


def comment(seed: int, n: int, position: int, after: datetime, people: int) -> Row:
    """Return a comment on the n-th ticket, written by the end of the day of ``after``."""
    rng = dice(seed, "comment", n, position)
    evening = datetime.combine(after.date(), datetime.max.time(), UTC)
    part = min(1, position / (COMMENTS_MOST + 1))
    written = after + (evening - after) * part * rng.random()
    edited = written + (evening - written) * (0.5 if rng.random() < 0.1 else 0)
    return (
        key(seed, f"comments/{n}", position), key(seed, "tickets", n), position,
        rng.choices((requester(rng, people), "desk", "", None), (50, 44, 3, 3))[0], text(rng, 5),
        rng.random() < 0.2, written, edited,
    )  # fmt: skip


def comments(seed: int, scale: float) -> Iterator[Row]:
    """Yield no to six comments on every ticket."""
    total, people = tickets_at(scale), employees_at(scale)
    for n in range(1, total + 1):
        rng, day = dice(seed, "comments", n), opened_on(n, total)
        for position in range(1, rng.randint(0, COMMENTS_MOST) + 1):
            yield comment(seed, n, position, datetime.combine(day, datetime.min.time(), UTC)
                          + timedelta(hours=18), people)  # fmt: skip


TABLES = (
    Table(
        "assets",
        ("id", "tag", "kind", "model", "room", "address", "mac", "specs", "labels", "price",
         "bought_on", "warranty", "photo", "retired", "updated_at"),
        assets,
        assets_at,
        sequence="asset_tags",
    ),
    Table(
        "tickets",
        ("id", "number", "asset_id", "requester", "subject", "body", "status", "priority", "tags",
         "history", "custom", "opened_at", "due_on", "closed_at", "time_spent", "updated_at"),
        tickets,
        tickets_at,
        sequence="tickets_number_seq",
    ),
    Table(
        "service_targets",
        ("priority", "first_answer", "resolution", "updated_at"),
        service_targets,
        lambda _: len(TARGETS),
    ),
    Table(
        "comments",
        ("id", "ticket_id", "position", "author", "body", "internal", "created_at", "updated_at"),
        comments,
        lambda scale: COMMENTS_MOST // 2 * tickets_at(scale),
    ),
)  # fmt: skip
