"""Incremental and append loads converge on the source, and say what they cannot see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from frame.failure import Failure
from ingest import keys, loads, planning, run
from ingest.cursor import Interval
from ingest.errors import RunFailedError
from ingest.job import Scope
from tests.ingest.staff import STAFF, load, rule
from tests.ingest.tables import column, landings, pipeline, table
from tests.ingest.tables import rule as of_table
from tests.ingest.world import publish, stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.plan import TablePlan
    from ingest.run import Loaded
    from tests.conftest import PostgresServer
    from tests.ingest.world import World

NEWEST = "2026-01-05 04:00:00+00"
WRITTEN = "rows that were written since the last load"


def counts(loaded: Loaded) -> tuple[str, int, int, int, int, int]:
    return (loaded.load, loaded.read, loaded.inserted, loaded.updated, loaded.deleted, loaded.rows)


def names(world: World) -> dict[int, str]:
    return dict(world.rows("SELECT id, name FROM raw_hr.staff"))


def test_changes_are_merged_by_key_and_nothing_else_is_read(world: World) -> None:
    world.at_source(*STAFF)
    assert counts(load(world)) == ("full", 100, 100, 0, 0, 100)
    world.at_source(
        "UPDATE staff SET name = 'Ama', updated_at = '2026-02-01' WHERE id = 1",
        "INSERT INTO staff VALUES (101, 'Kofi', '2026-02-01')",
    )
    assert counts(load(world)) == ("incremental", 2, 1, 1, 0, 101)
    world.assert_same("public.staff", "raw_hr.staff")
    again = load(world)
    assert counts(again) == ("incremental", 0, 0, 0, 0, 101)
    assert again.reason == WRITTEN
    assert not world.rows(
        "SELECT FROM pg_class WHERE relnamespace = 'raw_hr_staging'::regnamespace"
    )


def test_rows_that_are_read_again_unchanged_are_not_written_again(world: World) -> None:
    text = rule(key="[id]", lookback="30d").replace("staff", "staff_view")
    world.at_source(*STAFF, "CREATE VIEW staff_view AS SELECT * FROM staff")
    load(world, text)
    written = "SELECT id, xmin::text, ctid::text FROM raw_hr.staff_view ORDER BY 1"
    before = world.rows(written)
    assert load(world, text).read == 100
    assert world.rows(written) == before


def test_a_value_that_only_looks_equal_is_a_change(world: World) -> None:
    world.at_source(
        "CREATE TABLE staff (id int PRIMARY KEY, name numeric, updated_at timestamptz)",
        "INSERT INTO staff VALUES (1, 1.0, '2026-01-01'), (2, 'NaN', '2026-01-01')",
    )
    load(world)
    world.at_source("UPDATE staff SET name = 1.00, updated_at = '2026-01-02' WHERE id = 1")
    assert load(world).updated == 1
    world.assert_same("public.staff", "raw_hr.staff")


def test_rows_that_commit_late_are_found_within_the_lookback(world: World) -> None:
    world.at_source(*STAFF)
    with psycopg.connect(world.source_admin) as late:
        late.execute("INSERT INTO staff VALUES (200, 'late', '2026-01-05 03:00+00')")
        load(world, rule(lookback="2h"))
    assert 200 not in names(world)
    assert counts(load(world, rule(lookback="2h")))[1:3] == (1, 1)
    world.assert_same("public.staff", "raw_hr.staff")


def test_rows_at_the_boundary_and_without_a_cursor_value_are_found(world: World) -> None:
    world.at_source(*STAFF, "INSERT INTO staff VALUES (0, 'no time', NULL)")
    load(world)
    world.at_source(
        f"INSERT INTO staff VALUES (101, 'same moment', '{NEWEST}'), (102, 'no time', NULL)",
        "UPDATE staff SET name = 'changed' WHERE id = 0",
    )
    assert counts(load(world))[2:] == (2, 1, 0, 103)
    world.assert_same("public.staff", "raw_hr.staff")


@pytest.mark.parametrize(("far", "kind"), [("2999-01-01", "timestamptz"), ("infinity", "date")])
def test_a_row_from_the_future_does_not_hide_what_comes_before_it(
    world: World, far: str, kind: str
) -> None:
    world.at_source(
        *STAFF,
        f"ALTER TABLE staff ALTER updated_at TYPE {kind}",
        f"INSERT INTO staff VALUES (999, 'far', '{far}')",
    )
    load(world, rule(lookback=""))
    world.at_source("UPDATE staff SET name = 'seen', updated_at = '2026-03-01' WHERE id = 5")
    load(world, rule(lookback=""))
    assert names(world)[5] == "seen"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("smallint", ("-32768", "5", "6")),
        ("bigint", ("-9223372036854775808", "5", "6")),
        ("numeric", ("-1.5", "2.25", "NaN")),
        ("date", ("2026-01-01", "2026-01-02", "2026-01-03")),
        ("timestamp(3)", ("2026-01-01", "2026-01-02 00:00:00.001", "2026-01-03")),
    ],
)
def test_a_cursor_may_be_a_number_a_date_or_a_time(
    world: World, kind: str, values: tuple[str, str, str]
) -> None:
    first, second, third = values
    world.at_source(
        f"CREATE TABLE staff (id int PRIMARY KEY, name text, updated_at {kind})",
        f"INSERT INTO staff VALUES (1, 'a', '{first}'), (2, 'b', '{second}')",
        "CREATE VIEW staff_view AS SELECT * FROM staff",
    )
    texts = [
        rule(key="[id]", lookback=each).replace("staff", "staff_view")
        for each in ("", "3d" if kind[0] in "dt" else "70000")
    ]
    load(world, texts[0])
    world.at_source(f"INSERT INTO staff VALUES (3, 'c', '{third}')")
    assert load(world, texts[0]).load == "incremental"
    world.assert_same("public.staff_view", "raw_hr.staff_view")
    assert load(world, texts[1]).read == (2 if kind == "bigint" else 3)


def test_deletes_are_ignored_removed_or_marked_as_the_file_says(world: World) -> None:
    for mode, kept in (("ignore", 100), ("detect", 98), ("mark", 100)):
        world.at_source("DROP TABLE IF EXISTS staff", *STAFF)
        world.run(rule(deletes=mode), full_refresh=True)
        world.at_source("DELETE FROM staff WHERE id IN (7, 8)")
        load(world, rule(deletes=mode))
        assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(kept,)], mode
        assert (7 in names(world)) == (mode != "detect")
    assert world.rows("SELECT id FROM raw_hr.staff WHERE _deleted_at IS NOT NULL ORDER BY 1") == [
        (7,), (8,)
    ]  # fmt: skip
    since = world.rows("SELECT _deleted_at FROM raw_hr.staff WHERE id = 7")
    world.at_source("INSERT INTO staff VALUES (8, 'back', '2026-03-01')")
    load(world, rule(deletes="mark"))
    assert world.rows("SELECT id FROM raw_hr.staff WHERE _deleted_at IS NOT NULL") == [(7,)]
    # A full load keeps the mark, and marks what went since.
    world.at_source("DELETE FROM staff WHERE id = 9")
    world.run(rule(deletes="mark"), full_refresh=True)
    found = dict(world.rows("SELECT id, _deleted_at FROM raw_hr.staff WHERE id IN (7, 8, 9)"))
    assert (found[7],) == since[0]
    assert (found[8], found[9] is None) == (None, False)


def test_a_table_emptied_at_the_source_is_emptied(world: World) -> None:
    world.at_source(*STAFF)
    load(world, rule(deletes="detect"))
    world.at_source("TRUNCATE staff")
    assert counts(load(world, rule(deletes="detect"))) == ("full", 0, 0, 0, 100, 0)


def test_finding_deletes_is_no_work_of_every_key_with_every_other(world: World) -> None:
    rows = 40_000
    text = rule(deletes="detect")
    world.at_source(*STAFF, f"INSERT INTO staff SELECT n FROM generate_series(101, {rows}) n")
    load(world, text)
    world.at_source("DELETE FROM staff WHERE id = 7")
    job = world.job(text)
    with job.warehouse() as target:
        ([staged], _) = stage(job, target)
        assert staged.keys
        query = sql.SQL("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {}").format(
            keys.missed_key(staged.plan)
        )
        (([explained],),) = target.execute(query).fetchall()
        assert publish(job, target, [staged])[0].deleted == 1
    assert rows <= handled(explained["Plan"]) <= 10 * rows


def handled(node: dict[str, Any]) -> int:
    """Return the rows that all nodes of a plan, as EXPLAIN gives it, returned or threw away."""
    each = sum(
        count for name, count in node.items() if name.startswith(("Actual Rows", "Rows Removed"))
    )
    return int(each * node["Actual Loops"]) + sum(map(handled, node.get("Plans", [])))


def test_rows_that_the_cursor_does_not_show_are_found_by_who_wrote_them(world: World) -> None:
    text = rule(deletes="detect", lookback="2h")
    world.at_source(*STAFF)
    load(world, text)
    world.at_source(
        "INSERT INTO staff VALUES (200, 'far too late', '2020-01-01')",
        "UPDATE staff SET name = 'not moved' WHERE id = 2",
    )
    found = load(world, text)
    assert (found.load, found.inserted, found.updated) == ("incremental", 1, 1)
    world.assert_same("public.staff", "raw_hr.staff")


def test_a_late_commit_under_a_number_is_found_by_an_increment_and_by_an_append(
    world: World,
) -> None:
    world.at_source("CREATE TABLE merged (n int PRIMARY KEY)", "CREATE TABLE added (n int UNIQUE)")
    rules = ("name: public.merged\n    load: incremental\n    cursor: n",
             "name: public.added\n    load: append\n    cursor: n\n    key: [n]")  # fmt: skip
    with psycopg.connect(world.source_admin) as late:
        late.execute("INSERT INTO merged VALUES (1); INSERT INTO added VALUES (1)")
        world.at_source("INSERT INTO merged VALUES (2)", "INSERT INTO added VALUES (2)")
        world.run(*rules)
    assert [each.inserted for each in world.run(*rules).loaded] == [1, 1]
    for name in ("merged", "added"):
        world.assert_same(f"public.{name}", f"raw_hr.{name}")


def test_rows_that_a_view_does_not_show_bring_the_whole_of_it_by_itself(world: World) -> None:
    text = rule(deletes="detect", key="[id]", lookback="").replace("staff", "staff_view")
    world.at_source(*STAFF, "CREATE VIEW staff_view AS SELECT * FROM staff")
    load(world, text)
    (plan,) = run.foresee(world.job(text), Scope()).plans
    assert (
        plan.read.unseen[0] == "updates that commit with updated_at more than 1h behind the newest"
    )
    world.at_source("INSERT INTO staff VALUES (200, 'far too late', '2020-01-01')")
    loaded = load(world, text)
    assert (loaded.load, loaded.rows) == ("full", 101)
    assert "rows are missing that updated_at does not show" in loaded.reason


@pytest.mark.parametrize(
    ("change", "whole"),
    [
        ("INSERT INTO items SELECT n FROM generate_series(9, 12) n", False),
        ("INSERT INTO items VALUES (3)", True),
        ("INSERT INTO items VALUES (9e18::bigint)", False),
        ("TRUNCATE items; INSERT INTO items VALUES (1), (2)", True),
    ],
    ids=["goes on", "late", "far ahead", "went back"],
)
def test_a_number_that_a_view_shows_is_held_against_what_there_is(
    world: World, change: LiteralString, whole: bool
) -> None:
    text = "name: public.seen\n    load: incremental\n    cursor: id\n    key: [id]"
    world.at_source(
        "CREATE TABLE items (id bigint PRIMARY KEY)",
        "INSERT INTO items VALUES (5), (6), (7)",
        "CREATE VIEW seen AS SELECT id FROM items",
    )
    load(world, text)
    world.at_source(change)
    assert load(world, text).load == ("full" if whole else "incremental")
    # Behind a number that is far ahead, every row that comes is late.
    world.at_source("INSERT INTO items VALUES (99)")
    load(world, text)
    world.assert_same("public.seen", "raw_hr.seen")


def test_an_append_says_of_rows_that_its_cursor_does_not_show_and_an_interval_brings_them(
    world: World,
) -> None:
    text = rule(load="append", lookback="1h").replace("staff", "staff_view")
    world.at_source(*STAFF, "CREATE VIEW staff_view AS SELECT * FROM staff")
    load(world, text)
    world.at_source("INSERT INTO staff VALUES (200, 'far too late', '2020-01-01')")
    with pytest.raises(RunFailedError, match="found rows behind it that are not there, 1 at least"):
        load(world, text)
    assert load(world, text, interval=Interval("2020-01-01", "2020-02-01")).inserted == 1
    assert load(world, text).rows == 101


def test_a_time_stamp_13_hours_ahead_hides_no_row_that_comes_behind_it(world: World) -> None:
    """Without a zone it may be somebody's present, so it is believed: 14 hours are the most."""
    world.at_source(
        "CREATE TABLE log (id int, at timestamp)",
        "INSERT INTO log VALUES (1, now() AT TIME ZONE 'UTC' + interval '13 hours')",
        *(f"CREATE VIEW seen_{n} AS SELECT * FROM log" for n in (1, 2)),
        "CREATE TABLE keyed AS SELECT * FROM log",
    )
    merged = "\n    load: incremental\n    cursor: at\n    key: [id]"
    rules = (
        f"name: public.seen_1{merged}", f"name: public.seen_2{merged}\n    deletes: detect",
        f"name: public.keyed{merged}", "name: public.log\n    load: append\n    cursor: at",
    )  # fmt: skip
    world.run(*rules)
    late = "(2, now() AT TIME ZONE 'UTC')"
    world.at_source(*(f"INSERT INTO {table} VALUES {late}" for table in ("log", "keyed")))
    with pytest.raises(RunFailedError, match=r"raw_hr\.log: .* that are not there, 1 at least"):
        world.run(*rules)
    for seen in ("seen_1", "seen_2", "keyed"):
        assert world.rows(f"SELECT id FROM raw_hr.{seen} ORDER BY 1") == [(1,), (2,)]
    world.run(rules[-1], interval=Interval("2020-01-01", "2100-01-01"))
    assert world.rows("SELECT id FROM raw_hr.log ORDER BY 1") == [(1,), (2,)]


def test_append_adds_and_never_changes_or_removes(world: World) -> None:
    world.at_source(*STAFF)
    text = rule(load="append", lookback="2h")
    load(world, text)
    world.at_source(
        "UPDATE staff SET name = 'changed' WHERE id = 100",
        "DELETE FROM staff WHERE id < 50",
        "INSERT INTO staff VALUES (101, 'new', '2026-02-01')",
    )
    assert counts(load(world, text)) == ("append", 2, 1, 0, 0, 101)
    found = names(world)
    assert (found[100], found[1], found[101]) == ("Name 100", "Name 1", "new")


def test_append_without_a_key_keeps_as_many_copies_of_a_row_as_the_source(world: World) -> None:
    world.at_source(
        "CREATE TABLE staff (name json, updated_at timestamp)",
        """INSERT INTO staff VALUES ('{"a": 1}', '2026-01-01'), ('{"a": 1}', '2026-01-01')""",
        """INSERT INTO staff VALUES ('{"b": 1}', NULL)""",
    )
    text = rule(load="append", lookback="1d")
    load(world, text)
    world.at_source(
        """INSERT INTO staff VALUES ('{"a": 1}', '2026-01-01'), ('{"c": 1}', '2026-01-02')""",
        """INSERT INTO staff VALUES ('{"b": 1}', NULL)""",
    )
    assert counts(load(world, text)) == ("append", 6, 3, 0, 0, 6)
    assert counts(load(world, text))[2] == 0
    world.assert_same("public.staff", "raw_hr.staff")


def test_an_interval_is_read_again_and_does_not_move_the_cursor_back(world: World) -> None:
    world.at_source(*STAFF, "CREATE TABLE other (id int)", "INSERT INTO other VALUES (1)")
    world.run(rule(), "public.other")
    world.at_source("UPDATE staff SET name = 'seen' WHERE id IN (10, 20)", "DELETE FROM other")
    report = world.run(
        rule(), "public.other", interval=Interval("2026-01-01 09:00Z", "2026-01-01 20:00Z")
    )
    assert [(each.table, each.read, each.updated) for each in report.loaded] == [
        ("raw_hr.staff", 11, 1)
    ]
    assert (names(world)[10], names(world)[20]) == ("seen", "Name 20")
    assert load(world, rule()).reason == WRITTEN


@pytest.mark.parametrize("way", ["incremental", "append"])
def test_an_interval_ahead_of_the_cursor_leaves_what_is_between_to_the_next_run(
    world: World, way: str
) -> None:
    text = rule(load=way, deletes="ignore")
    world.at_source(*STAFF)
    load(world, text)
    world.at_source(
        "INSERT INTO staff VALUES (101, 'between', '2026-03-03'), (102, 'ahead', '2026-03-05')"
    )
    ahead = load(world, text, interval=Interval("2026-03-05", "2026-03-06"))
    assert (ahead.read, ahead.inserted) == (1, 1)
    then = load(world, text)
    assert (then.reason, then.inserted) == (WRITTEN, 1)
    world.assert_same("public.staff", "raw_hr.staff")


def test_an_append_without_a_value_yet_reads_all_after_an_interval(world: World) -> None:
    text = rule(load="append")
    world.at_source(STAFF[0])
    load(world, text)
    world.at_source(STAFF[1])
    load(world, text, interval=Interval("2026-01-03", "2026-01-04"))
    assert load(world, text).reason == WRITTEN
    world.assert_same("public.staff", "raw_hr.staff")


@pytest.mark.parametrize("deletes", ["detect", "mark"])
def test_an_interval_is_no_full_load_because_of_rows_that_came_since(
    world: World, deletes: str
) -> None:
    text = rule(deletes=deletes)
    world.at_source(*STAFF)
    load(world, text)
    world.at_source(
        "UPDATE staff SET name = 'seen' WHERE id = 10",
        "DELETE FROM staff WHERE id = 11",
        "INSERT INTO staff VALUES (101, 'new', '2026-03-01')",
    )
    again = load(world, text, interval=Interval("2026-01-01 09:00Z", "2026-01-01 20:00Z"))
    assert counts(again) == ("incremental", 10, 0, 1, 0, 100)
    assert names(world)[10] == "seen"
    # The next run finds what came and what went.
    assert counts(load(world, text))[:3] == ("incremental", 2, 1)
    gone = " WHERE _deleted_at IS NULL" if deletes == "mark" else ""
    assert world.rows(f"SELECT count(*) FROM raw_hr.staff{gone}") == [(100,)]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("(2, 'twice', '2026-02-01'), (2, 'again', '2026-02-01')", r"more than once: \(2\)"),
        ("(NULL, 'none', '2026-02-01')", r"whose key is NULL: \(\)"),
    ],
)
def test_a_key_that_tells_no_rows_apart_is_named_by_an_increment_too(
    world: World, row: str, found: str
) -> None:
    world.at_source(*STAFF, "ALTER TABLE staff DROP CONSTRAINT staff_pkey",
                    "ALTER TABLE staff ALTER id DROP NOT NULL")  # fmt: skip
    load(world, rule(key="[id]"))
    world.at_source(f"INSERT INTO staff VALUES {row}")
    with pytest.raises(Failure, match=rf"expected the key \(id\) .*{found}"):
        load(world, rule(key="[id]"))
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(100,)]


def test_an_interval_needs_a_table_with_such_a_cursor(world: World) -> None:
    world.at_source(*STAFF)
    with pytest.raises(Failure, match="expected a table whose cursor has such values"):
        world.run("public.staff", interval=Interval("2026-01-01", "2026-02-01"))
    with pytest.raises(Failure, match="expected a table whose cursor has such values"):
        world.run(rule(), interval=Interval("1", "5"))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"cursor": "name"}, "cursor name: expected a number, a date or a time stamp, found text"),
        ({"cursor": "nope"}, "cursor: expected one of its columns, found nope"),
        ({"key": "[nope]"}, "key: expected its columns, found nope"),
        ({"lookback": "5"}, "lookback: expected a duration such as 2h for updated_at"),
        ({"columns": "{exclude: [nope]}"}, "columns.exclude: expected its columns id, name,"),
        ({"checks": "{nulls: {nope: 1%}}"}, "checks.nulls: expected its columns id, name,"),
        ({"columns": "{exclude: [id]}"}, "expected a key for load: incremental"),
    ],
)
def test_what_does_not_fit_the_table_is_named(
    world: World, keys: dict[str, str], expected: str
) -> None:
    world.at_source(*STAFF)
    with pytest.raises(RunFailedError) as failure:
        load(world, rule(**keys))
    assert f"table public.staff: {expected}" in failure.value.message or expected in str(
        failure.value
    )
    assert world.rows("SELECT step FROM ops.runs") == [("plan",)]


def test_a_key_that_does_not_tell_rows_apart_is_shown_with_its_values(world: World) -> None:
    world.at_source(
        "CREATE TABLE staff (id int, part text, name text, updated_at date)",
        "INSERT INTO staff VALUES (1, 'a'), (1, 'a'), (2, 'b')",
    )
    text = rule(load="", cursor="", lookback="", key="[id, part]")
    with pytest.raises(RunFailedError, match=r"key \(id, part\) .* more than once: \(1,a\)"):
        load(world, text)
    world.at_source("UPDATE staff SET id = NULL WHERE id = 1")
    with pytest.raises(RunFailedError, match=r"rows whose key is NULL: \(,a\), \(,a\)"):
        load(world, text)
    world.at_source("DELETE FROM staff WHERE id IS NULL")
    load(world, text)
    assert world.rows("SELECT count(*) FROM ops.state") == [(1,)]


# A table that stays gets a full copy's rows, whatever it had.

VALUES = st.sampled_from([None, "", "a", "A", "b"])
KEYED = st.dictionaries(st.integers(1, 6), VALUES).map(lambda rows: [*rows.items()])
BAG = st.lists(st.tuples(st.integers(1, 3), VALUES), max_size=8)
ROWS = "SELECT id, name FROM {} ORDER BY id, name"


def planned(key: tuple[str, ...] = ("id",)) -> TablePlan:
    shape = table(column("id"), column("name", "text"), key=key)
    return planning.build(pipeline(), of_table(), shape, landings(), state=None)


@pytest.fixture(scope="module")
def connection(postgres: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.create_database(), autocommit=True) as opened:
        opened.execute("CREATE SCHEMA raw_hr; CREATE SCHEMA raw_hr_staging")
        yield opened


@pytest.mark.parametrize("keyed", [True, False])
def test_filling_makes_the_rows_those_of_staging(
    connection: psycopg.Connection[Any], keyed: bool
) -> None:
    rows = KEYED if keyed else BAG
    plan = planned(("id",) if keyed else ())

    for schema in ("raw_hr", "raw_hr_staging"):
        constraint = ", PRIMARY KEY (id)" if keyed else ""
        connection.execute(f"DROP TABLE IF EXISTS {schema}.staff")
        connection.execute(f"CREATE TABLE {schema}.staff (id int, name text{constraint})")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(old=rows, new=rows)
    def fills(old: list[tuple[int, str | None]], new: list[tuple[int, str | None]]) -> None:
        for schema, values in (("raw_hr", old), ("raw_hr_staging", new)):
            connection.execute(f"DELETE FROM {schema}.staff")
            with connection.cursor() as cursor:
                cursor.executemany(f"INSERT INTO {schema}.staff VALUES (%s, %s)", values)
        before = connection.execute("SELECT ctid, id, name FROM raw_hr.staff").fetchall()
        loads.fill(connection, plan)
        assert (
            connection.execute(ROWS.format("raw_hr.staff")).fetchall()
            == connection.execute(ROWS.format("raw_hr_staging.staff")).fetchall()
        )
        if keyed:
            left = {*connection.execute("SELECT ctid, id, name FROM raw_hr.staff").fetchall()}
            same = [row for row in before if (row[1], row[2]) in new]
            assert {*same} <= left, "what is the same is not written again"

    fills()


def test_two_rows_that_swap_a_unique_value_break_no_constraint(
    connection: psycopg.Connection[Any],
) -> None:
    for schema, names in (("raw_hr", "ab"), ("raw_hr_staging", "ba")):
        connection.execute(f"DROP TABLE IF EXISTS {schema}.staff")
        connection.execute(f"CREATE TABLE {schema}.staff (id int PRIMARY KEY, name text UNIQUE)")
        for place, name in enumerate(names):
            connection.execute(f"INSERT INTO {schema}.staff VALUES (%s, %s)", [place, name])
    loads.fill(connection, planned())
    assert connection.execute(ROWS.format("raw_hr.staff")).fetchall() == [(0, "b"), (1, "a")]
