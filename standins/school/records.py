"""Rows of the academic records: students, courses, enrolments, exams, results."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from .hr import employees_at, staff_number
from .names import LANGUAGES, PERIOD, REMARKS, TOWNS, person, photo
from .table import NEVER, TODAY, Row, Table, dice, key, moment, recently, size

if TYPE_CHECKING:
    from collections.abc import Iterator

# The academic year is the calendar year; by today, all exams of 2026 have been held.
YEARS = (2022, 2023, 2024, 2025, 2026)
# The first four are core; the title in the language itself, where it has one.
COURSES = (
    ("ENG", "English Language", None), ("CMA", "Core Mathematics", "Nkontaabu"),
    ("ISC", "Integrated Science", ""), ("SOC", "Social Studies", None),
    ("EMA", "Elective Mathematics", None), ("PHY", "Physics", None), ("CHE", "Chemistry", None),
    ("BIO", "Biology", None), ("GEO", "Geography", None), ("HIS", "History", None),
    ("GOV", "Government", None), ("ECO", "Economics", "Sikasɛm"), ("LIT", "Literature", None),
    ("CRS", "Christian Religious Studies", None), ("IRS", "Islamic Studies", "الدراسات الإسلامية"),
    ("FRE", "French", "Français"), ("ARA", "Arabic", "اللغة العربية"), ("CHN", "Chinese", "中文"),
    ("HIN", "Hindi Club  ", "हिन्दी"), ("TWI", "Asante Twi", "Asante Twi kasa"),
    ("GAA", "Ga", "Gã wiemɔ"), ("EWE", "Ewe", "Eʋegbe"), ("DAG", "Dagbani", "Dagbanli"),  # noqa: RUF001
    ("MUS", "Music", "Nnwom 🎵"), ("ACC", "Financial Accounting", None),
    ("COS", "Cost Accounting", None), ("BUS", "Business Management", "Adwumayɛ"),
    ("CLO", "Clothing & Textiles", "Kente"), ("FOO", "Food and Nutrition", "Nuɖuɖu"),
    ("ART", "General Knowledge in Art", None), ("GRA", "Graphic Design", None),
    ("CER", "Ceramics", None), ("CRO", "Crop Husbandry", "Agbledede"), ("FIS", "Fisheries", None),
    ("FOR", "Forestry", None), ("MET", "Metalwork", None), ("WOO", "Woodwork", None),
    ("TDR", 'Technical Drawing ("TD")', None), ("AUT", "Auto Mechanics", None),
    ("ICT", "Information Technology", "Kɔmpiuta"),
)  # fmt: skip
KINDS = (("class_test", 3, 1), ("mid_year", 7, 2), ("end_of_year", 11, 3))  # name, month, hours
PROGRAMMES = (
    ("SCI", "General Science"), ("BUS", "Business"), ("GAR", "General Arts"),
    ("VIS", "Visual Arts"), ("HOM", "Home Economics"), ("AGR", "Agriculture"),
    ("TEC", "Technical"),
)  # fmt: skip
REGIONS = (
    "Ahafo", "Ashanti", "Bono", "Bono East", "Central", "Eastern", "Greater Accra", "North East",
    "Northern", "Oti", "Savannah", "Upper East", "Upper West", "Volta", "Western", "Western North",
)  # fmt: skip
HOUSES = ("Aggrey", "Guggisberg", "Yaa Asantewaa", "Ephraim Amu")
COURSES_EACH = 10
QUESTIONS = 6


def students_at(scale: float) -> int:
    """Return how many students a school of ``scale`` has ever had."""
    return size(scale, 2000, 20)


def admitted(seed: int, n: int) -> int:
    """Return the year in which the n-th student came."""
    return dice(seed, "admitted", n).choice(YEARS)


def programmes(seed: int, scale: float) -> Iterator[Row]:
    """Yield the seven programmes."""
    del scale
    rng = dice(seed, "programmes")
    return ((code, name, recently(rng)) for code, name in PROGRAMMES)


def student(seed: int, n: int, year: int) -> Row:
    """Return the n-th student, who came in ``year``."""
    rng, who = dice(seed, "student", n), person(seed, "students", n, (14, 21))
    came = date(year, 1, 6) + timedelta(days=rng.randrange(10))
    expires = rng.choices((came + timedelta(days=3 * 365), NEVER, None), (80, 15, 5))[0]
    guardian = {
        "name": f"{rng.choice(('Auntie', 'Ɔpanyin', 'Efo', 'Mr'))} {who.family}",
        "phones": [who.phone, ""],
        "address": {"town": rng.choice(TOWNS), "gps": f"GA-{rng.randrange(999)}-{n:04}"},
    }
    return (
        key(seed, "students", n), f"{n:07}", who.given, who.family, who.native, who.email, who.born,
        rng.choice(("female", "male", None)), rng.choice(REGIONS), rng.randint(1, len(PROGRAMMES)),
        rng.choice(HOUSES), min(3, max(YEARS[-1], year) - year + 1), rng.random() < 0.8,
        rng.choice((None, rng.sample(LANGUAGES, rng.randrange(4)), ["", 'Ga, "Kpele"', "{Ŋ\\}"])),
        Jsonb(guardian) if rng.random() < 0.95 else None, photo(rng), came,
        NEVER if n % PERIOD == 18 else expires,
        Decimal(rng.randrange(-50_00, 900_00)).scaleb(-2), recently(rng),
    )  # fmt: skip


def students(seed: int, scale: float) -> Iterator[Row]:
    """Yield every student."""
    return (student(seed, n, admitted(seed, n)) for n in range(1, students_at(scale) + 1))


def courses(seed: int, scale: float) -> Iterator[Row]:
    """Yield every course; a larger school has no more of them."""
    del scale
    for n, (code, title, local_title) in enumerate(COURSES, start=1):
        rng = dice(seed, "course", n)
        syllabus = {"units": [{"n": u, "weeks": rng.randrange(1, 5)} for u in range(3)], "π": 3.14}
        yield (
            code, title, local_title, "core" if n <= 4 else "elective", rng.randint(1, 6),
            sorted(rng.sample(range(1, 6), rng.randint(0, 4))), time(rng.randrange(7, 15), 20),
            timedelta(minutes=rng.choice((40, 80))), Jsonb(syllabus), recently(rng),
        )  # fmt: skip


def chosen(seed: int, n: int, first: int, last: int) -> list[tuple[int, int]]:
    """Return the (year, course) pairs of the n-th student between two years, sorted."""
    pairs = [(year, course) for year in range(first, last + 1) for course in range(len(COURSES))]
    return sorted(dice(seed, "chosen", n).sample(pairs, COURSES_EACH))


def _chosen(seed: int, n: int) -> list[tuple[int, int]]:
    first = admitted(seed, n)
    return chosen(seed, n, first, min(first + 2, YEARS[-1]))


def enrolments(seed: int, scale: float) -> Iterator[Row]:
    """Yield ten enrolments of every student, over up to three years."""
    for n in range(1, students_at(scale) + 1):
        rng, student_id = dice(seed, "enrolments", n), key(seed, "students", n)
        for year, course in _chosen(seed, n):
            over = rng.choices(("completed", "withdrawn"), (97, 3))[0]
            day = date(year, 1, 8) + timedelta(days=rng.randrange(20))
            status = "enrolled" if year == YEARS[-1] else over
            yield student_id, course + 1, year, status, day, moment(rng, day)


def held_at(course: int, year: int, kind: int) -> datetime:
    """Return when an exam begins: on a weekday, in the same fortnight for all courses."""
    day = date(year, KINDS[kind][1], 2 + course % 10)
    day += timedelta(days=2 if day.weekday() > 4 else 0)
    return datetime.combine(day, time(8 + course % 6), UTC)


def exams(seed: int, scale: float) -> Iterator[Row]:
    """Yield three exams a course and year, in the order in which ``exam_id`` numbers them."""
    people = employees_at(scale)
    for year in YEARS:
        for course in range(len(COURSES)):
            for kind, (name, _, hours) in enumerate(KINDS):
                rng, held = dice(seed, "exam", year, course, kind), held_at(course, year, kind)
                difficulty = math.nan if rng.random() < 0.02 else rng.random()
                yield (
                    course + 1, year, name, held, timedelta(hours=hours),
                    rng.sample(("Hall", "Room 4, 'B'", 'Lab "1"', "Ɔdan 2"), rng.randint(1, 2)),
                    [rng.randint(5, 20) for _ in range(QUESTIONS)],
                    staff_number(rng.randint(1, people)) if rng.random() < 0.95 else "",
                    difficulty if rng.random() < 0.9 else None, held + timedelta(hours=hours),
                )  # fmt: skip


def exam_id(year: int, course: int, kind: int) -> int:
    """Return the identity that the server gives an exam of ``exams``."""
    return (YEARS.index(year) * len(COURSES) + course) * len(KINDS) + kind + 1


def results(seed: int, scale: float) -> Iterator[Row]:
    """Yield a result for every exam of every enrolment, but for one script in a hundred.

    The missing ones are still to be marked: a day's changes bring some of them in.
    """
    for n in range(1, students_at(scale) + 1):
        rng, student_id = dice(seed, "results", n), key(seed, "students", n)
        talent = rng.gauss(58, 12)
        for year, course in _chosen(seed, n):
            for kind in range(len(KINDS)):
                if rng.random() < 0.01:
                    continue
                score = Decimal(f"{min(100.0, max(0.0, rng.gauss(talent, 9))):.2f}")
                marked = moment(rng, held_at(course, year, kind).date() + timedelta(days=1))
                # The last exams were a few days ago; whoever changes a mark does it by today.
                changed = marked + timedelta(days=rng.choice((0, 0, 0, 1, 3)))
                yield (
                    year, exam_id(year, course, kind), student_id,
                    None if rng.random() < 0.02 else score,
                    [rng.choice((None, 0, 5, 9, 14)) for _ in range(QUESTIONS)] if kind == 2
                    else None,
                    rng.choice(REMARKS) if rng.random() < 0.2 else None, marked, changed,
                )  # fmt: skip


assert held_at(9, YEARS[-1], 2).date() + timedelta(days=4) <= TODAY, "results from the future"


TABLES = (
    Table("programmes", ("code", "name", "updated_at"), programmes, lambda _: len(PROGRAMMES)),
    Table(
        "students",
        ("id", "index_number", "given_name", "family_name", "native_name", "email", "birth_date",
         "sex", "region", "programme_id", "house", "form", "boarder", "languages", "guardian",
         "photo", "admitted_on",
         "card_expires_on", "fees_owed", "updated_at"),
        students,
        students_at,
        sequence="index_numbers",
    ),
    Table(
        "courses",
        ("code", "title", "local_title", "kind", "credits", "weekdays", "starts_at", "lesson",
         "syllabus", "updated_at"),
        courses,
        lambda _: len(COURSES),
    ),
    Table(
        "enrolments",
        ("student_id", "course_id", "academic_year", "status", "enrolled_on", "updated_at"),
        enrolments,
        lambda scale: COURSES_EACH * students_at(scale),
    ),
    Table(
        "exams",
        ("course_id", "academic_year", "kind", "held_at", "allowed", "rooms", "question_marks",
         "examiner", "difficulty", "updated_at"),
        exams,
        lambda _: len(YEARS) * len(COURSES) * len(KINDS),
    ),
    Table(
        "results",
        ("academic_year", "exam_id", "student_id", "score", "marks", "remark", "marked_at",
         "updated_at"),
        results,
        lambda scale: COURSES_EACH * len(KINDS) * students_at(scale),
    ),
)  # fmt: skip
