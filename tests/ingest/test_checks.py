"""A table that breaks its checks is not published, and it is said why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest import run
from ingest.errors import CheckFailedError
from tests.ingest.world import stage

if TYPE_CHECKING:
    from tests.ingest.world import World

STAFF = (
    "CREATE TABLE staff (id int PRIMARY KEY, email text, status text, hired date,"
    " updated_at timestamptz)",
    "INSERT INTO staff SELECT n, CASE WHEN n > 5 THEN 'e' || n END,"
    " CASE WHEN n % 2 = 0 THEN 'active' ELSE 'left' END, '2020-01-01', now()"
    " FROM generate_series(1, 100) n",
)
LOADS = ("", "\n    load: incremental\n    cursor: updated_at")


def rule(checks: str, load: str = "") -> str:
    return f"name: public.staff{load}\n    checks: {checks}"


def outcomes(world: World) -> dict[str, tuple[bool, str, str, list[str]]]:
    return {
        name: tuple(rest)  # type: ignore[misc]
        for name, *rest in world.rows(
            'SELECT "check", passed, expected, found, samples FROM ops.checks'
            " WHERE run_id = (SELECT run_id FROM ops.runs ORDER BY started_at DESC LIMIT 1)"
        )
    }


ALL = (
    "{rows: {min: 1, max: 1000, max_drop: 20%}, nulls: {email: 5%},"
    " unique: [[email], [id, status]],"
    " accepted: {status: [active, left]}, freshness: {column: updated_at, max_age: 48h},"
    ' sql: {hired_late: "select count(*) = 0 from {table} t where t.hired > current_date"}}'
)


@pytest.mark.parametrize("load", LOADS)
def test_what_passes_is_published_and_written_down(world: World, load: str) -> None:
    world.at_source(*STAFF)
    world.run(rule(ALL, load))
    world.at_source("INSERT INTO staff VALUES (101, 'x', NULL, NULL, now())")
    world.run(rule(ALL, load))
    found = outcomes(world)
    assert all(passed for passed, *_ in found.values()), found
    assert set(found) == {
        "reconcile", "rows.min", "rows.max", "rows.max_drop", "nulls.email", "unique.email",
        "unique.id+status", "accepted.status", "freshness.updated_at", "sql.hired_late",
    }  # fmt: skip
    assert found["reconcile"][1] == ("the 1 rows read" if load else "the source's 101 rows")
    assert found["nulls.email"][2] == "4.95% (5 of 101 rows)"
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(101,)]


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize(
    ("change", "checks", "expected", "samples"),
    [
        (
            "DELETE FROM staff WHERE id > 70",
            "{rows: {max_drop: 20%}}",
            "rows.max_drop: expected at most 0.2 less than 100 rows, the median of late, found 70",
            [],
        ),
        (
            "INSERT INTO staff SELECT n FROM generate_series(101, 103) n",
            "{rows: {max: 102}}",
            "rows.max: expected at most 102 rows, found 103",
            [],
        ),
        (
            "UPDATE staff SET email = NULL, updated_at = now() WHERE id = 77",
            "{nulls: {email: 5%}}",
            "nulls.email: expected at most 5.00% NULL, found 6.00% (6 of 100 rows) (for example",
            ["(1)", "(2)", "(3)", "(4)", "(5)"],
        ),
        (
            "UPDATE staff SET email = 'e50', updated_at = now() WHERE id = 77",
            "{unique: [[email]]}",
            "unique.email: expected every value once, found 1 values more than once (for example",
            ["(50)", "(77)"],
        ),
        (
            "UPDATE staff SET status = 'o''ff', updated_at = now() WHERE id = 77",
            "{accepted: {status: [active, left]}}",
            "accepted.status: expected one of ['active', 'left'], found 1 rows with others (for"
            " example (77))",
            ["(77)"],
        ),
        (
            "UPDATE staff SET hired = 'infinity', updated_at = now() WHERE id = 77",
            "{freshness: {column: hired, max_age: 1d}}",
            "freshness.hired: expected a value of the last 1 day, 0:00:00, found 2020-01-01",
            [],
        ),
        (
            "UPDATE staff SET hired = '2999-01-01', updated_at = now() WHERE id = 77",
            '{sql: {no_future: "select count(*) = 0 from {table} where hired > current_date"}}',
            "sql.no_future: expected true, found false",
            [],
        ),
        (
            "UPDATE staff SET id = 1000, updated_at = now() WHERE id = 77",
            '{sql: {a: "select 1/0 = 1 from {table} limit 1", b: "select id from {table}"}}',
            "sql.b: expected true, found not one row of one true or false",
            [],
        ),
    ],
)
def test_what_fails_is_named_with_expected_found_and_keys_and_stays_in_staging(
    world: World, load: str, change: str, checks: str, expected: str, samples: list[str]
) -> None:
    deletes = "\n    deletes: detect" if load else ""
    world.at_source(*STAFF)
    world.run(f"name: public.staff{load}")
    before = world.rows("SELECT * FROM raw_hr.staff ORDER BY id")
    world.at_source(change)
    with pytest.raises(CheckFailedError) as failure:
        world.run(rule(checks, load + deletes))
    assert f"table raw_hr.staff: {expected}" in failure.value.message
    assert "look at raw_hr_staging.staff and ops.checks" in failure.value.hint
    assert world.rows("SELECT * FROM raw_hr.staff ORDER BY id") == before
    assert world.rows("SELECT count(*) > 0 FROM raw_hr_staging.staff") == [
        (True,)
    ] or "id > 70" in (change)
    name = expected.partition(":")[0]
    passed, _, _, keys = outcomes(world)[name]
    assert (passed, sorted(keys)) == (False, samples)
    assert world.rows("SELECT status, step FROM ops.tables ORDER BY started_at DESC LIMIT 1") == [
        ("failed", "audit")
    ]
    # The next good run takes over what was left in staging.
    world.run(f"name: public.staff{load}{deletes}")
    world.assert_same("public.staff", "raw_hr.staff")


def test_every_failed_check_is_told_at_once_and_other_tables_are_published(world: World) -> None:
    world.at_source(*STAFF, "CREATE TABLE other (id int)")
    with pytest.raises(CheckFailedError) as failure:
        world.run(rule("{rows: {min: 101, max: 99}}"), "public.other")
    assert failure.value.message.count("table raw_hr.staff: rows.m") == 2
    assert world.rows("SELECT to_regclass('raw_hr.other')") == [("raw_hr.other",)]
    assert world.rows("SELECT to_regclass('raw_hr.staff')") == [(None,)]


def test_a_patterns_checks_hold_wherever_there_is_such_a_column(world: World) -> None:
    world.at_source(*STAFF, "CREATE TABLE other (id int, status int)",
                    "INSERT INTO other VALUES (1, 1)")  # fmt: skip
    text = (
        "name: public.*\n    checks: {accepted: {status: [active, left, 1]}, nulls: {email: 50%}}"
    )
    world.run(text)
    assert world.rows('SELECT "table", "check" FROM ops.checks ORDER BY 1, 2') == [
        ("raw_hr.other", "accepted.status"),
        ("raw_hr.other", "reconcile"),
        ("raw_hr.staff", "accepted.status"),
        ("raw_hr.staff", "nulls.email"),
        ("raw_hr.staff", "reconcile"),
    ]


def test_rows_that_are_marked_as_deleted_count_neither_before_nor_now(world: World) -> None:
    world.at_source(*STAFF)
    head = "name: public.staff\n    deletes: mark\n    checks: {rows: {max_drop: 25%}}"
    world.run(head)
    for _ in range(3):
        world.at_source("DELETE FROM staff WHERE id > (SELECT max(id) * 0.9 FROM staff)")
        world.run(head)
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(100,)]
    ((rows,),) = world.rows("SELECT rows FROM ops.state")
    assert rows == world.rows("SELECT count(*) FROM raw_hr.staff WHERE _deleted_at IS NULL")[0][0]


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize(
    ("kind", "checks", "expected"),
    [
        (
            "text",
            "{freshness: {column: note, max_age: 1d}}",
            "freshness.note: expected a date or a time stamp, found note of type text",
        ),
        (
            "time",
            "{freshness: {column: note, max_age: 1d}}",
            "freshness.note: expected a date or a time stamp, found note of type time without",
        ),
        (
            "json",
            "{unique: [[id, note]]}",
            "unique.id+note: expected types whose values compare, found id of type integer, note of"
            " type json",
        ),
    ],
)
def test_a_check_that_does_not_suit_its_column_says_so_and_the_others_are_made(
    world: World, load: str, kind: str, checks: str, expected: str
) -> None:
    world.at_source(*STAFF, f"ALTER TABLE staff ADD note {kind}")
    with pytest.raises(CheckFailedError) as failure:
        world.run(rule(f"{checks[:-1]}, rows: {{min: 1000}}, nulls: {{email: 1%}}}}", load))
    assert f"table raw_hr.staff: {expected}" in failure.value.message
    assert "table raw_hr.staff: rows.min:" in failure.value.message
    assert "mend the source or the check" in failure.value.hint


APPEND = "\n    load: append\n    cursor: updated_at\n    lookback: 30d"


@pytest.mark.parametrize("checks", ["{}", "{rows: {min: 1}}"])
@pytest.mark.parametrize(
    ("load", "expected"),
    [
        ("", "the source's 102 rows, found 101"),
        (LOADS[1], "the 3 rows read, found 2"),
        (APPEND, "the 3 rows read, less 1 published before, found 1"),
    ],
)
def test_rows_that_were_read_and_are_not_in_staging_are_missed(
    world: World, load: str, expected: str, checks: str
) -> None:
    world.at_source(*STAFF)
    world.run(rule(checks, load))
    world.at_source("UPDATE staff SET status = status WHERE id = 1",
                    "INSERT INTO staff SELECT n, 'e', 'left', NULL, now() FROM"
                    " generate_series(101, 102) n")  # fmt: skip
    job = world.job(rule(checks, load))
    with job.warehouse() as target:
        (staged,), _ = stage(job, target)
        with psycopg.connect(world.warehouse_admin) as connection:
            connection.execute("DELETE FROM raw_hr_staging.staff WHERE id = 102")
        with pytest.raises(CheckFailedError, match=f"reconcile: expected {expected}\n"):
            run.audit(job, target, staged)
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(100,)]
