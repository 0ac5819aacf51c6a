"""What could not be published is kept, and published later; tables of a run together, or none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from frame.failure import ExitCode, Failure, WrongUse
from ingest import run, status
from ingest.cursor import Interval
from ingest.errors import BusyError, CheckFailedError, RunFailedError
from ingest.report import Report
from tests.ingest.world import publish as published_by
from tests.ingest.world import stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ingest.world import World

SOON = "publish: {wait: 0s}\n"
TOGETHER = "publish: together\n"
TABLES = (
    "CREATE TABLE a (id int PRIMARY KEY, load int)", "INSERT INTO a VALUES (1, 1)",
    "CREATE TABLE b (id int PRIMARY KEY, load int)", "INSERT INTO b VALUES (1, 1)",
)  # fmt: skip
NEXT = ("UPDATE a SET load = load + 1", "UPDATE b SET load = load + 1")


def publish(world: World, only: str | None = None, head: str = "") -> Report:
    job = world.job(head=head)
    return run.publish(job, only, Report(job.name, job.run_id))


def loads(world: World) -> list[int]:
    ((a,), (b,)) = world.rows("SELECT load FROM raw_hr.a UNION ALL SELECT load FROM raw_hr.b")
    return [a, b]


@contextmanager
def reading(world: World, table: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(world.warehouse_admin, application_name="a report") as reader:
        reader.execute(f"SELECT count(*) FROM {table}")
        yield reader


def test_what_could_not_be_published_is_kept_and_published_without_the_source(
    world: World,
) -> None:
    world.at_source(*TABLES)
    world.run()
    world.at_source(*NEXT)
    with reading(world, "raw_hr.a"):
        with pytest.raises(RunFailedError) as failure:
            world.run(head=SOON)
        assert "raw_hr.a: expected a moment without long readers, found it held by" in str(
            failure.value
        )
        assert "postgres by a report (pid" in failure.value.message
        assert "`ingest publish FILE`" in failure.value.hint
        assert loads(world) == [1, 2], "one that others hold does not hold up the rest"
    world.at_source("DROP TABLE a, b")
    assert [each.table for each in publish(world).loaded] == ["raw_hr.a"]
    assert loads(world) == [2, 2]
    assert world.rows("SELECT status FROM ops.pipelines") == [("success",)]
    with pytest.raises(Failure, match="found none") as nothing:
        publish(world)
    assert nothing.value.exit_code == ExitCode.NOTHING_TO_DO


def test_what_is_published_late_does_not_undo_a_reset(world: World) -> None:
    world.at_source(*TABLES)
    rules = ("name: public.a\n    load: incremental",
             "name: public.b\n    load: append\n    cursor: id")  # fmt: skip
    world.run(*rules)
    world.at_source("UPDATE a SET load = 2", "INSERT INTO b VALUES (2, 2)")
    with psycopg.connect(world.warehouse_admin) as holder:
        holder.execute("LOCK TABLE raw_hr.a, raw_hr.b IN SHARE MODE")
        with pytest.raises(RunFailedError):
            world.run(*rules, head=SOON)
    job = world.job(*rules)
    with job.warehouse() as warehouse:
        status.reset(warehouse, job.pipeline, job.name, ())
        # What only the warehouse is wrong about: no increment brings it.
        warehouse.execute("UPDATE raw_hr.a SET load = 7")
        warehouse.execute("DELETE FROM raw_hr.b")
    loaded = world.run(*rules).loaded
    assert [(each.load, each.read) for each in loaded] == [("full", 1), ("append", 2)]
    for table in "ab":
        world.assert_same(f"public.{table}", f"raw_hr.{table}")
    assert [each.load for each in world.run(*rules).loaded] == ["incremental", "append"]


def test_a_kept_copy_is_overtaken_by_the_next_run_and_kept_increments_come_first(
    world: World,
) -> None:
    world.at_source(*TABLES)
    rules = ("public.a", "name: public.b\n    load: append\n    cursor: id")
    world.run(*rules)
    world.at_source("UPDATE a SET load = 2", "INSERT INTO b VALUES (2, 2)")
    with psycopg.connect(world.warehouse_admin) as holder:
        holder.execute("LOCK TABLE raw_hr.a, raw_hr.b IN SHARE MODE")
        with pytest.raises(RunFailedError):
            world.run(*rules, head=SOON)
        world.at_source("UPDATE a SET load = 3", "TRUNCATE b", "INSERT INTO b VALUES (3, 3)")
        # Nor is the append's lost while others still hold it up, by a run or by an interval.
        for how, error in (({}, RunFailedError), ({"interval": Interval("3", "4")}, BusyError)):
            with pytest.raises(error, match=r"raw_hr\.b: expected a moment without long readers"):
                world.run(*rules, head=SOON, **how)
    world.run(*rules)
    assert world.rows("SELECT load FROM raw_hr.a") == [(3,)]
    assert world.rows("SELECT id FROM raw_hr.b ORDER BY 1") == [(1,), (2,), (3,)]


def test_together_publishes_all_tables_at_one_moment_with_the_views_on_both(world: World) -> None:
    merged = ("public.a", "name: public.b\n    load: incremental")
    world.at_source(*TABLES)
    world.run(*merged, head=TOGETHER)
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute("GRANT USAGE ON SCHEMA raw_hr TO ingest_loader")
        connection.execute("SET ROLE ingest_loader")
        connection.execute(
            "CREATE VIEW raw_hr.both_ AS SELECT a.load AS a, b.load AS b FROM raw_hr.a JOIN"
            " raw_hr.b USING (id)"
        )
    for rules in (("public.*",), merged):
        world.at_source(*NEXT)
        with reading(world, "raw_hr.a"), pytest.raises(RunFailedError):
            world.run(*rules, head="publish: {tables: together, wait: 0s}\n")
        ((a, b),) = world.rows("SELECT a, b FROM raw_hr.both_")
        assert a == b
        with pytest.raises(WrongUse, match="expected all tables"):
            publish(world, "a", head=TOGETHER)
        assert len(publish(world, head=TOGETHER).loaded) == 2
        assert world.rows("SELECT a, b FROM raw_hr.both_") == [(a + 1, a + 1)]


def test_together_an_append_that_others_hold_up_is_not_overwritten(world: World) -> None:
    world.at_source(*TABLES)
    rules = ("public.a", "name: public.b\n    load: append\n    cursor: id")
    head = "publish: {tables: together, wait: 0s}\n"
    world.run(*rules, head=head)
    world.at_source("UPDATE a SET load = 2", "INSERT INTO b VALUES (2, 2)")
    with reading(world, "raw_hr.a"):
        with pytest.raises(RunFailedError):
            world.run(*rules, head=head)
        world.at_source("UPDATE a SET load = 3", "TRUNCATE b", "INSERT INTO b VALUES (3, 3)")
        with pytest.raises(BusyError, match=r"raw_hr\.a: expected a moment without long readers"):
            world.run(*rules, head=head)
    world.run(*rules, head=head)
    assert world.rows("SELECT load FROM raw_hr.a") == [(3,)]
    assert world.rows("SELECT id FROM raw_hr.b ORDER BY 1") == [(1,), (2,), (3,)]


def test_together_publishes_none_if_one_fails_its_check(world: World) -> None:
    world.at_source(*TABLES)
    rules = ("public.a", "name: public.b\n    checks: {accepted: {load: [1]}}")
    world.run(*rules, head=TOGETHER)
    world.at_source(*NEXT)
    with pytest.raises(CheckFailedError) as failure:
        world.run(*rules, head=TOGETHER)
    assert "raw_hr.a: expected all tables of the run fit to be published together, found" in str(
        failure.value
    )
    assert loads(world) == [1, 1]
    with pytest.raises(Failure, match=r"found raw_hr\.b not"):
        publish(world, head=TOGETHER)
    assert loads(world) == [1, 1]


def test_a_reader_older_than_rows_that_are_not_frozen_holds_the_swap_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pg_dump takes its snapshot before its locks: it would find the new table empty."""
    monkeypatch.setattr("ingest.staging.RANGE_BLOCKS", 1)
    monkeypatch.setattr("ingest.staging.RANGES", 2)
    world.at_source(
        "CREATE TABLE a (id int PRIMARY KEY, pad text)",
        "INSERT INTO a SELECT n, repeat('x', 900) FROM generate_series(1, 200) n",
    )
    world.run()
    with psycopg.connect(world.warehouse_admin) as dump:
        dump.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        dump.execute("SELECT 1 FROM pg_class LIMIT 1")
        with pytest.raises(RunFailedError, match="every open transaction to see its new rows"):
            world.run(head=SOON)
        assert dump.execute("SELECT count(*) FROM raw_hr.a").fetchone() == (200,)
    assert publish(world).loaded[0].rows == 200


def test_the_table_is_altered_before_its_rows_are_merged_and_only_once(world: World) -> None:
    rule = "name: public.a\n    load: incremental\n    on_schema_change: evolve"
    world.at_source(*TABLES)
    world.run(rule)
    world.at_source("ALTER TABLE a ADD note text", "INSERT INTO a VALUES (2, 2, 'new')")
    job = world.job(rule, head=SOON)
    with job.warehouse() as target:
        (staged,), _ = stage(job, target)
        run.audit(job, target, staged)
        with psycopg.connect(world.warehouse_admin) as holder:
            holder.execute("LOCK TABLE raw_hr_staging.a IN ACCESS SHARE MODE")
            with pytest.raises(Failure, match="a moment without long readers"):
                published_by(job, target, [staged])
    assert world.rows("SELECT * FROM raw_hr.a") == [(1, 1, None)]
    assert world.run(rule).loaded[0].rows == 2
    world.assert_same("public.a", "raw_hr.a")
