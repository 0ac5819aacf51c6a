"""What a run does when the source's tables have another shape than when they were last loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from frame.failure import Failure
from ingest.errors import RunFailedError
from tests.ingest.staff import STAFF, load, rule

if TYPE_CHECKING:
    from tests.ingest.world import World

CHANGES = {
    "ADD COLUMN joined date DEFAULT '2026-01-01'": "column joined added (date)",
    "DROP COLUMN name": "column name dropped",
    "RENAME COLUMN name TO full_name": "column name renamed to full_name",
    "ALTER COLUMN name TYPE varchar(99)": (
        "column name changed from text to character varying(99)"
    ),
    "ALTER COLUMN id TYPE bigint": "column id changed from integer to bigint",
    "ALTER COLUMN name SET NOT NULL": "column name became NOT NULL",
    "DROP CONSTRAINT staff_pkey, ADD PRIMARY KEY (id, updated_at)": (
        "key changed from (id) to (id, updated_at)"
    ),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.items())
def test_refresh_loads_the_whole_table_by_itself_and_says_why(
    world: World, change: str, told: str
) -> None:
    world.at_source(*STAFF)
    load(world)
    world.at_source(f"ALTER TABLE staff {change}")
    loaded = load(world)
    assert (loaded.load, told in loaded.reason) == ("full", True), loaded.reason
    world.assert_same("public.staff", "raw_hr.staff")
    assert load(world).load == "incremental"
    history = world.rows("SELECT version, changes FROM ops.shapes ORDER BY 1")
    assert history[0] == (1, [])
    assert told in history[1][1]


@pytest.mark.parametrize("load_kind", ["full", "incremental"])
@pytest.mark.parametrize(("change", "told"), CHANGES.items())
def test_fail_publishes_nothing_and_names_the_change(
    world: World, change: str, told: str, load_kind: str
) -> None:
    keys = {} if load_kind == "incremental" else {"load": "", "cursor": "", "lookback": ""}
    text = rule(on_schema_change="fail", **keys)
    world.at_source(*STAFF)
    load(world, text)
    before = world.rows("SELECT * FROM raw_hr.staff ORDER BY 1")
    world.at_source(f"ALTER TABLE staff {change}")
    with pytest.raises(RunFailedError) as failure:
        load(world, text)
    assert "table raw_hr.staff: expected the shape of the last load, found" in str(failure.value)
    assert told in failure.value.message
    assert world.rows("SELECT * FROM raw_hr.staff ORDER BY 1") == before
    assert load(world, text, full_refresh=True).load == "full"
    world.assert_same("public.staff", "raw_hr.staff")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("ADD COLUMN joined date", "incremental"),
        ("DROP COLUMN name", "incremental"),
        ("RENAME COLUMN name TO full_name", "incremental"),
        ("ALTER COLUMN id TYPE bigint", "full"),  # perhaps USING id * 100
        ("ALTER COLUMN id TYPE smallint", "full"),
        ("ALTER COLUMN name TYPE varchar(99)", "full"),
        ("ADD COLUMN joined date NOT NULL DEFAULT '2026-01-01'", "full"),
        ("ADD COLUMN name_2 text, DROP COLUMN name", "incremental"),
    ],
)
def test_evolve_alters_the_table_where_no_row_must_be_read_again(
    world: World, change: str, kind: str
) -> None:
    text = rule(on_schema_change="evolve", deletes="detect", checks="{unique: [[id]]}")
    world.at_source(*STAFF)
    load(world, text)
    world.at_source(f"ALTER TABLE staff {change}", "DELETE FROM staff WHERE id = 4",
                    "INSERT INTO staff (id, updated_at) VALUES (101, '2026-02-01')")  # fmt: skip
    loaded = load(world, text)
    assert (loaded.load, loaded.rows) == (kind, 100), loaded.reason
    world.assert_same("public.staff", "raw_hr.staff")
    assert load(world, text).read == 0


def test_a_column_that_comes_with_values_for_rows_that_were_read_has_them_read(
    world: World,
) -> None:
    """By a default, also of a table whose partitions hold it; of a child; as the file lets it."""
    evolve = "name: public.{}\n    load: incremental\n    on_schema_change: evolve"
    rules = [evolve.format(table) for table in ("plain", "parted", "parent", "excluded", "listed")]
    world.at_source(
        *(f"CREATE TABLE {table} (id int PRIMARY KEY, pay int)" for table in ("plain", "parent")),
        *(f"CREATE TABLE {table} (id int PRIMARY KEY, pay int, joined date DEFAULT '2026-01-01')"
          for table in ("excluded", "listed")),
        "CREATE TABLE parted (id int PRIMARY KEY, pay int) PARTITION BY RANGE (id)",
        "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (9)",
        "CREATE TABLE child (joined date DEFAULT '2026-01-01') INHERITS (parent)",
        *(f"INSERT INTO {table} VALUES (1, 10)"
          for table in ("plain", "parted", "child", "excluded", "listed")),
    )  # fmt: skip
    held = [f"{rules[3]}\n    columns: {{exclude: [joined]}}",
            f"{rules[4]}\n    columns: {{only: [id, pay]}}"]  # fmt: skip
    world.run(*rules[:3], *held)
    world.at_source(
        *(f"ALTER TABLE {table} ADD joined date DEFAULT '2026-01-01'"
          for table in ("plain", "parted")),
        "ALTER TABLE parent ADD joined date",
    )  # fmt: skip
    for loaded in world.run(*rules).loaded:
        assert (loaded.load, loaded.reason) == ("full", "column joined added (date) with a value")
        world.assert_same(loaded.source, loaded.table)
    assert {each.load for each in world.run(*rules).loaded} == {"incremental"}


def test_an_append_table_is_never_replaced_by_itself(world: World) -> None:
    text = rule(load="append")
    world.at_source(*STAFF)
    load(world, text)
    world.at_source("DELETE FROM staff WHERE id < 100", "ALTER TABLE staff ADD COLUMN joined date")
    assert load(world, text).load == "append"
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(100,)]
    world.at_source("ALTER TABLE staff ALTER COLUMN name TYPE varchar(9)")
    with pytest.raises(RunFailedError, match="expected to add rows to those that are there") as err:
        load(world, text)
    assert "--full-refresh" in err.value.hint
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(100,)]
    assert load(world, text, full_refresh=True).rows == 1


def test_a_table_made_anew_at_the_source_is_read_whole_and_compared_by_names(
    world: World,
) -> None:
    world.at_source(*STAFF)
    load(world)
    world.at_source("DROP TABLE staff", *STAFF, "UPDATE staff SET name = 'another' WHERE id < 50")
    loaded = load(world)
    assert (loaded.load, loaded.reason) == ("full", "the source table was made anew")
    world.assert_same("public.staff", "raw_hr.staff")
    assert world.rows("SELECT changes FROM ops.shapes") == [([],), ([],)]


def test_another_cursor_goes_on_by_transactions_and_what_went_from_the_warehouse_is_loaded_whole(
    world: World,
) -> None:
    world.at_source(*STAFF, "ALTER TABLE staff ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY")
    load(world)
    again = load(world, rule(cursor="seq", lookback=""))
    assert (again.load, again.reason) == (
        "incremental",
        "rows that were written since the last load",
    )
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute("DROP TABLE raw_hr.staff")
    assert load(world, rule(cursor="seq", lookback="")).reason == "first load"


def test_a_mode_change_from_full_to_incremental_goes_on_by_transactions(world: World) -> None:
    world.at_source(*STAFF)
    world.run("public.staff")
    again = load(world)
    assert (again.load, again.read) == ("incremental", 0)
    assert again.reason == "rows that were written since the last load"


def test_a_composite_that_changed_lands_in_a_type_of_its_own(world: World) -> None:
    world.at_source("CREATE TYPE pair AS (a int, b text)", "CREATE TABLE t (id int, p pair)",
                    "INSERT INTO t VALUES (1, '(1,x)')")  # fmt: skip
    world.run("public.t")
    world.at_source("ALTER TYPE pair ADD ATTRIBUTE c date CASCADE")
    world.run("public.t")
    world.assert_same("public.t", "raw_hr.t")
    kinds = [world.rows("SELECT pg_typeof(p)::text FROM raw_hr.t")[0][0]]
    world.run("public.t")
    kinds.append(world.rows("SELECT pg_typeof(p)::text FROM raw_hr.t")[0][0])
    assert kinds[0] == kinds[1] != "raw_hr.pair", "the name that it got, it keeps"


def test_a_label_that_is_called_otherwise_now_means_a_full_load_and_a_new_one_does_not(
    world: World,
) -> None:
    world.at_source("CREATE TYPE mood AS ENUM ('sad', 'happy')", *STAFF,
                    "ALTER TABLE staff ADD moods mood[] DEFAULT '{happy}'")  # fmt: skip
    load(world)
    world.at_source("ALTER TYPE mood ADD VALUE 'calm'")
    assert load(world).load == "incremental"
    world.at_source("ALTER TYPE mood RENAME VALUE 'happy' TO 'glad'")
    assert load(world).reason == "column moods lost its labels mood.happy"
    world.assert_same("public.staff", "raw_hr.staff")


def test_marked_rows_keep_a_label_that_is_called_otherwise_now(world: World) -> None:
    world.at_source("CREATE TYPE mood AS ENUM ('sad', 'happy')", *STAFF,
                    "ALTER TABLE staff ADD mood mood DEFAULT 'happy'")  # fmt: skip
    text = rule(deletes="mark")
    load(world, text)
    world.at_source("DELETE FROM staff WHERE id = 1")
    load(world, text)
    world.at_source("ALTER TYPE mood RENAME VALUE 'happy' TO 'glad'")
    assert load(world, text).load == "full"
    assert world.rows("SELECT DISTINCT mood::text, _deleted_at IS NULL FROM raw_hr.staff"
                      " ORDER BY 1") == [("glad", True), ("happy", False)]  # fmt: skip


HASHED = "name: public.*\n    columns: {hash: [national_id], exclude: [photo]}"


def test_a_patterns_column_that_no_table_has_is_an_error(world: World) -> None:
    world.at_source("CREATE TABLE a (id int, national_no text)")
    with pytest.raises(Failure, match=r"table public\.a: columns: .* national_id, photo in"):
        world.run(HASHED)
    assert world.rows("SELECT to_regclass('raw_hr.a')") == [(None,)]


def test_a_table_of_a_pattern_that_went_from_the_source_is_told_until_it_is_out_of_the_way(
    world: World,
) -> None:
    world.at_source("CREATE TABLE a (id int)", 'CREATE TABLE "B" (id int)')
    world.run("public.*")
    world.at_source('ALTER TABLE "B" RENAME TO c')
    for _ in range(2):
        with pytest.raises(RunFailedError, match=r'raw_hr."B": .* public."B", found it gone'):
            world.run("public.*")
    assert world.rows("SELECT to_regclass('raw_hr.c') IS NOT NULL") == [(True,)]
    assert world.run("public.*", only=("c",)).loaded
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute('CREATE SCHEMA kept; ALTER TABLE raw_hr."B" SET SCHEMA kept')
        connection.execute('CREATE VIEW raw_hr."B" AS SELECT * FROM raw_hr.c')
    assert len(world.run("public.*").loaded) == 2


def test_an_error_names_a_missing_table(world: World) -> None:
    world.at_source(*STAFF)
    load(world)
    world.at_source("DROP TABLE staff")
    with pytest.raises(Failure, match=r"expected public\.staff, found no such table"):
        load(world)
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(100,)]
