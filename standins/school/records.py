"""Rows of the academic records: programmes, students, courses, enrolments, exams, results."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from .careers import COURSES, EXAMS, PROGRAMMES, SPREAD, YEARS, admitted, career, choice, level
from .hr import employees_at, staff_number
from .names import LANGUAGES, PERIOD, REMARKS, TOWNS, person, photo
from .table import NEVER, TODAY, UNKNOWN_DAY, Row, Table, dice, key, moment, recently, size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random
    from uuid import UUID

    from .careers import Choice, SchoolYear

KINDS = (("class_test", 3, 1), ("mid_year", 7, 2), ("end_of_year", 11, 3))  # name, month, hours
# The sixteen regions and how many of a hundred students come from each.
REGIONS = {
    "Greater Accra": 23, "Eastern": 17, "Ashanti": 15, "Central": 10, "Volta": 9, "Western": 5,
    "Northern": 4, "Bono": 3, "Upper East": 3, "Bono East": 2, "Oti": 2, "Upper West": 2,
    "Western North": 2, "Ahafo": 1, "North East": 1, "Savannah": 1,
}  # fmt: skip
HOUSES = ("Aggrey", "Guggisberg", "Yaa Asantewaa", "Ephraim Amu")
QUESTIONS = 6


def students_at(scale: float) -> int:
    """Return how many students a school of ``scale`` has ever had."""
    return size(scale, 2000, 20)


def programmes(seed: int, scale: float) -> Iterator[Row]:
    """Yield the seven programmes."""
    del scale
    rng = dice(seed, "programmes")
    return ((code, name, recently(rng)) for code, name, *_ in PROGRAMMES)


def region(rng: Random, place: int) -> str | None:
    """Return where a family lives, as typed: a few with blanks, a few not at all."""
    (name,) = rng.choices(tuple(REGIONS), tuple(REGIONS.values()))
    odd = {9: f"{name}  ", 10: "", 11: None}
    if place in odd:
        return odd[place]
    return rng.choices((name, f"{name} ", "", None), (960, 20, 10, 10))[0]


# Three tables ask for it, one after the other: up to scale 2 it is made once, in a few megabytes.
@lru_cache(maxsize=4096)
def _career(seed: int, n: int, year: int) -> tuple[Choice, list[SchoolYear]]:
    chosen = choice(seed, n, year, person(seed, "students", n, (14, 18)))
    return chosen, career(seed, n, year, chosen.programme)


def student(seed: int, n: int, year: int) -> Row:
    """Return the n-th student, who came in ``year``."""
    rng, who = dice(seed, "student", n), person(seed, "students", n, (14, 18))
    chosen, years = _career(seed, n, year)
    # As old on the day they came as those who come this year.
    older = timedelta(days=0 if who.born == UNKNOWN_DAY else 365 * (YEARS[-1] - year))
    came = date(year, 1, 6) + timedelta(days=rng.randrange(10))
    expires = rng.choices((came + timedelta(days=3 * 365), NEVER, None), (80, 15, 5))[0]
    guardian = {
        "name": f"{rng.choice(('Auntie', 'Ɔpanyin', 'Efo', 'Mr'))} {who.family}",
        "phones": [who.phone, ""],
        "address": {"town": rng.choice(TOWNS), "gps": f"GA-{rng.randrange(999)}-{n:04}"},
    }
    return (
        key(seed, "students", n), f"{n:07}", who.given, who.family, who.native, who.email,
        who.born - older, chosen.sex, region(rng, n % PERIOD), chosen.programme + 1,
        rng.choice(HOUSES), years[-1].form, rng.random() < 0.8,
        rng.choice((None, rng.sample(LANGUAGES, rng.randrange(4)), ["", 'Ga, "Kpele"', "{Ŋ\\}"])),
        Jsonb(guardian) if rng.random() < 0.95 else None, photo(rng), came,
        NEVER if n % PERIOD == 18 else expires,
        Decimal(rng.randrange(-50_00, 900_00)).scaleb(-2), recently(rng),
    )  # fmt: skip


def students(seed: int, scale: float) -> Iterator[Row]:
    """Yield every student."""
    total = students_at(scale)
    return (student(seed, n, admitted(n, total)) for n in range(1, total + 1))


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


def courses_of(seed: int, n: int, year: int) -> tuple[int, ...]:
    """Return the courses with which the n-th student began in ``year``."""
    return _career(seed, n, year)[1][0].courses


def enrolments(seed: int, scale: float) -> Iterator[Row]:
    """Yield five enrolments of every student and year."""
    total = students_at(scale)
    for n in range(1, total + 1):
        rng, student_id = dice(seed, "enrolments", n), key(seed, "students", n)
        for of in _career(seed, n, admitted(n, total))[1]:
            day = date(of.year, 1, 8) + timedelta(days=rng.randrange(20))
            for course in of.courses:
                over = "completed" if rng.random() < 0.97 else "withdrawn"
                status = "enrolled" if of.year == YEARS[-1] else over
                yield student_id, course + 1, of.year, status, day, moment(rng, day)


@cache
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
    total = students_at(scale)
    for n in range(1, total + 1):
        rng, student_id = dice(seed, "results", n), key(seed, "students", n)
        for of in _career(seed, n, admitted(n, total))[1]:
            for course, last in zip(of.courses, of.scores, strict=True):
                usual = of.talent + level(seed, course, of.year)
                scores = (*(rng.gauss(usual + harder, SPREAD) for harder in EXAMS[:-1]), last)
                for kind, score in enumerate(scores):
                    if rng.random() >= 0.01:
                        yield result(rng, (of.year, course, kind), student_id, score)


def result(rng: Random, exam: tuple[int, int, int], student_id: UUID, score: float) -> Row:
    """Return a student's result of an exam; a few were absent."""
    year, course, kind = exam
    marked = moment(rng, held_at(course, year, kind).date() + timedelta(days=1))
    # The last exams were a few days ago; whoever changes a mark does it by today.
    changed = marked + timedelta(days=rng.choice((0, 0, 0, 1, 3)))
    return (
        year, exam_id(year, course, kind), student_id,
        None if rng.random() < 0.02 else Decimal(f"{min(100.0, max(0.0, score)):.2f}"),
        [rng.choice((None, 0, 5, 9, 14)) for _ in range(QUESTIONS)] if kind == 2 else None,
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
        lambda scale: 11 * students_at(scale),
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
        lambda scale: 33 * students_at(scale),
    ),
)  # fmt: skip
