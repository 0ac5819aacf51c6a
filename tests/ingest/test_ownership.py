"""Only what ops says is ours is ever replaced, dropped or altered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from frame.failure import Failure
from ingest import names, run
from ingest.errors import RunFailedError
from ingest.job import Job, Scope
from tests.ingest.world import publish, stage

if TYPE_CHECKING:
    from tests.ingest.world import World

STAFF = ("CREATE TABLE staff (id int PRIMARY KEY)", "INSERT INTO staff VALUES (1), (2)")


def at_warehouse(world: World, *statements: str) -> None:
    with psycopg.connect(world.warehouse_admin) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        ("table", "CREATE TABLE raw_hr.staff AS SELECT 'by hand' AS id"),
        ("view", "CREATE VIEW raw_hr.staff AS SELECT 'by hand' AS id"),
        ("sequence", "CREATE SEQUENCE raw_hr.staff"),
    ],
)
def test_what_somebody_made_under_a_published_name_stays_and_is_named(
    world: World, kind: str, statement: str
) -> None:
    world.at_source(*STAFF, "CREATE TABLE other (id int)")
    world.run("public.other")
    at_warehouse(world, statement)
    before = world.rows("SELECT oid FROM pg_class WHERE relname = 'staff'")
    with pytest.raises(RunFailedError) as failure:
        world.run()
    assert f"warehouse: {kind} raw_hr.staff: expected nothing of that name" in str(failure.value)
    assert "one that postgres owns" in str(failure.value)
    assert "move it into another schema" in failure.value.hint
    assert world.rows("SELECT oid FROM pg_class WHERE relname = 'staff'") == before
    assert not run.foresee(world.job(), Scope()).plans[1:], "plan says so, too"


def test_a_published_table_that_a_dba_made_again_is_not_ours(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, "DROP TABLE raw_hr.staff", "CREATE TABLE raw_hr.staff (id text)",
                 "ALTER TABLE raw_hr.staff OWNER TO ingest_loader")  # fmt: skip
    with pytest.raises(RunFailedError, match="one that ingest_loader owns and ingest does not"):
        world.run()
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(0,)]
    at_warehouse(world, "ALTER TABLE raw_hr.staff RENAME TO mine")
    assert world.run().loaded[0].rows == 2


def test_a_table_that_is_made_while_rows_are_read_is_not_replaced(world: World) -> None:
    world.at_source(*STAFF)
    job = world.job()
    with job.warehouse() as target:
        (staged,), _ = stage(job, target)
        at_warehouse(world, "CREATE VIEW raw_hr.staff AS SELECT 1 AS one")
        with pytest.raises(Failure, match=r"view raw_hr\.staff: expected nothing of that name"):
            publish(job, target, [staged])


def test_columns_that_somebody_added_to_a_published_table_do_not_go(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, "ALTER TABLE raw_hr.staff ADD note text DEFAULT 'kept'")
    with pytest.raises(RunFailedError, match="found note, which somebody added"):
        world.run()
    assert world.rows("SELECT DISTINCT note FROM raw_hr.staff") == [("kept",)]
    at_warehouse(world, "ALTER TABLE raw_hr.staff DROP note")
    assert world.run().loaded[0].rows == 2


@pytest.mark.parametrize("name", ["staff", names.helper("staff", "keys")])
def test_a_table_that_somebody_made_in_staging_stays(world: World, name: str) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(world, f'CREATE TABLE raw_hr_staging."{name}" ()')
    with pytest.raises(RunFailedError, match=r"table raw_hr_staging\..*: expected nothing of that"):
        world.run()


@pytest.mark.parametrize("name", ["staff~keys", "staff~candidate"])
def test_a_table_that_is_called_as_a_helper_of_another_was_called_arrives(
    world: World, name: str
) -> None:
    world.at_source(*STAFF, f'CREATE TABLE "{name}" AS SELECT n FROM generate_series(1, 100000) n')
    for _ in range(2):
        done = world.run(
            "name: public.staff\n    load: incremental", f"name: 'public.\"{name}\"'",
            head="limits: {jobs: 1}\n",
        )  # fmt: skip
        assert len(done.loaded) == 2
    assert world.rows(f'SELECT count(*) FROM raw_hr."{name}"') == [(100000,)]


def clean(job: Job) -> object:
    return run.clean(job, everything=True)


def test_two_files_with_one_schema_are_refused_at_run_time(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    second = Job(world.pipeline(), "people", "two", world.resolve)
    for step in (run.run, lambda job: run.foresee(job, Scope()), clean):
        with pytest.raises(Failure, match="tables of the pipeline people alone, found those of hr"):
            step(second)
    with pytest.raises(Failure) as failure:
        run.run(second)
    at_warehouse(world, failure.value.hint.partition("its own by: ")[2])
    assert run.run(second).loaded[0].reason == "load: full", "a file that was renamed goes on"


def test_an_older_release_s_tables_are_ours(world: World) -> None:
    world.at_source(*STAFF)
    world.run()
    at_warehouse(
        world,
        "ALTER TABLE ops.state DROP oid",
        "DROP TABLE ops.staging",
        "CREATE TABLE raw_hr_staging.staff ()",
    )
    due = run.foresee(world.job(), Scope())
    assert (due.plans[0].read.reason, due.failed) == ("load: full", {})
    assert world.run().loaded[0].rows == 2
