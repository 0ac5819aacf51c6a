"""Staff come and go with the terms, are paid by grade and month, and are away in the holidays."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

DATABASE, SCALE = "hr", 1.0


def rows(connection: Connection, query: str) -> list[Any]:
    return connection.execute(query.encode()).fetchall()


def test_six_grades_rise_and_every_salary_fits_its_grade(school: Connection) -> None:
    grades = rows(school, "SELECT code, name, lowest_salary FROM grades ORDER BY id")
    assert [grade[:2] for grade in grades] == [
        ("G1", "Support"), ("G2", "Assistant"), ("G3", "Officer"), ("G4", "Senior officer"),
        ("G5", "Principal officer"), ("G6", "Director"),
    ]  # fmt: skip
    lowest = [grade[2] for grade in grades]
    assert lowest == sorted(set(lowest))
    for grade, least, salary in rows(
        school,
        "SELECT g.id, lowest_salary, monthly_salary FROM employees e JOIN grades g ON g.id"
        " = e.grade_id",
    ):
        assert least <= salary < (*lowest, 19_000)[grade]
    assert rows(school, "SELECT count(DISTINCT grade_id) FROM employees") == [(6,)]


def test_teachers_rise_with_the_years(school: Connection) -> None:
    (young, old) = rows(
        school,
        "SELECT hired_on < '2018-01-01', avg(grade_id) FROM employees WHERE post = 'teacher'"
        " GROUP BY 1 ORDER BY 1",
    )
    assert old[1] > young[1] + 1


def test_people_come_and_go_mostly_in_september_and_january(school: Connection) -> None:
    for column in ("hired_on", "left_on"):
        turns, others = rows(
            school,
            f"SELECT count(*) FILTER (WHERE extract(month FROM {column}) IN (1, 9)),"
            f" count(*) FROM employees WHERE {column} < '9999-12-31'",
        )[0]
        assert turns > 0.6 * others
    left = "SELECT DISTINCT extract(year FROM left_on)::int FROM employees WHERE left_on < now()"
    assert {2024, 2025, 2026} == {year for (year,) in rows(school, left)}
    early, late = rows(
        school,
        "SELECT count(*) FILTER (WHERE hired_on < '2014-01-01'),"
        " count(*) FILTER (WHERE hired_on >= '2021-01-01') FROM employees",
    )[0]
    assert late > 1.5 * early


def test_there_is_a_slip_for_every_month_in_which_one_was_employed_and_for_no_other(
    school: Connection,
) -> None:
    expected = (
        "SELECT e.id, m::date FROM employees e,"
        " generate_series('2023-12-01'::timestamp, '2026-11-01', '1 month') AS m"
        " WHERE date_trunc('month', hired_on) <= m AND coalesce(left_on, '9999-12-31') >= m"
    )
    slips = "SELECT employee_id, month FROM payroll"
    assert rows(school, f"({expected}) EXCEPT {slips}") == []
    assert rows(school, f"{slips} EXCEPT ({expected})") == []
    assert rows(school, "SELECT count(DISTINCT month) FROM payroll") == [(36,)]


def test_december_pays_a_thirteenth_month_and_january_a_raise(school: Connection) -> None:
    paid = dict(
        rows(school, "SELECT to_char(month, 'YYYY-MM'), avg(gross) FROM payroll GROUP BY 1")
    )
    for year in (2024, 2025):
        assert 1.8 < paid[f"{year}-12"] / paid[f"{year}-11"] < 2.1
    raises = rows(
        school,
        "SELECT b.month, percentile_cont(0.5) WITHIN GROUP (ORDER BY b.gross / a.gross)"
        " FROM payroll a JOIN payroll b ON b.employee_id = a.employee_id"
        " AND b.month = a.month + interval '2 months' WHERE extract(month FROM a.month) = 11"
        " GROUP BY 1",
    )
    assert len(raises) == 2
    assert all(1.05 < median < 1.13 for _, median in raises)


def test_the_last_slip_follows_the_salary(school: Connection) -> None:
    beside = (
        "SELECT min(gross / monthly_salary), max(gross / monthly_salary) FROM payroll p"
        " JOIN employees e ON e.id = p.employee_id WHERE month = '2026-11-01'"
    )
    least, most = rows(school, beside)[0]
    assert 0.999 < least <= most < 1.05


def test_leave_is_taken_in_the_holidays_and_by_whoever_is_employed(school: Connection) -> None:
    by_month = dict(
        rows(school, "SELECT extract(month FROM starts_on)::int, count(*) FROM leave GROUP BY 1")
    )
    assert min(by_month[4], by_month[8], by_month[12]) > 2 * max(by_month[2], by_month[10])
    away = (
        "SELECT count(*) FROM leave l JOIN employees e ON e.id = l.employee_id"
        " WHERE starts_on < hired_on OR starts_on > left_on"
    )
    assert rows(school, away) == [(0,)]


def test_everybody_has_an_entitlement_for_each_year_here_and_higher_grades_a_larger_one(
    school: Connection,
) -> None:
    expected = (
        "SELECT id, y FROM employees, generate_series(2024, 2026) AS y"
        " WHERE y BETWEEN extract(year FROM hired_on)"
        " AND extract(year FROM coalesce(left_on, '9999-12-31'))"
    )
    entitled = "SELECT employee_id, year FROM leave_entitlements"
    assert rows(school, f"({expected}) EXCEPT {entitled}") == []
    assert rows(school, f"{entitled} EXCEPT ({expected})") == []
    by_grade = rows(
        school,
        "SELECT grade_id, avg(days) FILTER (WHERE year > extract(year FROM hired_on)),"
        " avg(days) FILTER (WHERE year = extract(year FROM hired_on)) FROM leave_entitlements l"
        " JOIN employees e ON e.id = l.employee_id GROUP BY 1 ORDER BY 1",
    )
    assert all(lower[1] < higher[1] for lower, higher in pairwise(by_grade))
    assert all(first < whole for _, whole, first in by_grade if first is not None)
