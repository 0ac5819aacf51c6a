"""How students fare: what they study, how each exam goes, who repeats a year and who leaves."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from .names import PERIOD, Person, sex_of
from .table import dice

if TYPE_CHECKING:
    from random import Random

# The academic year is the calendar year; by today, all exams of 2026 have been held.
YEARS = (2022, 2023, 2024, 2025, 2026)
# How many of a hundred students came in each of them: the school grows.
ADMISSIONS = (14, 17, 20, 23, 26)
# Code, name, share of those admitted in 2022 and in 2026, how much more girls choose it, electives.
PROGRAMMES = (
    ("SCI", "General Science", 22, 24, 0.8, "EMA PHY CHE BIO GEO ICT"),
    ("BUS", "Business", 19, 20, 1.0, "ACC COS BUS ECO EMA ICT"),
    ("GAR", "General Arts", 25, 20, 1.2, "GEO HIS GOV ECO LIT CRS IRS"),
    ("VIS", "Visual Arts", 10, 10, 1.0, "ART GRA CER LIT TDR"),
    ("HOM", "Home Economics", 7, 6, 2.5, "CLO FOO BIO ART"),
    ("AGR", "Agriculture", 12, 5, 0.6, "CRO FIS FOR BIO CHE"),
    ("TEC", "Technical", 6, 17, 0.4, "MET WOO TDR AUT PHY ICT"),
)
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
CORE = range(4)
COURSES_A_YEAR, CORE_A_YEAR, ELECTIVES_A_YEAR = 5, 2, 2
LAST_FORM = 3
# What each exam of a year, the class test first, adds to the level: it gets harder.
EXAMS = (3.0, 0.0, -2.0)
SPREAD = 8.0
PASS = 50.0
# What becomes of those who fail most of a year, and how often others leave.
REPEATS, LEAVES, LEAVES_ANYWAY = 0.45, 0.35, 0.02

_PLACES = {code: place for place, (code, *_) in enumerate(COURSES)}
_ELECTIVES = tuple(tuple(_PLACES[code] for code in row[-1].split()) for row in PROGRAMMES)
# Anybody may take one of these beside the programme.
_EXTRA = tuple(
    _PLACES[code] for code in ("FRE", "ARA", "CHN", "HIN", "TWI", "GAA", "EWE", "DAG", "MUS", "ICT")
)
_CAME = tuple(accumulate(ADMISSIONS))


class Choice(NamedTuple):
    """Who a student is and what they came for; ``programme`` is a place in ``PROGRAMMES``."""

    sex: str | None
    programme: int


class SchoolYear(NamedTuple):
    """A student's year: courses by their places in ``COURSES``, the last exam's score in each.

    ``talent`` is what the student would score in a course of the usual level.
    """

    year: int
    form: int
    courses: tuple[int, ...]
    scores: tuple[float, ...]
    talent: float

    @property
    def failed(self) -> bool:
        """Whether the last exams of most courses went wrong."""
        return sum(score < PASS for score in self.scores) * 2 > len(self.scores)


def admitted(n: int, total: int) -> int:
    """Return the year in which the n-th of ``total`` students came; index numbers rise with it."""
    return YEARS[bisect_right(_CAME, (n - 1) * _CAME[-1] / total)]


def choice(seed: int, n: int, year: int, who: Person) -> Choice:
    """Return what the n-th student, admitted in ``year``, is and chose."""
    rng = dice(seed, "choice", n)
    sex = sex_of(who.given) or rng.choice(("female", "male"))
    part = (year - YEARS[0]) / (YEARS[-1] - YEARS[0])
    weights = [
        (then + (now - then) * min(part, 1)) * (liked if sex == "female" else 1)
        for _, _, then, now, liked, _ in PROGRAMMES
    ]
    programme = rng.choices(range(len(PROGRAMMES)), weights)[0]
    unknown = n % PERIOD == 10 or rng.random() < 0.01
    return Choice(None if unknown else sex, programme)


@lru_cache(maxsize=1024)
def level(seed: int, course: int, year: int) -> float:
    """Return how many points a course is above or below others in ``year``: it moves slowly."""
    rng = dice(seed, "level", course)
    return rng.gauss(0, 6) + rng.gauss(0, 1.2) * (year - YEARS[0])


def _chosen(rng: Random, programme: int) -> tuple[int, ...]:
    courses = [*rng.sample(CORE, CORE_A_YEAR), *rng.sample(_ELECTIVES[programme], ELECTIVES_A_YEAR)]
    extra = rng.choice(_EXTRA)
    while extra in courses:
        extra = rng.choice(_EXTRA)
    return tuple(sorted((*courses, extra)))


def career(seed: int, n: int, first: int, programme: int) -> list[SchoolYear]:
    """Return the n-th student's years from ``first`` on, up to the present one.

    Three forms take three years; whoever fails most of a year may repeat it, with the same
    courses, or leave. There is always one year at least.
    """
    rng = dice(seed, "career", n)
    talent, form, years = rng.gauss(60, 9), 1, []
    courses = _chosen(rng, programme)
    for year in range(first, max(first, YEARS[-1]) + 1):
        usual = talent + EXAMS[-1]
        scores = tuple(rng.gauss(usual + level(seed, at, year), SPREAD) for at in courses)
        done = SchoolYear(year, form, courses, scores, talent)
        years.append(done)
        thrown = rng.random()
        if thrown < (LEAVES if done.failed else LEAVES_ANYWAY):
            break
        if done.failed and thrown < LEAVES + REPEATS:
            talent += 3  # the second time is easier
            continue
        if form == LAST_FORM:
            break
        form, courses = form + 1, _chosen(rng, programme)
    return years
