"""Runs between two real databases: what arrives equals what was there."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from frame.failure import Failure
from ingest import catalog, connections, extract, reading, run, selection
from ingest.errors import DatabaseError, RunFailedError, UnknownTableError
from ingest.job import Job, Scope
from tests.ingest.world import publish, stage

if TYPE_CHECKING:
    from typing import LiteralString

    from ingest.contract import Pipeline
    from ingest.rules import TableRule
    from ingest.shapes import Relation
    from tests.ingest.world import World

SCHOOL = (
    "CREATE TABLE departments (id int PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE employees (id int PRIMARY KEY, department int REFERENCES departments,"
    " name text, salary numeric(10, 2))",
    "INSERT INTO departments VALUES (1, 'Maths'), (2, 'Akan - Twi ɛ ɔ')",
    "INSERT INTO employees SELECT n, 1 + n % 2, 'Name ' || n, n * 10.5"
    " FROM generate_series(1, 500) n",
)
EVERY_TYPE = (
    "CREATE TYPE mood AS ENUM ('sad', 'so-so', 'o''kay \\ \"fine\"')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE TYPE floats AS RANGE (subtype = float8)",
    "CREATE DOMAIN grade AS numeric(4, 1) CHECK (VALUE >= 0)",
    "CREATE EXTENSION citext",
    "CREATE EXTENSION hstore",
    """
    CREATE TABLE everything (
      id uuid PRIMARY KEY, flag boolean, small smallint, medium int, big bigint,
      exact numeric, scaled numeric(20, 5), single real, double double precision, cash money,
      plain text, limited varchar(40), padded char(5), raw bytea, bits bit(3), varied bit varying,
      day date, clock time(3), zoned timetz, stamp timestamp(3), moment timestamptz,
      span interval, years interval year, doc json, docb jsonb, path jsonpath, page xml,
      pages xml[], numbers int[], grid text[][], mood mood, moods mood[], pair pair, grade grade,
      grades grade[], during tstzrange, several int4multirange, floats floats,
      address inet, network cidr, card macaddr, spot point, area box, shape polygon,
      words tsvector, search tsquery, class regclass, lsn pg_lsn, "char" "char", ci citext,
      cis citext[], map hstore, twice int GENERATED ALWAYS AS (medium * 2) STORED,
      serial int GENERATED ALWAYS AS IDENTITY
    )
    """,
    r"""
    INSERT INTO everything VALUES (
      'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', true, -32768, 2147, 9223372036854775807,
      '123456789012345678901234567890.123456789012345678901234567890', 1.50000, '1.1', 0.1, 12.34,
      E'tab\t newline\n cr\r back\\slash \\N \\. "quoted" ɛ 漢 🎓', '', 'ab', '\x00ff5c', '101',
      '1', '0044-03-15 BC', '24:00', '12:00:00.5+05:30', 'infinity', '2026-01-01 00:00:00.1+00',
      '-1 year 2 days -3:04:05.678', '7 years', '{"b":1, "a" : [1,  2], "b": 2}', '{"b": 1}',
      '$.a[*] ? (@ > 1)', '<?xml version="1.0" encoding="ISO-8859-1"?><a>b</a>',
      ARRAY['<?xml version="1.0" encoding="UTF-8"?><a/>'::xml, '<b/>'], '{1,NULL,3}',
      '{{"a","NULL"},{"c,d",NULL}}', 'o''kay \ "fine"', '{sad,so-so}', '(1,"x,y")', 7.5,
      '{1.5,NULL}', '[2026-01-01,infinity)', '{[1,3),[5,7)}', '[1.5,2.5)', '10.0.0.1/8',
      '10.0.0.0/8', '08:00:2b:01:02:03', '(1,2)', '((0,0),(1,1))', '((0,0),(1,1),(2,0))',
      'a:1 b:2A', 'a & !b', 'pg_class', '16/B374D848', 'x', 'Ci', '{A,b}', 'a=>1, b=>NULL'
    )
    """,
    "INSERT INTO everything (id, exact, double, single, span, day, cash) VALUES"
    " (gen_random_uuid(), 'NaN', 'NaN', '-infinity', '-00:00:00.000001', 'infinity', -0.01),"
    " (gen_random_uuid(), '-Infinity', '-0', '1e-45', '0', '4713-01-01 BC', NULL)",
)


def copy_out(query: LiteralString) -> sql.Composed:
    """Return what stands in for a table's COPY in the tests of failures."""
    return sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(sql.SQL(query))


def test_every_type_arrives_with_the_same_text(world: World) -> None:
    world.at_source(*EVERY_TYPE)
    report = world.run()
    assert report.loaded[0].rows == 3
    world.assert_same("public.everything", "raw_hr.everything")


def test_a_column_lands_in_the_same_type_or_in_text(world: World) -> None:
    expected = {
        "mood": "raw_hr.mood",
        "moods": "raw_hr.mood[]",
        "grade": "raw_hr.grade",
        "grades": "raw_hr.grade[]",
        "pair": "raw_hr.pair",
        "floats": "raw_hr.floats",
        "class": "text",
        "page": "xml",
        "stamp": "timestamp(3) without time zone",
        "years": "interval year",
        "scaled": "numeric(20,5)",
        "several": "int4multirange",
        "char": '"char"',
        "twice": "integer",
    }
    world.at_source(*EVERY_TYPE)
    world.run()
    found = dict(
        world.rows(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'raw_hr.everything'::regclass AND attnum > 0"
        )
    )
    assert {name: found[name] for name in expected} == expected


def test_extension_types_are_kept_where_the_warehouse_has_the_extension(world: World) -> None:
    world.at_source(*EVERY_TYPE)
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute("CREATE SCHEMA extensions")
        connection.execute("GRANT USAGE ON SCHEMA extensions TO ingest_loader")
        connection.execute("CREATE EXTENSION citext SCHEMA extensions")
    world.run()
    found = world.rows(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'raw_hr.everything'::regclass AND attname IN ('ci', 'cis', 'map')"
        " ORDER BY attname"
    )
    assert found == [("extensions.citext",), ("extensions.citext[]",), ("extensions.hstore",)]
    world.assert_same("public.everything", "raw_hr.everything")


def test_odd_tables_arrive_whole(world: World) -> None:
    long_name = "ɛ" * 31
    world.at_source(
        'CREATE TABLE "Odd ""Name"" %s" ("A b" int, "select" text, "%" text)',
        """INSERT INTO "Odd ""Name"" %s" VALUES (1, 'x', '%'), (2, NULL, '')""",
        f'CREATE TABLE "{long_name}" ("{long_name}" int PRIMARY KEY)',
        f'INSERT INTO "{long_name}" SELECT generate_series(1, 3)',
        "CREATE TABLE empty (id int PRIMARY KEY, name text)",
        "CREATE TABLE nothing ()",
        "INSERT INTO nothing DEFAULT VALUES",
        "CREATE TABLE gone (a int, b int, c int)",
        "ALTER TABLE gone DROP COLUMN b",
        "INSERT INTO gone VALUES (1, 3)",
        "CREATE TABLE results (term int, score int, PRIMARY KEY (term, score))"
        " PARTITION BY LIST (term)",
        "CREATE TABLE results_1 PARTITION OF results FOR VALUES IN (1)",
        "CREATE TABLE results_2 PARTITION OF results FOR VALUES IN (2)",
        "INSERT INTO results VALUES (1, 10), (2, 20)",
        "CREATE VIEW top AS SELECT * FROM results",
        "CREATE MATERIALIZED VIEW best AS SELECT * FROM results",
        "CREATE TABLE wide (" + ", ".join(f"c{n} int" for n in range(200)) + ")",
        "INSERT INTO wide (c199) VALUES (1)",
    )
    report = world.run("public.*", "public.top")
    assert [(loaded.table, loaded.rows) for loaded in report.loaded] == [
        ('raw_hr."Odd ""Name"" %s"', 2),
        ("raw_hr.empty", 0),
        ("raw_hr.gone", 1),
        ("raw_hr.nothing", 1),
        ("raw_hr.results", 2),
        ("raw_hr.top", 2),
        ("raw_hr.wide", 1),
        (f'raw_hr."{long_name}"', 3),
    ]
    for table in ('"Odd ""Name"" %s"', f'"{long_name}"', "empty", "gone", "results", "top"):
        world.assert_same(f"public.{table}", f"raw_hr.{table}")


def test_keys_and_not_null_are_kept_and_nothing_is_left_in_staging(world: World) -> None:
    world.at_source(*SCHOOL)
    world.run()
    assert world.rows(
        "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'raw_hr'::regnamespace ORDER BY 1"
    ) == [("raw_hr.departments", "PRIMARY KEY (id)"), ("raw_hr.employees", "PRIMARY KEY (id)")]
    assert world.rows(
        "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'raw_hr.departments'::regclass"
        " AND attname = 'name'"
    ) == [(True,)]
    assert not world.rows(
        "SELECT FROM pg_class WHERE relnamespace = 'raw_hr_staging'::regnamespace"
    )


def test_a_second_run_follows_the_source(world: World) -> None:
    world.at_source(*SCHOOL)
    world.run()
    world.at_source(
        "UPDATE employees SET name = 'Ama' WHERE id = 1",
        "DELETE FROM employees WHERE id = 2",
        "ALTER TABLE employees ADD COLUMN joined date DEFAULT '2026-01-01'",
        "ALTER TABLE departments ALTER COLUMN name TYPE varchar(100)",
    )
    world.run()
    for table in ("departments", "employees"):
        world.assert_same(f"public.{table}", f"raw_hr.{table}")


def test_ops_tells_of_each_run_and_table(world: World) -> None:
    world.at_source(*SCHOOL)
    report = world.run()
    assert world.rows(
        "SELECT pipeline, run_id, status, attempts, step, error, started_at < finished_at"
        " FROM ops.runs"
    ) == [("hr", report.run_id, "success", 1, None, None, True)]
    found = world.rows(
        'SELECT pipeline, run_id, "table", source, load, reason, status, rows_read, bytes,'
        " inserted, updated, deleted, rows, started_at < finished_at FROM ops.tables ORDER BY 3"
    )
    assert found == [
        ("hr", report.run_id, each.table, each.source, "full", "first load", "published",
         each.rows, each.bytes, each.rows, 0, 0, each.rows, True)
        for each in report.loaded
    ]  # fmt: skip
    assert world.rows('SELECT "table", version, changes FROM ops.shapes ORDER BY 1') == [
        ("raw_hr.departments", 1, []),
        ("raw_hr.employees", 1, []),
    ]
    assert world.rows("SELECT shape -> 'columns' -> 0 ->> 'type' FROM ops.shapes LIMIT 1") == [
        ("integer",)
    ]


def test_autovacuum_leaves_a_table_alone_only_until_it_is_published(world: World) -> None:
    world.at_source("CREATE TABLE staff (id int PRIMARY KEY, name text)")
    options = "SELECT reloptions FROM pg_class WHERE relname = 'staff'"
    job = world.job("public.staff")
    with job.warehouse() as target:
        ([staged], _) = stage(job, target)
        assert world.rows(options) == [(["autovacuum_enabled=false"],)]
        publish(job, target, [staged])
    assert world.rows(options) == [(None,)]


def test_readers_may_read_what_is_published_and_not_staging(world: World) -> None:
    world.at_source(*SCHOOL)
    for _ in range(2):
        world.run()
        with psycopg.connect(world.warehouse_admin) as connection:
            connection.execute("SET ROLE warehouse_readers")
            assert connection.execute("SELECT count(*) FROM raw_hr.employees").fetchone() == (500,)
            assert connection.execute("SELECT count(*) > 0 FROM ops.tables").fetchone() == (True,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT * FROM raw_hr_staging.employees")


def test_ops_of_another_owner_is_used_as_it_is(world: World) -> None:
    world.at_source(*SCHOOL)
    world.run()
    with psycopg.connect(world.warehouse_admin) as connection:
        for table in ("runs", "tables", "checks", "shapes", "state"):
            name = sql.Identifier("ops", table)
            connection.execute(sql.SQL("ALTER TABLE {} OWNER TO postgres").format(name))
        connection.execute("ALTER SCHEMA ops OWNER TO postgres")
        connection.execute("GRANT USAGE ON SCHEMA ops TO ingest_loader")
        connection.execute(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ops TO ingest_loader"
        )
        database = sql.Identifier(connection.info.dbname)
        connection.execute(
            sql.SQL("REVOKE CREATE ON DATABASE {} FROM ingest_loader").format(database)
        )
    world.run()
    assert world.rows("SELECT count(*) FROM ops.runs") == [(2,)]


def test_one_table_can_be_loaded_alone(world: World) -> None:
    world.at_source(*SCHOOL)
    assert [loaded.table for loaded in world.run(only=("public.departments",)).loaded] == [
        "raw_hr.departments"
    ]
    assert [loaded.table for loaded in world.run(only=("employees",)).loaded] == [
        "raw_hr.employees"
    ]
    with pytest.raises(UnknownTableError, match=r"public\.departments, public\.employees"):
        world.run(only=("payroll",))


def test_views_on_a_published_table_survive_and_follow(world: World) -> None:
    world.at_source(*SCHOOL)
    world.run()
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute("CREATE SCHEMA marts")
        connection.execute("CREATE VIEW marts.staff AS SELECT count(*) FROM raw_hr.employees")
    world.at_source("DELETE FROM employees WHERE id > 100")
    world.run()
    assert world.rows("SELECT * FROM marts.staff") == [(100,)]
    world.at_source("ALTER TABLE employees DROP COLUMN salary")
    with pytest.raises(RunFailedError, match=r"raw_hr\.employees, column salary: expected"):
        world.run()
    assert world.rows("SELECT * FROM marts.staff") == [(100,)]


def test_a_failed_copy_leaves_the_old_table_and_the_other_tables_are_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.at_source(*SCHOOL)
    world.run()
    world.at_source("UPDATE departments SET name = 'new'", "DELETE FROM employees WHERE id = 7")
    real = extract.copy_out

    def failing(
        plan: extract.TablePlan, blocks: tuple[int, int | None] | None = None
    ) -> sql.Composed:
        if plan.target.name == "departments":  # fails in its last row, after the first was sent
            return copy_out("SELECT n, (1 / (9000 - n))::text FROM generate_series(1, 9000) n")
        return real(plan, blocks)

    monkeypatch.setattr(extract, "copy_out", failing)
    with pytest.raises(RunFailedError, match="division by zero") as failure:
        world.run()
    assert "source hr: table public.departments: expected" in failure.value.message
    assert world.rows("SELECT name FROM raw_hr.departments WHERE id = 1") == [("Maths",)]
    assert world.rows("SELECT count(*) FROM raw_hr.employees") == [(499,)]
    assert world.rows('SELECT "table", status, step FROM ops.tables ORDER BY 1, started_at') == [
        ("raw_hr.departments", "published", None),
        ("raw_hr.departments", "failed", "extract"),
        ("raw_hr.employees", "published", None),
        ("raw_hr.employees", "published", None),
    ]
    assert world.rows('SELECT status, step, "table" FROM ops.runs ORDER BY started_at') == [
        ("success", None, None),
        ("failed", "extract", "raw_hr.departments"),
    ]


def test_a_value_that_the_warehouse_refuses_is_named_by_column_and_row(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.at_source(*SCHOOL)
    monkeypatch.setattr(
        extract,
        "copy_out",
        lambda *_: copy_out("VALUES (1, 'a'), (NULL, 'b')"),
    )
    with pytest.raises(RunFailedError, match=r"warehouse: table raw_hr\.departments, column id"):
        world.run(only=("departments",))
    monkeypatch.setattr(
        extract,
        "copy_out",
        lambda *_: copy_out("VALUES (1, 'a'), (1, 'b')"),
    )
    with pytest.raises(
        RunFailedError,
        match=r"found keys that come more than once: \(1\)",
    ):
        world.run(only=("departments",))


def test_a_source_lost_in_mid_copy_leaves_the_old_table(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.at_source(*SCHOOL)
    world.run()
    monkeypatch.setattr(reading, "PAUSES", (0.1,))
    monkeypatch.setattr(
        extract,
        "copy_out",
        lambda *_: copy_out(
            "SELECT n, CASE WHEN n = 9000 THEN pg_terminate_backend(pg_backend_pid())::text END"
            " FROM generate_series(1, 9000) n"
        ),
    )
    with pytest.raises(RunFailedError, match="terminating connection"):
        world.run()
    assert world.rows("SELECT count(*) FROM raw_hr.departments WHERE name IS NOT NULL") == [(2,)]


def test_all_tables_are_read_as_of_one_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.at_source(*SCHOOL)
    real = extract.copy_out

    def busy(plan: extract.TablePlan, blocks: tuple[int, int | None] | None = None) -> sql.Composed:
        if plan.target.name == "employees":
            world.at_source("UPDATE employees SET name = 'late'")
        return real(plan, blocks)

    monkeypatch.setattr(extract, "copy_out", busy)
    world.run()
    assert not world.rows("SELECT FROM raw_hr.employees WHERE name = 'late'")


@pytest.mark.parametrize("name", ["employees", "everybody"])
def test_a_table_cannot_be_emptied_under_the_snapshot(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.at_source(*SCHOOL, "CREATE VIEW everybody AS SELECT * FROM employees")
    real = extract.copy_out

    def truncating(
        plan: extract.TablePlan, blocks: tuple[int, int | None] | None = None
    ) -> sql.Composed:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            world.at_source("SET lock_timeout = '50ms'", "TRUNCATE employees")
        return real(plan, blocks)

    monkeypatch.setattr(extract, "copy_out", truncating)
    world.run(f"public.{name}")
    assert world.rows(f"SELECT count(*) FROM raw_hr.{name}") == [(500,)]


@pytest.mark.parametrize(
    "change",
    [
        ["DROP TABLE departments", "CREATE TABLE departments (other int)"],
        ["ALTER TABLE departments RENAME TO was", "CREATE TABLE departments (other int)"],
    ],
)
def test_a_table_that_is_made_anew_before_it_is_locked_is_named(
    world: World, change: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.at_source("CREATE TABLE departments (id int, name text)")
    world.run()
    real = selection.select

    def slow(
        pipeline: Pipeline, found: tuple[Relation, ...], only: str | None = None
    ) -> dict[Relation, TableRule]:
        world.at_source(*change)
        return real(pipeline, found, only)

    monkeypatch.setattr(selection, "select", slow)
    with pytest.raises(Failure, match=r"public\.departments: .* found it made anew") as failure:
        world.run()
    assert failure.value.hint == "Run again."
    monkeypatch.undo()
    world.run("public.departments")
    world.assert_same("public.departments", "raw_hr.departments")


def test_what_the_warehouse_does_not_tell_is_not_laid_at_the_sources_door(world: World) -> None:
    world.at_source(*SCHOOL)
    world.run()
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute("REVOKE SELECT ON ops.state FROM ingest_loader")
    with pytest.raises(DatabaseError, match=r"^warehouse: table ops\.\*: .*permission denied"):
        run.foresee(world.job(), Scope())


def test_a_warehouse_lost_while_its_types_are_read_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.at_source(*SCHOOL)
    real = catalog.types

    def end_them(*given: object) -> object:
        world.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ingest_loader'"
        )
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog, "types", end_them)
    with pytest.raises(DatabaseError, match=r"^warehouse: table raw_hr\.\*: .*terminat"):
        world.run()


def test_a_second_run_of_a_pipeline_waits_for_the_first(world: World) -> None:
    world.at_source(*SCHOOL)
    with world.job().warehouse() as first:
        second = threading.Thread(target=world.run)
        second.start()
        for _ in range(200):
            if world.rows("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(2,)]:
                break
            time.sleep(0.05)
        time.sleep(1)  # a look or more of the second one
        assert second.is_alive()
        assert world.rows("SELECT to_regclass('ops.runs')") == [(None,)]
        assert first.execute("SELECT count(*) FROM ops.locks").fetchone() == (1,)
    second.join(30)
    assert world.rows("SELECT count(*) FROM ops.runs") == [(1,)]


def test_nobody_else_can_hold_the_lock_of_a_schema(world: World) -> None:
    """Advisory locks are anybody's to take, such as a check's, and pg_locks shows their keys."""
    world.at_source(*SCHOOL)
    world.run()
    ((key,),) = world.rows("SELECT key FROM ops.locks")
    with psycopg.connect(world.checks, autocommit=True) as stranger:
        stranger.execute("SELECT pg_advisory_lock(%s)", [key])
        for name in ("schema raw_hr", "set-up"):  # the keys of older releases
            stranger.execute(
                "SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"harmattan ingest: {name}"]
            )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            stranger.execute("SELECT FROM ops.locks FOR UPDATE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), stranger.transaction():
            stranger.execute("LOCK TABLE ops.locks IN SHARE ROW EXCLUSIVE MODE")
        with psycopg.connect(world.warehouse_admin) as admin:
            admin.execute("ALTER TABLE ops.tables DROP hint")  # so there is something to set up
        began = time.monotonic()
        world.run()
        assert time.monotonic() - began < 20
    assert world.rows("SELECT count(*) FROM ops.runs") == [(2,)]


def test_pipelines_that_start_together_on_a_new_warehouse_all_get_through(world: World) -> None:
    world.at_source(*SCHOOL)
    pipeline = world.pipeline()

    def load(number: int) -> int:
        chosen = pipeline.model_copy(update={"published_schema": f"raw_{number}"})
        report = run.run(Job(chosen, f"p{number}", "test", world.resolve))
        return len(report.loaded)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(load, range(4))) == [2] * 4
    assert world.rows("SELECT count(DISTINCT pipeline) FROM ops.runs") == [(4,)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("ALTER TYPE mood ADD VALUE 'glad' BEFORE 'sad'", ["glad", "sad", "fine"]),
        ("ALTER TYPE mood ADD VALUE 'glad' AFTER 'sad'", ["sad", "glad", "fine"]),
        ("ALTER TYPE mood RENAME VALUE 'fine' TO 'well'", ["sad", "well", "fine"]),
    ],
)
def test_an_enum_grows_with_the_source(world: World, change: str, expected: list[str]) -> None:
    world.at_source(
        "CREATE TYPE mood AS ENUM ('sad', 'fine')",
        "CREATE TABLE moods (mood mood)",
        "INSERT INTO moods VALUES ('sad'), ('fine')",
    )
    world.run()
    world.at_source(change)
    world.run()
    assert world.rows("SELECT enum_range(NULL::raw_hr.mood)::text[]") == [(expected,)]
    world.assert_same("public.moods", "raw_hr.moods")


def test_a_type_that_cannot_be_made_keeps_back_only_the_tables_that_need_it(world: World) -> None:
    world.at_source(
        "CREATE TYPE mood AS ENUM ('sad', 'fine')",
        "CREATE TABLE days (id int PRIMARY KEY, moods mood[])",
        *SCHOOL,
    )
    world.run()
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute("ALTER TYPE raw_hr.mood OWNER TO postgres")
    world.at_source("ALTER TYPE mood ADD VALUE 'glad'", "DELETE FROM employees WHERE id = 1")
    world.at_source("INSERT INTO days VALUES (1, '{glad}')")
    with pytest.raises(
        RunFailedError,
        match=r"expected 3 .* found 1 not:\n.*raw_hr\.mood \(type\): .*must be owner",
    ):
        world.run()
    world.assert_same("public.employees", "raw_hr.employees")
    assert world.rows("SELECT count(*) FROM raw_hr.days") == [(0,)]
    assert world.rows('SELECT "table", step FROM ops.tables WHERE status = %s', "failed") == [
        ("raw_hr.days", "plan")
    ]


def test_an_extension_brings_those_that_it_needs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None of PostgreSQL's own that is trusted needs another: the superuser trusts this one.
    query = catalog.INSTALLABLE
    monkeypatch.setattr(catalog, "INSTALLABLE", query.replace("v.trusted", "true"))
    trusting = replace(world, warehouse=world.warehouse_admin)
    world.at_source(
        "CREATE EXTENSION earthdistance CASCADE",
        "CREATE TABLE places AS SELECT 1 AS id, ll_to_earth(5.6, -0.2) AS place",
    )
    trusting.run()
    assert world.rows("SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
                      " WHERE attrelid = 'raw_hr.places'::regclass AND attname = 'place'") == [
        ("extensions.earth",)
    ]  # fmt: skip
    world.assert_same("public.places", "raw_hr.places")


def test_an_enum_whose_order_changed_lands_in_a_type_of_another_name(world: World) -> None:
    world.at_source("CREATE TYPE mood AS ENUM ('a', 'b')", "CREATE TABLE moods (mood mood)")
    world.run()
    world.at_source(
        "DROP TABLE moods",
        "DROP TYPE mood",
        "CREATE TYPE mood AS ENUM ('b', 'a')",
        "CREATE TABLE moods AS SELECT 'b'::mood AS mood",
    )
    world.run()
    ((value, kind, labels),) = world.rows(
        "SELECT mood::text, pg_typeof(mood)::text, enum_range(mood)::text FROM raw_hr.moods"
    )
    assert (value, labels) == ("b", "{b,a}")
    assert re.fullmatch(r"raw_hr\.mood_[0-9a-f]{8}", kind)


def test_rows_hidden_by_a_policy_are_an_error_and_not_a_smaller_copy(world: World) -> None:
    world.at_source(*SCHOOL, "ALTER TABLE employees ENABLE ROW LEVEL SECURITY")
    with pytest.raises(RunFailedError, match=r"public\.employees: .*row-level security"):
        world.run()


@pytest.mark.parametrize("name", ["public.pupils", "pub.*", "public.x*"])
def test_a_name_that_finds_nothing_is_an_error(world: World, name: str) -> None:
    world.at_source(*SCHOOL)
    with pytest.raises(Failure, match=re.escape(f"expected {name}, found no such table")):
        world.run("public.*", name)


def test_a_loader_without_rights_is_told_which(world: World) -> None:
    world.at_source(*SCHOOL)
    with psycopg.connect(world.warehouse_admin) as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(
            sql.SQL("REVOKE CREATE ON DATABASE {} FROM ingest_loader").format(database)
        )
    with pytest.raises(DatabaseError, match=r"permission denied for database .*\nHINT: Grant"):
        world.run()


def test_a_server_that_is_away_is_named_without_its_password(world: World) -> None:
    address = connections.Address("hr", {"host": "127.0.0.1", "port": 1, "password": "s3cret"})
    with pytest.raises(DatabaseError, match="source hr: expected a connection") as failure:
        connections.source(address, side="source hr", purpose="ingest")
    assert "s3cret" not in str(failure.value) + repr(address)
