"""What hangs on a published table outlives its replacement, and readers never see half of it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Timer
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from ingest import run
from ingest.errors import CheckFailedError, ConflictError, RunFailedError, from_postgres
from tests.ingest.world import publish, stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from ingest.job import Job
    from ingest.report import Report
    from tests.ingest.world import World

STAFF = (
    "CREATE TABLE staff (id int PRIMARY KEY, name text, grade int)",
    "INSERT INTO staff SELECT n, 'Name ' || n, n % 5 FROM generate_series(1, 100) n",
)
DRESSED = (
    "CREATE INDEX staff_name ON raw_hr.staff (lower(name)) WHERE grade > 1",
    'CREATE UNIQUE INDEX "Odd %s" ON raw_hr.staff (name, id) INCLUDE (grade)',
    "COMMENT ON TABLE raw_hr.staff IS 'Who works here, 100% of them'",
    "COMMENT ON COLUMN raw_hr.staff.name IS 'as in the contract'",
    "COMMENT ON INDEX raw_hr.staff_name IS 'for the search'",
    "GRANT SELECT ON raw_hr.staff TO analyst WITH GRANT OPTION",
    "GRANT UPDATE (grade) ON raw_hr.staff TO analyst",
    "ALTER TABLE raw_hr.staff SET (autovacuum_vacuum_scale_factor = 0.01)",
    "CREATE POLICY own ON raw_hr.staff FOR SELECT TO analyst USING (grade < 4)",
    "CREATE POLICY rest ON raw_hr.staff AS RESTRICTIVE USING (id > 0) WITH CHECK (id > 1)",
    "COMMENT ON POLICY own ON raw_hr.staff IS 'no chiefs'",
    "ALTER TABLE raw_hr.staff ENABLE ROW LEVEL SECURITY",
    "CREATE SCHEMA marts AUTHORIZATION analyst",
    "SET ROLE analyst",
    "CREATE VIEW marts.staff WITH (security_barrier) AS SELECT s.*, 1 AS one FROM raw_hr.staff s",
    'CREATE VIEW marts."Top %s" AS SELECT count(*) AS n FROM marts.staff',
    "COMMENT ON VIEW marts.staff IS 'a view'",
    "COMMENT ON COLUMN marts.staff.one IS 'always 1'",
    "GRANT SELECT ON marts.staff TO warehouse_readers",
)
# Everything that a person would see of a table and its views, but for oids.
LOOK = """
    SELECT c.oid::regclass::text, pg_get_userbyid(c.relowner), c.relacl::text, c.reloptions::text,
           c.relrowsecurity, obj_description(c.oid, 'pg_class'),
           CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END,
           (SELECT array_agg((attname, attacl, col_description(c.oid, attnum))::text
                             ORDER BY attnum)
            FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0),
           (SELECT array_agg(pg_get_indexdef(indexrelid)
                             || coalesce(obj_description(indexrelid, 'pg_class'), '')
                             ORDER BY pg_get_indexdef(indexrelid))
            FROM pg_index
            WHERE indrelid = c.oid),
           (SELECT array_agg((polname, obj_description(oid, 'pg_policy'), polpermissive,
                              polcmd, polroles, pg_get_expr(polqual, c.oid),
                              pg_get_expr(polwithcheck, c.oid))::text ORDER BY polname)
            FROM pg_policy WHERE polrelid = c.oid)
    FROM pg_class c WHERE c.relnamespace::regnamespace::text IN ('raw_hr', 'marts')
      AND c.relkind IN ('r', 'v') ORDER BY 1
"""


@pytest.fixture(autouse=True)
def analyst(world: World) -> Iterator[None]:
    """The role that analysts' views belong to; the loader may act as it."""
    with psycopg.connect(world.warehouse_admin, autocommit=True) as connection:
        there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'analyst'").fetchone()
        if there is None:
            connection.execute("CREATE ROLE analyst")
        connection.execute("GRANT analyst TO ingest_loader")
        connection.execute("GRANT warehouse_readers TO analyst")
        yield
        connection.execute("REVOKE analyst FROM ingest_loader")


def at_warehouse(world: World, *statements: str) -> None:
    with psycopg.connect(world.warehouse_admin) as connection:
        for statement in statements:
            connection.execute(statement)


def oid(world: World) -> int:
    return int(world.rows("SELECT 'raw_hr.staff'::regclass::oid::bigint")[0][0])


def test_all_that_hangs_on_a_table_is_the_same_after_a_full_load(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, *DRESSED)
    before, first = world.rows(LOOK), oid(world)
    assert len(before) == 3
    world.at_source("UPDATE staff SET name = 'Ama' WHERE id = 1")
    world.run()
    assert world.rows(LOOK) == before
    assert oid(world) != first, "the rows were written once, and renamed"
    assert world.rows("SELECT name FROM marts.staff WHERE id = 1") == [("Ama",)]
    # The view's owner sees what the policy lets it see.
    assert world.rows('SELECT n FROM marts."Top %s"') == [(80,)]
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute("SET ROLE analyst")
        assert connection.execute("SELECT max(grade) FROM raw_hr.staff").fetchone() == (3,)


def test_views_follow_columns_that_come_and_types_that_change(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, "CREATE SCHEMA marts AUTHORIZATION analyst", "SET ROLE analyst",
                 "CREATE VIEW marts.grades AS SELECT id, grade FROM raw_hr.staff")  # fmt: skip
    world.at_source("ALTER TABLE staff ADD joined date, ALTER grade TYPE numeric(5, 2)")
    world.run()
    assert world.rows("SELECT grade::text FROM marts.grades WHERE id = 3") == [("3.00",)]
    world.assert_same("public.staff", "raw_hr.staff")


def test_a_view_whose_column_went_is_named_and_nothing_is_lost(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, "CREATE SCHEMA marts AUTHORIZATION analyst", "SET ROLE analyst",
                 "CREATE VIEW marts.grades AS SELECT id, grade FROM raw_hr.staff")  # fmt: skip
    before = world.rows(LOOK)
    world.at_source("ALTER TABLE staff DROP COLUMN grade")
    with pytest.raises(RunFailedError, match=r"view marts\.grades: .*grade does not exist"):
        world.run()
    assert world.rows(LOOK) == before
    assert world.rows("SELECT count(*) FROM marts.grades") == [(100,)]


@pytest.mark.parametrize(
    ("statement", "blocker"),
    [
        ("CREATE MATERIALIZED VIEW marts.m AS SELECT * FROM raw_hr.staff", "materialised view"),
        (
            "CREATE FUNCTION marts.f() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM"
            " raw_hr.staff; END",
            "function marts.f()",
        ),
        ("CREATE TABLE marts.t (one raw_hr.staff)", "column one of table marts.t"),
        ("CREATE STATISTICS marts.s (dependencies) ON id, name FROM raw_hr.staff", "statistics s"),
        ("CREATE VIEW marts.v AS SELECT * FROM raw_hr.staff", "view marts.v of postgres"),
        ("ALTER TABLE raw_hr.staff ADD CONSTRAINT low CHECK (grade < 9)", "check constraint low"),
        ("ALTER TABLE raw_hr.staff ADD CONSTRAINT one UNIQUE (name)", "unique constraint one"),
        (
            "CREATE TABLE marts.g (id int PRIMARY KEY); INSERT INTO marts.g SELECT"
            " generate_series(0, 4); ALTER TABLE raw_hr.staff ADD CONSTRAINT own FOREIGN KEY"
            " (grade) REFERENCES marts.g",
            "foreign key constraint own",
        ),
    ],
)
def test_what_cannot_be_made_again_keeps_its_table_which_is_filled_anew(
    world: World, statement: str, blocker: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, "CREATE SCHEMA marts", statement)
    first = oid(world)
    world.at_source("UPDATE staff SET name = 'Ama' WHERE id = 1")
    world.run()
    assert oid(world) == first
    assert f"keeps its place, because of: {blocker}" in caplog.text
    world.assert_same("public.staff", "raw_hr.staff")
    world.at_source("ALTER TABLE staff ADD joined date")
    with pytest.raises(RunFailedError) as failure:
        world.run()
    assert "column joined: expected the columns and the key that" in failure.value.message
    assert blocker in failure.value.message
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(100,)]


def test_a_column_that_may_be_null_now_is_so_where_the_table_must_stay(world: World) -> None:
    world.at_source(*STAFF, "ALTER TABLE staff ALTER name SET NOT NULL")
    world.run()
    at_warehouse(world, "CREATE SCHEMA marts",
                 "CREATE MATERIALIZED VIEW marts.m AS SELECT * FROM raw_hr.staff")  # fmt: skip
    world.at_source(
        "ALTER TABLE staff ALTER name DROP NOT NULL", "UPDATE staff SET name = NULL WHERE id = 1"
    )
    world.run()
    world.assert_same("public.staff", "raw_hr.staff")


def test_rows_that_break_a_constraint_of_the_published_table_are_an_error(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, "ALTER TABLE raw_hr.staff ADD CONSTRAINT low CHECK (grade < 9)")
    world.at_source("UPDATE staff SET grade = 9 WHERE id = 1")
    with pytest.raises(RunFailedError, match=r'check constraint "low"') as failure:
        world.run()
    assert "that somebody gave the published table: drop it" in failure.value.hint
    assert world.rows("SELECT max(grade), count(*) FROM raw_hr.staff") == [(4, 100)]


def test_a_key_that_changed_is_an_error_where_the_table_must_stay(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, "ALTER TABLE raw_hr.staff ADD CONSTRAINT low CHECK (grade < 9)")
    world.at_source("ALTER TABLE staff DROP CONSTRAINT staff_pkey, ADD PRIMARY KEY (id, grade)")
    with pytest.raises(RunFailedError, match=r"column grade: expected the columns and the key"):
        world.run()
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(100,)]


def test_a_foreign_key_on_a_published_table_is_named(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(
        world, "CREATE SCHEMA marts", "CREATE TABLE marts.t (id int REFERENCES raw_hr.staff)"
    )
    with pytest.raises(RunFailedError, match=r"found constraint t_id_fkey on marts\.t") as failure:
        world.run()
    assert failure.value.hint.startswith("Drop it")


def test_a_grant_that_was_taken_away_is_not_given_again(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, "REVOKE SELECT ON raw_hr.staff FROM warehouse_readers")
    world.run()
    assert world.rows(
        "SELECT has_table_privilege('warehouse_readers', 'raw_hr.staff', 'SELECT')"
    ) == [(False,)]


def test_a_reader_in_mid_query_holds_publishing_up_and_sees_one_load(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    with psycopg.connect(world.warehouse_admin) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT 1 FROM pg_class LIMIT 1")
        world.at_source("UPDATE staff SET name = 'new'")
        world.run()
        # A snapshot older than the load: the new rows, never none of them.
        found = reader.execute("SELECT count(*), min(name) FROM raw_hr.staff").fetchone()
    assert found == (100, "new")


def waits(world: World, who: str) -> None:
    """Return when a session of ``who`` waits for a lock."""
    for _ in range(200):
        if world.rows(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = %s"
            " AND datname = current_database()",
            who,
        ):
            return
        time.sleep(0.05)
    pytest.fail(f"{who} waits for nothing")


VIEWS = (
    "GRANT USAGE ON SCHEMA raw_hr TO analyst",
    "CREATE SCHEMA marts AUTHORIZATION analyst",
    "SET ROLE analyst",
    "CREATE VIEW marts.grades AS SELECT id, grade FROM raw_hr.staff",
    "CREATE VIEW marts.grade AS SELECT max(grade) FROM marts.grades",
)


def longest_wait(world: World, query: str, until: Future[Report]) -> float:
    """Read again and again until a run ends; return the seconds of the slowest answer."""
    slowest = 0.0
    with psycopg.connect(world.warehouse_admin, autocommit=True) as reader:
        while not until.done():
            began = time.monotonic()
            reader.execute(query)
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.01)
    return slowest


@pytest.mark.parametrize("view", ["raw_hr.staff", "marts.grade"])
def test_nobody_waits_long_behind_a_publish_that_waits_for_a_report(
    world: World, view: str
) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, *VIEWS)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(world.warehouse_admin) as report:
        report.execute("SELECT count(*) FROM raw_hr.staff")
        publishing = pool.submit(world.run)
        ending = Timer(4, report.rollback)
        ending.start()
        slowest = longest_wait(world, f"SELECT * FROM {view} LIMIT 1", publishing)
        ending.join()
    assert publishing.result().loaded[0].rows == 100
    assert 0.3 < slowest < 1.0, "it waited for a turn of half a second, and no longer"


@pytest.mark.parametrize("key", ["id int PRIMARY KEY", "id int"])
def test_a_table_that_must_stay_is_never_empty_and_nobody_waits_for_it(
    world: World, key: str
) -> None:
    world.at_source(f"CREATE TABLE staff ({key}, name text, grade int)", STAFF[1])
    world.run()
    at_warehouse(world, "CREATE SCHEMA marts",
                 "CREATE MATERIALIZED VIEW marts.m AS SELECT * FROM raw_hr.staff")  # fmt: skip
    world.at_source("DELETE FROM staff WHERE id < 4", "UPDATE staff SET name = 'x' WHERE id > 90",
                    "INSERT INTO staff VALUES (200, NULL, NULL), (201, 'x', 1)")  # fmt: skip
    with psycopg.connect(world.warehouse_admin) as report:
        report.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert report.execute("SELECT count(*) FROM raw_hr.staff").fetchone() == (100,)
        assert world.run("public.staff").loaded[0].rows == 99
        assert report.execute("SELECT min(id) FROM raw_hr.staff").fetchone() == (1,)
    world.assert_same("public.staff", "raw_hr.staff")
    loads = world.rows("SELECT count(DISTINCT xmin::text) FROM raw_hr.staff")
    assert loads == [(2 if "KEY" in key else 1,)], "with a key only what differs is written"


def test_what_reads_a_table_and_then_its_views_is_let_through(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, *VIEWS)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(world.warehouse_admin) as dump:
        dump.execute("LOCK TABLE raw_hr.staff IN ACCESS SHARE MODE")
        publishing = pool.submit(world.run)
        waits(world, "ingest_loader")
        for _ in range(5):  # one of the two would be ended as soon as a deadlock is looked for
            dump.execute("SAVEPOINT one; LOCK TABLE marts.grades IN ACCESS SHARE MODE")
            dump.execute("ROLLBACK TO one")
            time.sleep(0.3)
        dump.rollback()
        assert publishing.result(30).loaded[0].rows == 100


def test_a_view_that_is_made_while_publishing_waits_is_made_again_too(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, *VIEWS[:2], "GRANT SELECT ON raw_hr.staff TO analyst")
    with ThreadPoolExecutor(1) as pool, psycopg.connect(world.warehouse_admin) as late:
        late.execute("SET ROLE analyst")
        late.execute("SELECT count(*) FROM raw_hr.staff")
        publishing = pool.submit(world.run)
        waits(world, "ingest_loader")
        late.execute("CREATE VIEW marts.late AS SELECT grade FROM raw_hr.staff")
        late.commit()
        assert publishing.result(30).loaded[0].rows == 100
    assert world.rows("SELECT count(*) FROM marts.late") == [(100,)]


def test_a_deadlock_is_told_with_what_to_do() -> None:
    error = psycopg.errors.DeadlockDetected("deadlock detected")
    told = from_postgres(error, side="warehouse", table="raw_hr.staff")
    assert told.hint.endswith("run again.")


def staged(world: World, run_id: str) -> tuple[Job, list[run.Staged]]:
    job = world.job("public.staff", run_id=run_id)
    with job.warehouse() as target:
        found, failed = stage(job, target)
    assert not failed
    return job, found


def test_publishing_twice_is_publishing_once(world: World) -> None:
    world.at_source(*STAFF)
    job, (table,) = staged(world, "one")
    with job.warehouse() as target:
        first = publish(job, target, [table])[0]
        run.audit(job, target, table)
        again = publish(job, target, [table])[0]
    assert (first.inserted, first.rows) == (again.inserted, again.rows) == (100, 100)
    assert world.rows("SELECT count(*) FROM ops.shapes") == [(1,)]


def test_a_run_that_another_one_overtook_refuses_to_publish(world: World) -> None:
    world.at_source(*STAFF)
    old, (stale,) = staged(world, "old")
    new, (fresh,) = staged(world, "new")
    with old.warehouse() as target:
        with pytest.raises(ConflictError, match="expected the copy that this run made"):
            run.audit(old, target, stale)
        with pytest.raises(ConflictError, match="expected the copy that this run made"):
            publish(old, target, [stale])
    with new.warehouse() as target:
        publish(new, target, [fresh])
    late, (third,) = staged(world, "late")
    at_warehouse(world, "UPDATE ops.state SET load_id = 'of another run'")
    with (
        late.warehouse() as target,
        pytest.raises(ConflictError, match="to be the newest one published, found of another run"),
    ):
        publish(late, target, [third])
    assert world.rows('SELECT run_id, status, step FROM ops.tables ORDER BY 1') == [
        ("late", "failed", "publish"), ("new", "published", None), ("old", "failed", "publish")
    ]  # fmt: skip


def test_a_run_begun_again_forgets_what_its_earlier_try_left(world: World) -> None:
    world.at_source(*STAFF, "CREATE TABLE other (id int)")
    strict = "name: public.other\n    checks: {rows: {min: 1}}"
    with pytest.raises(CheckFailedError):
        run.run(world.job("public.staff", strict, run_id="one"))
    run.run(world.job("public.staff", run_id="one"))
    assert world.rows("SELECT status, attempts, error FROM ops.runs") == [("success", 2, None)]
    assert world.rows('SELECT "table" FROM ops.tables') == [("raw_hr.staff",)]


def test_indexes_of_columns_that_went_are_left_out(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(
        world, "CREATE INDEX ON raw_hr.staff (grade)", "CREATE INDEX ON raw_hr.staff (name)"
    )
    world.at_source("ALTER TABLE staff DROP COLUMN grade")
    world.run()
    assert [name for (name,) in world.rows(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'raw_hr.staff'::regclass"
        " ORDER BY 1"
    )] == ['raw_hr."staff~key"', "raw_hr.staff_name_idx"]  # fmt: skip


def test_names_in_sql_keep_their_quotes(world: World) -> None:
    world.at_source('CREATE TABLE "select" ("from" int PRIMARY KEY)',
                    'INSERT INTO "select" VALUES (1)')  # fmt: skip
    for _ in range(2):
        world.run()
    table = sql.Identifier("raw_hr", "select")
    at_warehouse(world, sql.SQL('CREATE INDEX ON {} ("from")').format(table).as_string())
    assert world.run().loaded[0].rows == 1


def test_default_privileges_reach_new_tables_and_undo_no_revoke(world: World) -> None:
    world.at_source("CREATE TABLE a (id int)", "CREATE TABLE b (id int)")
    world.run("public.a")
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute(
            "DROP ROLE IF EXISTS auditors; CREATE ROLE auditors;"
            "ALTER DEFAULT PRIVILEGES FOR ROLE ingest_loader GRANT SELECT ON TABLES TO auditors;"
            "ALTER DEFAULT PRIVILEGES FOR ROLE ingest_loader IN SCHEMA raw_hr"
            " GRANT UPDATE ON TABLES TO auditors"
        )
    may = "SELECT has_table_privilege('auditors', 'raw_hr.{}', '{}')"
    try:
        world.run("public.a", "public.b")
        assert world.rows(may.format("b", "SELECT")) == [(True,)]
        assert world.rows(may.format("b", "UPDATE")) == [(True,)]
        with psycopg.connect(world.warehouse_admin) as connection:
            connection.execute("REVOKE SELECT ON raw_hr.b FROM auditors")
        world.run("public.a", "public.b")
        assert world.rows(may.format("a", "SELECT")) == [(False,)]
        assert world.rows(may.format("b", "SELECT")) == [(False,)]
        assert world.rows(may.format("b", "UPDATE")) == [(True,)]
    finally:
        with psycopg.connect(world.warehouse_admin) as connection:
            connection.execute("DROP OWNED BY auditors; DROP ROLE auditors")
