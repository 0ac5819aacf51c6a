"""Rows of the human resources database: departments, employees, leave, payroll."""

from __future__ import annotations

from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from .names import LANGUAGES, PERIOD, TOWNS, person, photo, text
from .table import NEVER, TODAY, Row, Table, dice, key, moment, recently, size

if TYPE_CHECKING:
    from collections.abc import Iterator

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
POSTS = ("teacher", "administrator", "technician", "support", "national_service")
LEAVE = ("annual", "sick", "maternity", "paternity", "study", "funeral")
ENTITLED_YEARS = (2024, 2025, 2026)
MONTHS = tuple(date(2023 + (11 + m) // 12, (11 + m) % 12 + 1, 1) for m in range(36))
_PENSION = Decimal("0.055")
_CENT = Decimal("0.01")


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


def employee(seed: int, n: int) -> Row:
    """Return the n-th employee; the first is the headmistress, the next eleven head departments."""
    rng, who = dice(seed, "employee", n), person(seed, "employees", n, (22, 64))
    heads = len(DEPARTMENTS)
    hired = TODAY - timedelta(days=rng.randrange(10, 20 * 365))
    department = n if n <= heads else rng.randint(2, heads)
    left = rng.choices((None, NEVER, TODAY - timedelta(days=rng.randrange(10))), (80, 15, 5))[0]
    if n <= heads:
        left = None
    elif n % PERIOD == 18:
        left = NEVER
    grade = rng.randrange(len(GRADES))
    top = (*(lowest for *_, lowest in GRADES), HIGHEST_SALARY)
    salary = Decimal(rng.randrange(top[grade] * 100, top[grade + 1] * 100)) * _CENT
    qualifications: dict[str, object] = {
        "degree": rng.choice(("B.Ed.", "MPhil", "HND", "WASSCE", None)),
        "town": rng.choice(TOWNS),
        "years": [2000 + rng.randrange(26) for _ in range(rng.randrange(3))],
        "licence": {"number": rng.getrandbits(66), "valid": rng.random() < 0.9, "note": "ɔ\t\"\\'"},
    }
    return (
        key(seed, "employees", n), staff_number(n), who.given, who.family, who.native, who.email,
        who.phone, who.born, hired, left, "head" if n <= heads else rng.choice(POSTS), department,
        grade + 1,
        None if n == 1 else key(seed, "employees", 1 if n <= heads else department),
        rng.sample(LANGUAGES, rng.randrange(4)), Jsonb(qualifications), photo(rng),
        timedelta(hours=rng.choice((20, 37, 40)), minutes=rng.choice((0, 30))),
        salary, left in {None, NEVER}, recently(rng),
    )  # fmt: skip


def employees(seed: int, scale: float) -> Iterator[Row]:
    """Yield every employee, a manager before whom they manage."""
    return (employee(seed, n) for n in range(1, employees_at(scale) + 1))


def request(seed: int, n: int, k: int, earliest: int = -700) -> Row:
    """Return the k-th request for leave of the n-th employee.

    It starts ``earliest`` days after today or later; one that is still ahead is not decided yet.
    """
    rng = dice(seed, "leave", n, k)
    starts = TODAY + timedelta(days=rng.randrange(earliest, 60))
    ends = NEVER if rng.random() < 0.005 else starts + timedelta(days=rng.randrange(30))
    approved = None if starts > TODAY else rng.random() < 0.9
    return (
        key(seed, "employees", n), rng.choice(LEAVE), starts, ends,
        rng.choice((None, "", text(rng, 3))), approved,
        None if approved is None else key(seed, "employees", 1),
        moment(rng, min(starts, TODAY) - timedelta(days=rng.randrange(20))),
    )  # fmt: skip


def leave(seed: int, scale: float) -> Iterator[Row]:
    """Yield no to six requests for leave of every employee."""
    for n in range(1, employees_at(scale) + 1):
        for k in range(dice(seed, "requests", n).randrange(7)):
            yield request(seed, n, k)


def leave_entitlements(seed: int, scale: float) -> Iterator[Row]:
    """Yield the days of annual leave of every employee and year."""
    for n in range(1, employees_at(scale) + 1):
        rng = dice(seed, "entitlements", n)
        for year in ENTITLED_YEARS:
            days = Decimal(rng.randrange(42, 72)) / 2
            yield key(seed, "employees", n), year, days, moment(rng, date(year, 1, 5))


def payroll(seed: int, scale: float) -> Iterator[Row]:
    """Yield a year of pay slips, the last month's not paid yet."""
    people = employees_at(scale)
    for month in MONTHS:
        rng = dice(seed, "payroll", month)
        for n in range(1, people + 1):
            gross = Decimal(rng.randrange(150_000, 1_900_000)) * _CENT
            tax = (gross * rng.choice((Decimal("0.05"), Decimal("0.175")))).quantize(_CENT)
            allowances = {"rent": rng.randrange(900), "transport": [rng.randrange(90), "GH₵"]}
            made = moment(rng, month + timedelta(days=rng.randrange(15)))
            yield (
                key(seed, "employees", n), month, gross, (gross * _PENSION).quantize(_CENT), tax,
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
        lambda scale: 3 * employees_at(scale),
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
