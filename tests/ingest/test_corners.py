"""Cases that once went wrong: equal is not the same, names collide, and marks must last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest import connections, contract, run, starter
from ingest.errors import RunFailedError
from ingest.job import Scope

if TYPE_CHECKING:
    from tests.ingest.world import World

BY_N = "name: public.t\n    load: incremental\n    cursor: n"
MARK = "name: public.t\n    deletes: mark"


@pytest.mark.parametrize(
    ("kind", "old", "new"), [("citext", "ama", "Ama"), ("numeric", "1", "1.00")]
)
def test_a_key_that_is_spelt_anew_is_the_same_row_and_gets_the_new_spelling(
    world: World, kind: str, old: str, new: str
) -> None:
    world.at_source(
        "CREATE EXTENSION citext",
        f"CREATE TABLE t (id {kind} PRIMARY KEY, n int)",
        f"INSERT INTO t VALUES ('{old}', 1)",
    )
    for _ in range(2):
        world.run(f"{BY_N}\n    deletes: detect")
    world.at_source(f"UPDATE t SET id = '{new}', n = 2")
    assert world.run(f"{BY_N}\n    deletes: detect").loaded[0].updated == 1
    world.assert_same("public.t", "raw_hr.t")


@pytest.mark.parametrize(
    ("kind", "lookback", "first", "second"),
    [
        ("numeric", "", "12345678901234567890123456789012346.4", "n + 1"),
        ("numeric", "3", "12345678901234567890123456789012346.4", "n - 2"),
        ("timestamp", "1h", "'4714-11-24 00:00:00 BC'", "n + interval '1 hour'"),
        ("date", "5d", "'4713-01-01 BC'", "n + 1"),
    ],
)
def test_a_cursor_may_be_as_long_or_as_early_as_its_type_allows(
    world: World, kind: str, lookback: str, first: str, second: str
) -> None:
    text = BY_N + (f"\n    lookback: {lookback}" if lookback else "")
    world.at_source(f"CREATE TABLE t (id int PRIMARY KEY, n {kind} NOT NULL)",
                    f"INSERT INTO t VALUES (1, {first})")  # fmt: skip
    world.run(text)
    world.at_source(f"INSERT INTO t SELECT 2, {second} FROM t")
    assert world.run(text).loaded[0].load == "incremental"
    world.assert_same("public.t", "raw_hr.t")


@pytest.mark.parametrize("value", ["'infinity'", "'2999-01-01'", "NULL"])
@pytest.mark.parametrize("key", ["PRIMARY KEY", ""])
def test_an_append_goes_on_where_no_cursor_value_is_of_use(
    world: World, value: str, key: str
) -> None:
    text = "name: public.t\n    load: append\n    cursor: at"
    world.at_source(f"CREATE TABLE t (id int {key}, at timestamptz)",
                    f"INSERT INTO t VALUES (1, {value})")  # fmt: skip
    world.run(text)
    world.at_source("INSERT INTO t VALUES (2, '2020-01-01')")
    for inserted in (1, 0):
        (loaded,) = world.run(text).loaded
        assert (loaded.load, loaded.inserted) == ("append", inserted)
    world.assert_same("public.t", "raw_hr.t")


def test_an_append_without_a_key_takes_no_new_column_by_itself(world: World) -> None:
    text = "name: public.t\n    load: append\n    cursor: n\n    on_schema_change: evolve"
    world.at_source("CREATE TABLE t (n int, b text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    world.run(text)
    world.at_source("ALTER TABLE t ADD c int DEFAULT 5")
    with pytest.raises(RunFailedError, match="column c added"):
        world.run(text)
    assert world.rows("SELECT count(*) FROM raw_hr.t") == [(2,)]
    world.run(text, full_refresh=True)
    world.assert_same("public.t", "raw_hr.t")


def test_columns_may_swap_their_names(world: World) -> None:
    world.at_source("CREATE TABLE t (id int PRIMARY KEY, n int, a int, b text)",
                    "INSERT INTO t VALUES (1, 1, 1, 'x')")  # fmt: skip
    world.run(f"{BY_N}\n    on_schema_change: evolve")
    for pair in (("a", "x"), ("b", "a"), ("x", "b")):
        world.at_source(f"ALTER TABLE t RENAME {pair[0]} TO {pair[1]}")
    world.run(f"{BY_N}\n    on_schema_change: evolve")
    world.assert_same("public.t", "raw_hr.t")


def test_evolve_lets_a_column_be_null_that_may_be_so_now(world: World) -> None:
    world.at_source("CREATE TABLE t (id int PRIMARY KEY, n int, a int NOT NULL)",
                    "INSERT INTO t VALUES (1, 1, 1)")  # fmt: skip
    world.run(f"{BY_N}\n    on_schema_change: evolve")
    world.at_source("ALTER TABLE t ALTER a DROP NOT NULL", "INSERT INTO t VALUES (2, 2, NULL)")
    (loaded,) = world.run(f"{BY_N}\n    on_schema_change: evolve").loaded
    assert loaded.load == "incremental"
    world.assert_same("public.t", "raw_hr.t")


def marked(world: World, *changes: str) -> None:
    """Load a table, delete a row, load, and change the table's shape."""
    world.at_source("CREATE TABLE t (id int PRIMARY KEY, b text NOT NULL)",
                    "INSERT INTO t VALUES (1, 'a'), (2, 'b')")  # fmt: skip
    world.run(MARK)
    world.at_source("DELETE FROM t WHERE id = 2")
    world.run(MARK)
    world.at_source(*changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["ALTER TABLE t RENAME id TO no", "ALTER TABLE t RENAME b TO c"], [(1, "a"), (2, "b")]),
        (["ALTER TABLE t ADD c int NOT NULL DEFAULT 1"], [(1, "a", 1), (2, "b", None)]),
        (["ALTER TABLE t ALTER b TYPE varchar(9)"], [(1, "a"), (2, None)]),
        (["ALTER TABLE t ALTER id TYPE bigint"], [(1, "a"), (2, "b")]),
        (["ALTER TABLE t DROP b"], [(1,), (2,)]),
    ],
)
def test_marked_rows_outlive_a_change_of_shape(
    world: World, changes: list[str], expected: list[tuple[object, ...]]
) -> None:
    marked(world, *changes)
    world.run(MARK)
    found = world.rows("SELECT * FROM raw_hr.t ORDER BY 1")
    assert [row[:-1] for row in found] == expected
    assert [row[-1] is None for row in found] == [True, False]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD COLUMN k serial PRIMARY KEY", "key changed"),
        ("ALTER TABLE t ALTER id TYPE numeric", "column id changed from integer to numeric"),
    ],
)
def test_a_key_that_would_lose_marked_rows_is_refused(world: World, change: str, told: str) -> None:
    marked(world, change)
    with pytest.raises(RunFailedError, match=f"its marked rows are known, found .*{told}"):
        world.run(MARK)
    assert world.rows("SELECT count(*) FROM raw_hr.t") == [(2,)]
    world.run(MARK, full_refresh=True)
    assert world.rows("SELECT count(*) FROM raw_hr.t") == [(1,)]


def test_a_source_with_a_column_of_the_marks_name_is_told(world: World) -> None:
    world.at_source("CREATE TABLE t (id int PRIMARY KEY, _deleted_at timestamptz)")
    with pytest.raises(RunFailedError, match="expected no column _deleted_at"):
        world.run(MARK)


def test_names_that_collide_only_in_the_warehouse_all_arrive(world: World) -> None:
    long = "a" * 60
    world.at_source(
        "CREATE SCHEMA other",
        "CREATE TYPE floats AS RANGE (subtype = float8)",
        "CREATE TYPE other.floats AS RANGE (subtype = numeric)",
        "GRANT USAGE ON SCHEMA other TO ingest_reader",
        "CREATE TABLE t (id int, f floats, g other.floats, h floats_multirange)",
        "INSERT INTO t VALUES (1, '[1,2)', '[1,2)', '{[1,2)}')",
        "CREATE TYPE ghost AS ENUM ('a')",
        "CREATE TABLE _ghost (g ghost)",
        "CREATE TABLE keyed (id int CONSTRAINT k PRIMARY KEY)",
        "CREATE TABLE keyed_pkey (id int PRIMARY KEY)",
        *(f"CREATE TABLE {long}{end} (id int PRIMARY KEY)" for end in ("bb", "bbb", "c")),
    )
    for _ in range(3):
        assert len(world.run().loaded) == 7
        world.run(only=(f"{long}c",))
        world.assert_same("public.t", "raw_hr.t")


def test_types_of_one_name_stay_themselves_whoever_comes_and_make_room_for_tables(
    world: World,
) -> None:
    """Also where marked rows, which no load brings again, hold their values."""
    rules = ["name: billing.bills\n    deletes: mark", "name: hr.staff\n    deletes: mark"]
    world.at_source(
        "CREATE SCHEMA billing; CREATE SCHEMA hr",
        "GRANT USAGE ON SCHEMA billing, hr TO ingest_reader",
        "CREATE TYPE billing.status AS ENUM ('open', 'paid')",
        "CREATE TYPE hr.status AS ENUM ('hired', 'open')",
        "CREATE TABLE billing.bills (id int PRIMARY KEY, s billing.status)",
        "CREATE TYPE hr.level AS ENUM ('low', 'high')",
        "CREATE TABLE hr.staff (id int PRIMARY KEY, s hr.status, l hr.level[])",
        "INSERT INTO billing.bills VALUES (1, 'open'), (2, 'paid')",
        "INSERT INTO hr.staff VALUES (1, 'open', '{low}'), (2, 'hired', '{high}')",
        "GRANT SELECT ON billing.bills, hr.staff TO ingest_reader",
    )
    world.run(rules[1], only=("staff",))  # which is not the first by name
    world.run(*rules)
    world.at_source("DELETE FROM billing.bills WHERE id = 2", "DELETE FROM hr.staff WHERE id = 2",
                    "ALTER TYPE hr.status ADD VALUE 'left' BEFORE 'hired'",
                    "CREATE TABLE status (id int)", "CREATE TABLE level (id int)")  # fmt: skip
    for only in (("bills",), ("status",), ()):
        world.run(*rules, "public.status", "public.level", only=only)
    assert world.rows("SELECT l::text FROM raw_hr.staff ORDER BY id") == [("{low}",), ("{high}",)]
    for table, labels in (("bills", ["open", "paid"]), ("staff", ["left", "hired", "open"])):
        values = world.rows(f"SELECT s::text FROM raw_hr.{table} ORDER BY id")
        assert values == [("open",), ({"bills": "paid", "staff": "hired"}[table],)]
        assert world.rows(
            "SELECT array_agg(l.enumlabel::text ORDER BY l.enumsortorder) FROM pg_attribute a"
            " JOIN pg_enum l ON l.enumtypid = a.atttypid"
            f" WHERE a.attrelid = 'raw_hr.{table}'::regclass AND a.attname = 's'"
        ) == [(labels,)]


def test_values_that_binary_copy_or_an_order_of_texts_would_refuse_arrive(world: World) -> None:
    world.at_source(
        'CREATE TYPE w AS RANGE (subtype = text, collation = "und-x-icu")',
        "CREATE TABLE t AS SELECT '[a,B)'::w AS w, ''::tsquery AS q, '{1,NULL}'::int[] AS n",
    )
    world.run()
    world.assert_same("public.t", "raw_hr.t")


def test_a_view_is_read_in_the_time_zone_of_its_users(world: World) -> None:
    world.at_source(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz)",
        "INSERT INTO t VALUES (1, '2026-03-01 20:00+00')",
        "CREATE VIEW days AS SELECT id, at::date AS day, at FROM t",
        "ALTER ROLE ingest_reader SET TimeZone = 'Asia/Tokyo'",
    )
    try:
        world.run("public.days", "public.t")
    finally:
        world.at_source("ALTER ROLE ingest_reader RESET TimeZone")
    assert world.rows("SELECT day::text, at = '2026-03-01 20:00+00' FROM raw_hr.days") == [
        ("2026-03-02", True)
    ]
    assert world.rows("SELECT at = '2026-03-01 20:00+00' FROM raw_hr.t") == [(True,)]


def test_large_objects_are_named_as_not_read(world: World) -> None:
    world.at_source("CREATE TABLE photos (id int PRIMARY KEY, photo oid, born date)")
    (planned,) = run.foresee(world.job("public.photos"), Scope()).plans
    assert planned.changes.describe() == (
        "column photo: large objects that its numbers mean are not read",
    )


def test_a_first_file_names_odd_tables_as_they_are_and_what_it_leaves_out(world: World) -> None:
    odd = 'a\nb: "c" #é'
    quoted = '"' + odd.replace('"', '""') + '"'
    world.at_source(
        f"CREATE TABLE {quoted} (id int PRIMARY KEY)", "CREATE VIEW seen AS SELECT 1 AS n",
        'CREATE TABLE "closed\nowner: x" (id int)',
    )  # fmt: skip
    with psycopg.connect(world.source_admin) as connection:
        connection.execute('REVOKE SELECT ON "closed\nowner: x" FROM ingest_reader')
    address = connections.postgres(world.resolve("hr"))
    text = starter.pipeline_file(address, schemas=["public"], published="raw_hr")
    file = world.folder / "hr.yaml"
    file.write_text(text)
    (rule,) = contract.read(file).tables
    assert rule.table.table == odd
    assert "# public.seen: a view, which is loaded only if it is named" in text
    assert contract.read(file).owner == "data-team"
    assert len(world.run("public.seen", f"name: {json.dumps(rule.name)}").loaded) == 2


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "load: incremental",
        "load: incremental\n    cursor: id",
        "load: append\n    cursor: id",
        "load: full\n    deletes: mark",
    ],
)
def test_a_key_that_a_child_repeats_is_shown_in_every_mode_at_every_run(
    world: World, rule: str
) -> None:
    text = f"name: public.parent\n    {rule}" if rule else "public.parent"
    world.at_source(
        "CREATE TABLE parent (id int PRIMARY KEY, n int)",
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
        "INSERT INTO parent VALUES (1, 1)", "INSERT INTO child VALUES (2, 2)",
    )  # fmt: skip
    world.run(text)
    world.at_source("INSERT INTO child VALUES (1, 3)")
    for _ in range(2):
        with pytest.raises(RunFailedError, match=r"more than once: \(1\)"):
            world.run(text)
    assert world.rows("SELECT id, n FROM raw_hr.parent ORDER BY 1") == [(1, 1), (2, 2)]
    world.run("name: public.parent\n    key: []")
    world.assert_same("public.parent", "raw_hr.parent")
