"""Rows of the service desk: assets, tickets, targets, comments."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from psycopg.types.json import Jsonb

from .hr import employees_at, staff_number
from .names import PERIOD, SUBJECTS, photo, text
from .seasons import opened_on
from .table import NEVER, TODAY, UNKNOWN_DAY, Row, Table, dice, key, moment, recently, size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

# How many of a hundred assets are of a kind, and how long it takes beside others to mend one.
KINDS = {
    "laptop": (35, 1.0), "desktop": (25, 0.85), "printer": (15, 1.4), "projector": (12, 0.7),
    "router": (8, 1.1), "server": (5, 1.9),
}  # fmt: skip
# What is no machine is mostly a password.
WITHOUT_MACHINE = 0.5
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
# In the median these parts of the promised time pass; the spread is that of a log-normal.
ANSWERED_IN, RESOLVED_IN, SPREAD = 0.4, 0.55, 0.8
WAITING = ("new", "open", "waiting")
COMMENTS_MOST = 6
DESK = "desk"
# Nothing of a day is later.
LATE = time(23, 59)


def assets_at(scale: float) -> int:
    """Return how many assets a school of ``scale`` has."""
    return size(scale, 800, 20)


def tickets_at(scale: float) -> int:
    """Return how many tickets a school of ``scale`` has ever had."""
    return size(scale, 8000, 40)


def address(rng: Random) -> str | None:
    """Return an address of the school's network, in either version, or none."""
    four = f"10.4.{rng.randrange(256)}.{rng.randrange(1, 255)}"
    six = f"fd00:4::{rng.randrange(1, 65536):x}"
    return rng.choices((four, f"{four}/22", six, f"{six}/64", None), (60, 15, 10, 5, 10))[0]


@lru_cache(maxsize=8192)
def kind_of(seed: int, n: int) -> str:
    """Return the kind of the n-th asset."""
    return dice(seed, "kind", n).choices(tuple(KINDS), [share for share, _ in KINDS.values()])[0]


def asset(seed: int, n: int) -> Row:
    """Return the n-th asset."""
    rng = dice(seed, "asset", n)
    bought = TODAY - timedelta(days=rng.randrange(12, 3000))
    mac = ":".join(f"{byte:02x}" for byte in rng.randbytes(6))
    specs = {"ram": rng.choice((4, 8, 16, None)), "ports": ["usb", {"hdmi": True}], "ssd": 0.25}
    return (
        key(seed, "assets", n), f"AST-{n:05}", kind_of(seed, n), rng.choice(MODELS),
        rng.choice(ROOMS), address(rng), mac if rng.random() < 0.8 else None, Jsonb(specs),
        rng.choice((None, rng.sample(LABELS, rng.randrange(3)))),
        Decimal(rng.randrange(200_00, 30_000_00)).scaleb(-2) if rng.random() < 0.9 else None,
        UNKNOWN_DAY if n % PERIOD == 17 else bought, rng.choice(WARRANTIES), photo(rng),
        rng.random() < 0.1, moment(rng, TODAY - timedelta(days=rng.randrange(300))),
    )  # fmt: skip


def assets(seed: int, scale: float) -> Iterator[Row]:
    """Yield every asset."""
    return (asset(seed, n) for n in range(1, assets_at(scale) + 1))


def typed(rng: Random, number: str) -> str:
    """Return a staff number as people type it into a form."""
    if rng.random() < 0.9:
        return number
    return rng.choices((number.lower(), f"{number}  ", f" {number}\t"), (2, 2, 1))[0]


def somebody(rng: Random, people: int) -> str:
    """Return somebody's staff number."""
    return staff_number(rng.randint(1, people))


class Case(NamedTuple):
    """What a ticket and the comments on it agree about; ``machine`` is the asset's number."""

    opened: datetime
    closed: datetime | None
    answered: datetime
    priority: int
    machine: int | None
    requester: str

    def until(self) -> datetime:
        """Return by when everything was said: when it was closed, or by tonight."""
        tonight = datetime.combine(max(TODAY, self.opened.date()), LATE, UTC)
        return self.closed or min(tonight, self.opened + timedelta(days=20))


def case(seed: int, n: int, day: date, people: int, machines: int) -> Case:
    """Return the case of the n-th ticket, opened on ``day``.

    How long it takes depends on its priority and on the machine. Of those that would be closed by
    today a few are forgotten, and what is opened after today is still open.
    """
    rng = dice(seed, "case", n)
    opened = moment(rng, day)
    priority = rng.choices(tuple(TARGETS), (5, 20, 60, 15))[0]
    machine = rng.randint(1, machines) if rng.random() < 0.7 else None
    slower = KINDS[kind_of(seed, machine)][1] if machine else WITHOUT_MACHINE
    answer, resolution = TARGETS[priority]
    takes = resolution * slower * RESOLVED_IN * rng.lognormvariate(0, SPREAD)
    closed = opened + takes if rng.random() < 0.96 and day <= TODAY else None
    if closed and closed.date() > TODAY:
        closed = None
    answered = opened + answer * ANSWERED_IN * rng.lognormvariate(0, SPREAD)
    return Case(opened, closed, answered, priority, machine, somebody(rng, people))


def ticket(seed: int, n: int, day: date, people: int, machines: int) -> Row:
    """Return the n-th ticket, opened on ``day``; it may stay open."""
    rng, of = dice(seed, "ticket", n), case(seed, n, day, people, machines)
    touched, status = of.closed or of.opened, rng.choice(("resolved", "closed"))
    if not of.closed:
        status = rng.choice(WAITING) if day < TODAY - timedelta(days=3) else "new"
        if status != "new":
            touched += (of.until() - of.opened) * rng.random()
    due = rng.choices((day + TARGETS[of.priority][1], NEVER, None), (70, 5, 25))[0]
    return (
        key(seed, "tickets", n), n, key(seed, "assets", of.machine) if of.machine else None,
        typed(rng, of.requester), SUBJECTS[n % len(SUBJECTS)], rng.choice((None, "", text(rng, 4))),
        status, of.priority, rng.sample(TAGS, rng.randrange(3)),
        rng.choice((None, [], [4, 3], [2])),
        Jsonb({"channel": rng.choice(CHANNELS), "cc": [typed(rng, somebody(rng, people))]}),
        of.opened, NEVER if n % PERIOD == 18 else due, of.closed,
        timedelta(seconds=rng.randrange(4 * 3600)), touched,
    )  # fmt: skip


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


def comment(
    rng: Random, seed: int, n: int, position: int, written: datetime, author: str | None
) -> Row:
    """Return a comment on the n-th ticket; some are edited later in the evening.

    ``author`` is typed by hand where it is a staff number. Only the desk makes notes for itself.
    """
    edited = written
    if rng.random() < 0.1:
        evening = datetime.combine(written.date(), LATE, UTC)
        edited += max(evening - written, timedelta(0)) * rng.random()
    return (
        key(seed, f"comments/{n}", position), key(seed, "tickets", n), position,
        typed(rng, author) if author and author != DESK else author, text(rng, 5),
        author == DESK and rng.random() < 0.25, written, edited,
    )  # fmt: skip


def talk(rng: Random, of: Case, people: int) -> Iterator[tuple[datetime, str | None]]:
    """Yield when each comment on a ticket was written and by whom, the first one first.

    The desk's answer comes as late as the case says, but before the end; at times whoever asked
    asks again before. Nobody has answered yet what was opened a moment ago.
    """
    end, answered = of.until(), of.answered
    if answered >= end and not of.closed:
        return
    if answered >= end:
        answered = of.opened + (end - of.opened) * rng.uniform(0.3, 0.9)
    if rng.random() < 0.05:
        return
    if rng.random() < 0.12:
        yield of.opened + (answered - of.opened) * rng.random(), of.requester
    yield answered, rng.choices((DESK, somebody(rng, people), "", None), (75, 21, 2, 2))[0]
    for part in sorted(rng.random() for _ in range(rng.randint(0, COMMENTS_MOST - 2))):
        author = rng.choices((of.requester, DESK, somebody(rng, people)), (45, 43, 12))[0]
        yield answered + (end - answered) * part, author


def comments(seed: int, scale: float) -> Iterator[Row]:
    """Yield no to six comments on every ticket."""
    total, people, machines = tickets_at(scale), employees_at(scale), assets_at(scale)
    for n in range(1, total + 1):
        of, rng = case(seed, n, opened_on(n, total), people, machines), dice(seed, "talk", n)
        for position, (written, author) in enumerate(talk(rng, of, people), start=1):
            yield comment(rng, seed, n, position, written, author)


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
