"""Rows of the human resources database: departments, grades, employees, their leave and pay."""

from __future__ import annotations

from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from psycopg.types.json import Jsonb

from .names import LANGUAGES, PERIOD, TOWNS, person, photo, text
from .seasons import day_off, turn_of_term
from .table import NEVER, TODAY, UNKNOWN_DAY, Row, Table, dice, key, moment, recently, size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random
    from uuid import UUID

# Code, name, name in a Ghanaian language, parent by its place (1 is the first).
DEPARTMENTS = (
    ("HEAD", "Headmistress's Office", "Sukuupanyin Adwumayɛbea", None),
    ("ACAD", "Academic Affairs", None, 1),
    ("ADMIN", "Administration", "", 1),
    ("MATH", "Mathematics", "Nkontaabu", 2),
    ("SCI", "Science", "Abɔdeɛ mu Nyansahu", 2),
    ("LANG", "Languages", "Gbegbɔgblɔwo", 2),
    ("SOC", "Social Studies", None, 2),
    ("ARTS", "Visual Arts & Music", "Adwini ne Nnwom 🎶", 2),
    ("AGRI", "Agriculture", "Agbledede", 2),
    ("FIN", "Bursary", None, 3),
    ("ICT", "Information Technology", "Kɔmpiuta", 3),
    ("ESTAT", "Estates and Kitchen  ", "Shikpɔŋ kɛ Niyenii", 3),
)
# Code, name, what a month pays at least.
GRADES = (
    ("G1", "Support", 1_500), ("G2", "Assistant", 2_500), ("G3", "Officer", 3_800),
    ("G4", "Senior officer", 5_600), ("G5", "Principal officer", 8_200), ("G6", "Director", 12_000),
)  # fmt: skip
HIGHEST_SALARY = 19_000
# Every January pays this much more than the December before, but for the thirteenth month.
RAISE = 1.09
# How many of a hundred have a post, and the lowest and highest grade (1 is the first) that it has;
# people rise with the years.
POSTS = {
    "teacher": (50, 3, 5), "administrator": (15, 2, 4), "technician": (10, 2, 4),
    "support": (18, 1, 2), "national_service": (7, 1, 1),
}  # fmt: skip
YEARS_A_GRADE = 5
FIRST_HIRED = 2008
# How many of a hundred requests are of a kind, and the days that it lasts at most.
LEAVE = {
    "annual": (50, 12), "sick": (22, 5), "maternity": (3, 84), "paternity": (3, 7),
    "study": (8, 20), "funeral": (14, 5),
}  # fmt: skip
FIRST_LEAVE = date(2024, 1, 2)
ENTITLED_YEARS = (2024, 2025, 2026)
MONTHS = tuple(date(2023 + (11 + m) // 12, (11 + m) % 12 + 1, 1) for m in range(36))
_PENSION = Decimal("0.055")
_CENT = Decimal("0.01")
_TAXED_MORE = 5_000
_DECEMBER = 12


def employees_at(scale: float) -> int:
    """Return how many employees a school of ``scale`` has; all databases number them 1 to that."""
    return size(scale, 200, 20)


def staff_number(n: int) -> str:
    """Return the n-th employee's number, by which the other databases name them."""
    return f"ANS-{n:05}"


def departments(seed: int, scale: float) -> Iterator[Row]:
    """Yield every department, a parent before its children."""
    del scale
    rng = dice(seed, "departments")
    for code, name, local_name, parent in DEPARTMENTS:
        budget = Decimal(rng.randrange(1_000_000, 90_000_000)) * _CENT
        opens, closes = time(rng.choice((6, 7, 8)), 30), time(16, rng.choice((0, 30, 59)), 59)
        yield code, name, local_name, parent, opens, closes, budget, recently(rng)


def grades(seed: int, scale: float) -> Iterator[Row]:
    """Yield the grades, the lowest first."""
    del scale
    rng = dice(seed, "grades")
    return ((code, name, lowest, recently(rng)) for code, name, lowest in GRADES)


class Terms(NamedTuple):
    """On what terms somebody works here; department and grade are identities."""

    hired: date
    left: date | None
    post: str
    department: int
    grade: int
    salary: Decimal

    def last_day(self) -> date:
        """Return the last day of work, 9999-12-31 if none is known."""
        return self.left or NEVER


def terms(seed: int, n: int, hired: date | None = None) -> Terms:
    """Return the terms of the n-th employee; the first is the headmistress, then come heads.

    Most come in September or January, more of them in later years; some have left since 2024.
    """
    rng, heads = dice(seed, "terms", n), len(DEPARTMENTS)
    new, department = hired is not None, n if n <= heads else rng.randint(2, heads)
    if hired is None:
        years = range(FIRST_HIRED, 2017 if n <= heads else TODAY.year + 1)
        (year,) = rng.choices(years, range(4, 4 + len(years)))
        hired = turn_of_term(rng, year)
    left = rng.choices((None, NEVER), (85, 15))[0]
    if n <= heads:
        left = None
    elif n % PERIOD == 18:
        left = NEVER
    elif not new and hired.year < TODAY.year and rng.random() < 0.17:
        left = turn_of_term(rng, rng.randint(max(2024, hired.year + 1), TODAY.year))
    if n <= heads:
        post, grade = "head", 6 if n == 1 else 5
    else:
        post = rng.choices(tuple(POSTS), [share for share, *_ in POSTS.values()])[0]
        _, lowest, highest = POSTS[post]
        grade = min(highest, lowest + max(0, (TODAY - hired).days) // (YEARS_A_GRADE * 365))
    band = (*(lowest for *_, lowest in GRADES), HIGHEST_SALARY)[grade - 1 : grade + 1]
    salary = Decimal(rng.randrange(band[0] * 100, band[1] * 100)) * _CENT
    return Terms(hired, left, post, department, grade, salary)


def employee(seed: int, n: int, hired: date | None = None) -> Row:
    """Return the n-th employee, who may be ``hired`` on a day of the caller's."""
    rng, who = dice(seed, "employee", n), person(seed, "employees", n, (22, 64))
    at, heads = terms(seed, n, hired), len(DEPARTMENTS)
    # Nobody began before they were eighteen, as far as anybody knows.
    born = who.born if who.born == UNKNOWN_DAY else min(who.born, at.hired - timedelta(18 * 366))
    qualifications: dict[str, object] = {
        "degree": rng.choice(("B.Ed.", "MPhil", "HND", "WASSCE", None)),
        "town": rng.choice(TOWNS),
        "years": [2000 + rng.randrange(26) for _ in range(rng.randrange(3))],
        "licence": {"number": rng.getrandbits(66), "valid": rng.random() < 0.9, "note": "ɔ\t\"\\'"},
    }
    return (
        key(seed, "employees", n), staff_number(n), who.given, who.family, who.native, who.email,
        who.phone, born, at.hired, at.left, at.post, at.department, at.grade,
        None if n == 1 else key(seed, "employees", 1 if n <= heads else at.department),
        rng.sample(LANGUAGES, rng.randrange(4)), Jsonb(qualifications), photo(rng),
        timedelta(hours=rng.choice((20, 37, 40)), minutes=rng.choice((0, 30))),
        at.salary, at.left in {None, NEVER}, recently(rng),
    )  # fmt: skip


def employees(seed: int, scale: float) -> Iterator[Row]:
    """Yield every employee, a manager before whom they manage."""
    return (employee(seed, n) for n in range(1, employees_at(scale) + 1))


def request(seed: int, n: int, k: int, starts: date) -> Row:
    """Return the k-th request for leave of the n-th employee; one still ahead is not decided."""
    rng = dice(seed, "leave", n, k)
    kind = rng.choices(tuple(LEAVE), [share for share, _ in LEAVE.values()])[0]
    ends = starts + timedelta(days=rng.randrange(LEAVE[kind][1]))
    approved = None if starts > TODAY else rng.random() < 0.9
    return (
        key(seed, "employees", n), kind, starts, NEVER if rng.random() < 0.005 else ends,
        rng.choice((None, "", text(rng, 3))), approved,
        None if approved is None else key(seed, "employees", 1),
        moment(rng, min(starts, TODAY) - timedelta(days=rng.randrange(20))),
    )  # fmt: skip


def leave(seed: int, scale: float) -> Iterator[Row]:
    """Yield no to twelve requests for leave of every employee, in three years."""
    for n in range(1, employees_at(scale) + 1):
        rng, at = dice(seed, "requests", n), terms(seed, n)
        for k in range(rng.randrange(13)):
            starts = day_off(rng, FIRST_LEAVE, TODAY + timedelta(days=60))
            if at.hired <= starts <= at.last_day():
                yield request(seed, n, k, starts)


def entitlement(seed: int, n: int, year: int, at: Terms) -> Row:
    """Return the days of annual leave of the n-th employee: a part in the year in which they come.

    Higher grades have more of them.
    """
    whole = 20 + 2 * at.grade
    months = 13 - at.hired.month if at.hired.year == year else 12
    days = Decimal(whole * months * 2 // 12) / 2
    began = max(date(year, 1, 2), at.hired)
    return key(seed, "employees", n), year, days, moment(dice(seed, "entitled", n, year), began)


def leave_entitlements(seed: int, scale: float) -> Iterator[Row]:
    """Yield the entitlement of every employee and year in which they were here."""
    for n in range(1, employees_at(scale) + 1):
        at = terms(seed, n)
        for year in ENTITLED_YEARS:
            if at.hired.year <= year <= at.last_day().year:
                yield entitlement(seed, n, year, at)


def payroll(seed: int, scale: float) -> Iterator[Row]:
    """Yield the pay slips of three years, the last month's not paid yet.

    Nobody is paid for a month in which they were not here on any day.
    """
    for n in range(1, employees_at(scale) + 1):
        rng, at, employee_id = dice(seed, "payroll", n), terms(seed, n), key(seed, "employees", n)
        for month in MONTHS:
            if at.hired.replace(day=1) <= month <= at.last_day():
                yield slip(rng, employee_id, month, at)


def slip(rng: Random, employee_id: UUID, month: date, at: Terms) -> Row:
    """Return a pay slip: today's salary without the raises since, overtime, a thirteenth month."""
    regular = float(at.salary) / RAISE ** (TODAY.year - month.year)
    regular *= rng.choice((1.0, 1.0, 1.0, 1.04))
    if month.month == _DECEMBER:
        worked = 13 - at.hired.month if at.hired.year == month.year else 12
        regular *= 1 + worked / 12
    gross = Decimal(f"{regular:.2f}")
    tax = gross * (Decimal("0.05") if gross < _TAXED_MORE else Decimal("0.175"))
    allowances = {"rent": rng.randrange(900), "transport": [rng.randrange(90), "GH₵"]}
    made = moment(rng, month + timedelta(days=rng.randrange(15)))
    return (
        employee_id, month, gross, (gross * _PENSION).quantize(_CENT), tax.quantize(_CENT),
        Jsonb(allowances) if rng.random() < 0.7 else None,
        None if month == MONTHS[-1] else made + timedelta(days=1), made,
    )  # fmt: skip


TABLES = (
    Table(
        "departments",
        ("code", "name", "local_name", "parent_id", "opens", "closes", "budget", "updated_at"),
        departments,
        lambda _: len(DEPARTMENTS),
    ),
    Table("grades", ("code", "name", "lowest_salary", "updated_at"), grades, lambda _: len(GRADES)),
    Table(
        "employees",
        ("id", "staff_number", "given_name", "family_name", "native_name", "email", "phone",
         "birth_date", "hired_on", "left_on", "post", "department_id", "grade_id", "manager_id",
         "languages", "qualifications", "photo", "weekly_hours", "monthly_salary", "active",
         "updated_at"),
        employees,
        employees_at,
        sequence="staff_numbers",
    ),
    Table(
        "leave",
        ("employee_id", "kind", "starts_on", "ends_on", "reason", "approved", "approved_by",
         "updated_at"),
        leave,
        lambda scale: 5 * employees_at(scale),
    ),
    Table(
        "leave_entitlements",
        ("employee_id", "year", "days", "updated_at"),
        leave_entitlements,
        lambda scale: len(ENTITLED_YEARS) * employees_at(scale),
    ),
    Table(
        "payroll",
        ("employee_id", "month", "gross", "pension", "tax", "allowances", "paid_at", "updated_at"),
        payroll,
        lambda scale: len(MONTHS) * employees_at(scale),
    ),
)  # fmt: skip
