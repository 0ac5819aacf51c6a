"""A run that is killed at any moment leaves the old or the new, and the next one ends well."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests import forked
from tests.ingest.killed import kill, settle
from tests.ingest.staff import rule

if TYPE_CHECKING:
    from tests.forked import Forked
    from tests.ingest.world import World

# What the warehouse is doing at the moment of the kill, as its own servers' sessions tell.
STAGES = {
    "before the first statement": "",
    "extract": "query LIKE 'COPY %STDIN%' AND state = 'active'",
    "key": "query LIKE 'ALTER TABLE %PRIMARY KEY%' AND state = 'active'",
    "audit": "query LIKE '%pg_sleep%' AND state = 'active'",
    "publish": "query LIKE 'LOCK TABLE%' AND state = 'active'",
    "merge": "query LIKE 'WITH merged%' AND state = 'active'",
}
ROWS = 60_000
STAFF = (
    "CREATE TABLE staff (id int PRIMARY KEY, name text, updated_at timestamptz)",
    f"INSERT INTO staff SELECT n, 'old', '2026-01-01' FROM generate_series(1, {ROWS}) n",
)
# Keys of so few rows are made too fast to be seen.
SLOW_KEYS = """
    CREATE FUNCTION public.slow() RETURNS event_trigger LANGUAGE plpgsql AS
      'BEGIN IF current_query() LIKE ''%PRIMARY KEY%'' THEN PERFORM pg_sleep(1); END IF; END';
    CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
      EXECUTE FUNCTION public.slow();
"""
CHECK = '{sql: {slow: "select pg_sleep(0.5) is not null and count(*) > 0 from {table}"}}'


def start(world: World, text: str) -> Forked:
    uris = {
        "AIRFLOW_CONN_HR": world.source,
        "AIRFLOW_CONN_WAREHOUSE": world.warehouse,
        "AIRFLOW_CONN_WAREHOUSE_CHECKS": world.checks,
    }
    return forked.fork("ingest", "run", world.file(text), env=os.environ | uris)


def assert_old_or_new(world: World, new: str) -> str:
    """Every row is of one load, and state says of which."""
    ((rows, low, high),) = world.rows("SELECT count(*), min(name), max(name) FROM raw_hr.staff")
    assert low == high in {"old", new}
    ((told, cursor),) = world.rows("SELECT rows, cursor_value FROM ops.state")
    assert rows == told == ROWS
    assert cursor is None or cursor.startswith("2026-01-01" if high == "old" else "2026-02-01")
    return str(high)


@pytest.mark.parametrize(
    ("load", "stage"),
    [
        ("full", "before the first statement"),
        ("full", "extract"),
        ("full", "key"),
        ("full", "audit"),
        ("full", "publish"),
        ("incremental", "extract"),
        ("incremental", "audit"),
        ("incremental", "merge"),
    ],
)
def test_a_kill_at_each_stage_leaves_one_whole_load_and_a_rerun_ends_well(
    world: World, stage: str, load: str
) -> None:
    incremental = {"load": "incremental"} if load == "incremental" else {
        "load": "", "cursor": "", "lookback": ""
    }  # fmt: skip
    text = rule(**incremental, checks=CHECK)
    world.at_source(*STAFF)
    world.run(rule(**incremental))
    world.at_source("UPDATE staff SET name = 'new', updated_at = '2026-02-01'")
    holder = psycopg.connect(world.warehouse_admin)
    if stage == "key":
        with psycopg.connect(world.warehouse_admin) as connection:
            connection.execute(SLOW_KEYS)
    # A reader of the table, or a writer of a row, that holds the last step up.
    if stage == "publish":
        holder.execute("LOCK TABLE raw_hr.staff IN ACCESS SHARE MODE")
    if stage == "merge":
        holder.execute("SELECT FROM raw_hr.staff WHERE id = 5 FOR UPDATE")
    with holder, psycopg.connect(world.warehouse_admin, autocommit=True) as watching:
        process = start(world, text)
        deadline = time.monotonic() + 60
        query = (
            "SELECT FROM pg_stat_activity WHERE application_name LIKE 'ingest%'"
            f" AND {STAGES[stage]}"
        )
        while STAGES[stage] and not watching.execute(query.encode()).fetchall():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "it does not come to this"
        kill(process)
    assert process.returncode == -signal.SIGKILL, "it had not ended before"
    settle(world)
    assert_old_or_new(world, "new")
    assert world.rows("SELECT DISTINCT name FROM raw_hr.staff") == [("old",)], "it was in time"
    world.run(text)
    assert assert_old_or_new(world, "new") == "new"
    world.assert_same("public.staff", "raw_hr.staff")
    assert not world.rows(
        "SELECT FROM pg_class WHERE relnamespace = 'raw_hr_staging'::regnamespace"
    )


@pytest.mark.parametrize("rounds", [5, pytest.param(60, marks=pytest.mark.soak)])
def test_kills_at_random_moments_never_leave_half_a_load(
    world: World, rounds: int, seed: int
) -> None:
    chance = random.Random(seed)
    world.at_source(*STAFF)
    text = rule(deletes="detect", lookback="40d")
    world.run(text)
    began = time.monotonic()
    assert start(world, text).wait(60) == 0
    whole = time.monotonic() - began
    names = ["old"]
    for place in range(rounds):
        name = f"round {place}"
        names.append(name)
        world.at_source(f"UPDATE staff SET name = '{name}', updated_at = '2026-02-01'")
        process = start(world, text)
        time.sleep(chance.uniform(0, 1.3 * whole))
        kill(process)
        settle(world)
        ((rows, low, high),) = world.rows("SELECT count(*), min(name), max(name) FROM raw_hr.staff")
        assert (rows, low == high, low in names) == (ROWS, True, True), name
        # What a killed run had staged and checked may be what the next one published first.
        del names[: names.index(low)]
    world.run(text)
    world.assert_same("public.staff", "raw_hr.staff")


def test_a_signal_ends_a_run_at_once_and_in_order(world: World) -> None:
    world.at_source(
        "CREATE TABLE slow (id int)",
        "INSERT INTO slow SELECT generate_series(1, 5)",
        "CREATE VIEW crawl AS SELECT id, pg_sleep(20)::text AS nap FROM slow",
    )
    process = start(world, "public.crawl")
    for _ in range(300):
        if world.rows("SELECT FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT %crawl%'"):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(15) != 0
    settle(world)
    assert world.rows("SELECT to_regclass('raw_hr.crawl')") == [(None,)]
    assert json.dumps(world.rows("SELECT status FROM ops.runs")) == '[["running"]]'
