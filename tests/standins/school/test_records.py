"""The school grows, its programmes drift, courses differ; who fails a year repeats or leaves."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from standins.school.load import load

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

DATABASE, SCALE = "records", 0.5

# Student and year, the form in it, whether most last exams were failed, and the year after.
YEARS = """
WITH years AS (
  SELECT student_id, academic_year AS year,
         row_number() OVER (PARTITION BY student_id ORDER BY academic_year) AS nth
  FROM enrolments GROUP BY 1, 2
), failures AS (
  SELECT student_id, r.academic_year AS year,
         2 * count(*) FILTER (WHERE score < 50) > count(*) AS failed
  FROM results r JOIN exams x ON x.id = r.exam_id
  WHERE kind = 'end_of_year' AND score IS NOT NULL GROUP BY 1, 2
), courses AS (
  SELECT student_id, academic_year AS year, array_agg(course_id ORDER BY course_id) AS taken
  FROM enrolments GROUP BY 1, 2
), progress AS (
  SELECT y.*, failed, c.taken = d.taken AS repeats, d.taken IS NOT NULL AS comes_back
  FROM years y JOIN failures f USING (student_id, year) JOIN courses c USING (student_id, year)
  LEFT JOIN courses d ON d.student_id = y.student_id AND d.year = y.year + 1
)
"""


def rows(connection: Connection, query: str) -> list[Any]:
    return connection.execute(query.encode()).fetchall()


def test_there_are_seven_programmes(school: Connection) -> None:
    assert rows(school, "SELECT code, name FROM programmes ORDER BY id") == [
        ("SCI", "General Science"), ("BUS", "Business"), ("GAR", "General Arts"),
        ("VIS", "Visual Arts"), ("HOM", "Home Economics"), ("AGR", "Agriculture"),
        ("TEC", "Technical"),
    ]  # fmt: skip


def test_later_years_admit_more_and_a_cohort_begins_in_its_year(school: Connection) -> None:
    cohorts = dict(
        rows(
            school, "SELECT extract(year FROM admitted_on)::int, count(*) FROM students GROUP BY 1"
        )
    )
    assert sorted(cohorts) == [2022, 2023, 2024, 2025, 2026]
    assert all(cohorts[before] < cohorts[after] for before, after in pairwise(sorted(cohorts)))
    assert cohorts[2026] > 1.5 * cohorts[2022]
    late = (
        "SELECT count(*) FROM (SELECT s.id FROM students s LEFT JOIN enrolments e"
        " ON e.student_id = s.id GROUP BY s.id"
        " HAVING min(academic_year) IS DISTINCT FROM extract(year FROM admitted_on)) AS late"
    )
    assert rows(school, late) == [(0,)]


def test_technical_programmes_grow_and_agriculture_shrinks(school: Connection) -> None:
    found = rows(
        school,
        "SELECT admitted_on >= '2025-01-01', avg((code = 'TEC')::int)::float,"
        " avg((code = 'AGR')::int)::float"
        " FROM students s JOIN programmes p ON p.id = programme_id"
        " WHERE admitted_on < '2024-01-01' OR admitted_on >= '2025-01-01' GROUP BY 1 ORDER BY 1",
    )
    (_, technical_then, farming_then), (_, technical_now, farming_now) = found
    assert technical_now > 1.2 * technical_then
    assert farming_then > 1.2 * farming_now


def test_girls_and_boys_choose_otherwise_and_of_a_few_nobody_knows(school: Connection) -> None:
    girls = dict(
        rows(
            school,
            "SELECT code, avg((sex = 'female')::int) FROM students s"
            " JOIN programmes p ON p.id = programme_id GROUP BY 1",
        )
    )
    assert girls["HOM"] > 0.6
    assert girls["TEC"] < 0.4
    (unknown, everybody) = rows(school, "SELECT count(*) - count(sex), count(*) FROM students")[0]
    assert 0 < unknown < 0.05 * everybody


def test_students_come_from_sixteen_regions_typed_with_slips(
    school: Connection, connection: Connection
) -> None:
    regions = rows(
        school,
        "SELECT trim(region), count(*) FROM students WHERE region <> '' GROUP BY 1 ORDER BY 2 DESC",
    )
    assert len(regions) == 16
    assert regions[0][0] == "Greater Accra"
    load(connection, "records", 0.01, 7)
    for what in ("region ~ ' $'", "region = ''", "region IS NULL", "sex IS NULL"):
        for each, scale in ((school, SCALE), (connection, 0.01)):
            ((odd, everybody),) = rows(
                each, f"SELECT count(*) FILTER (WHERE {what}), count(*) FROM students"
            )
            assert 0 < odd < 0.1 * everybody, (what, scale)


def test_courses_differ_and_move_slowly(school: Connection) -> None:
    averages: dict[str, dict[int, float]] = {}
    for code, year, average in rows(
        school, "SELECT code, academic_year, average::float FROM course_averages"
    ):
        averages.setdefault(code, {})[year] = average
    overall = sorted(sum(each.values()) / len(each) for each in averages.values())
    assert overall[-1] - overall[0] > 15
    # The core courses have the scripts to tell a drift from chance.
    for code in ("ENG", "CMA", "ISC", "SOC"):
        levels = [averages[code][year] for year in sorted(averages[code])]
        assert all(abs(after - before) < 4 for before, after in pairwise(levels)), code
    moved = sorted(each[2026] - each[2022] for each in averages.values())
    assert moved[0] < -2
    assert moved[-1] > 2


def test_the_end_of_the_year_is_harder_than_the_class_test(school: Connection) -> None:
    found = dict(
        rows(
            school,
            "SELECT kind::text, avg(score) FROM results r JOIN exams x ON x.id = r.exam_id"
            " GROUP BY 1",
        )
    )
    assert found["class_test"] > found["mid_year"] > found["end_of_year"]


def test_who_fails_most_of_a_year_repeats_it_or_leaves_more_often(school: Connection) -> None:
    passed, failed = rows(
        school,
        YEARS + "SELECT failed, count(*), avg((NOT comes_back)::int), avg(repeats::int)"
        " FROM progress WHERE year < 2026 AND nth = 1 GROUP BY 1 ORDER BY 1",
    )
    assert 0.05 < failed[1] / (passed[1] + failed[1]) < 0.3
    *_, leaves, repeats = failed
    assert leaves > 0.2
    assert repeats > 0.4
    *_, leaves, repeats = passed
    assert leaves < 0.06
    assert repeats < 0.05


def test_the_form_is_the_years_less_those_repeated_and_three_are_the_last(
    school: Connection,
) -> None:
    wrong = rows(
        school,
        YEARS + "SELECT s.id, form, count(*), count(*) FILTER (WHERE repeats) FROM progress p"
        " JOIN students s ON s.id = p.student_id GROUP BY 1, 2"
        " HAVING form <> count(*) - count(*) FILTER (WHERE repeats)",
    )
    # Two years may have the same courses by chance, and a year may have no script marked yet.
    assert len(wrong) < 10
    forms = dict(rows(school, "SELECT form, count(*) FROM students GROUP BY 1"))
    assert sorted(forms) == [1, 2, 3]
