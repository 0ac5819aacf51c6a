"""A large table, read in ranges by several sessions at once, is one copy of one moment."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest import run, staging
from ingest.errors import CheckFailedError
from ingest.job import Scope
from ingest.limits import JOBS
from tests.ingest.killed import kill, settle
from tests.ingest.world import stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.run import Loaded
    from tests.ingest.world import World

ROWS, TOTAL = 100_000, 100_000_000
ACCOUNTS = (
    "CREATE TABLE accounts (id int PRIMARY KEY, owner text, balance bigint)",
    f"INSERT INTO accounts SELECT n, 'old ' || repeat('x', n % 90), 1000"
    f" FROM generate_series(1, {ROWS}) n",
    "ANALYZE accounts",
)
BLOCKS = 16  # in place of 2048, of which a hundred thousand rows are not one
# A process of its own, which a test can kill.
SMALL = f"""
from ingest import staging
from ingest.__main__ import run
staging.RANGE_BLOCKS, staging.RANGES = {BLOCKS}, {JOBS}
run()
"""


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "RANGE_BLOCKS", BLOCKS)
    monkeypatch.setattr(staging, "RANGES", JOBS)


@contextmanager
def money_moves(world: World) -> Iterator[list[int]]:
    """Move rows and what is in them about while the block runs; yield how often, so far."""
    stop, times, chance = threading.Event(), [0], random.Random(7)

    def move() -> None:
        with psycopg.connect(world.source_admin, autocommit=True) as connection:
            while not stop.is_set():
                first, second = chance.sample(range(1, ROWS + 1), 2)
                with connection.transaction():
                    change = "UPDATE accounts SET balance = balance + %s WHERE id = %s"
                    connection.execute(change, [-1, first])
                    connection.execute(change, [1, second])
                    connection.execute(
                        "WITH gone AS (DELETE FROM accounts WHERE id = %s RETURNING *)"
                        " INSERT INTO accounts SELECT -id, owner, balance FROM gone",
                        [first],
                    )
                    connection.execute("UPDATE accounts SET id = %s WHERE id = %s", [first, -first])
                times[0] += 1

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield times
    finally:
        stop.set()
        thread.join(30)


def load(world: World, **how: object) -> Loaded:
    (loaded,) = world.run("public.accounts", **how).loaded
    return loaded


def test_a_table_that_changes_meanwhile_is_copied_as_of_one_moment(world: World) -> None:
    world.at_source(*ACCOUNTS)
    (plan,) = run.foresee(world.job("public.accounts"), Scope()).plans
    assert len(staging.parts(plan, JOBS)) == 64
    with money_moves(world) as times:
        for _ in range(3):
            before = times[0]
            assert load(world).read == ROWS
            assert times[0] > before, "nothing moved meanwhile"
            assert world.rows("SELECT count(*), sum(balance) FROM raw_hr.accounts") == [
                (ROWS, TOTAL)
            ]
    load(world)
    world.assert_same("public.accounts", "raw_hr.accounts")


def test_every_number_of_sessions_brings_the_same_rows(world: World) -> None:
    world.at_source(*ACCOUNTS, "DELETE FROM accounts WHERE id BETWEEN 20000 AND 60000")
    for jobs in (1, 2, 7):
        assert load(world, jobs=jobs).rows == ROWS - 40_001
        world.assert_same("public.accounts", "raw_hr.accounts")


def test_a_filled_partition_that_is_attached_between_two_ranges_is_for_the_next_run(
    world: World,
) -> None:
    world.at_source(
        "CREATE TABLE accounts (id int NOT NULL, owner text) PARTITION BY RANGE (id)",
        "CREATE TABLE early PARTITION OF accounts FOR VALUES FROM (0) TO (50000)",
        "CREATE TABLE late (LIKE accounts)",
        *(f"INSERT INTO {name} SELECT n, repeat('x', 90) FROM generate_series({first}, {last}) n"
          for name, first, last in (("accounts", 1, 49_999), ("late", 50_000, 99_999))),
        "ANALYZE",
    )  # fmt: skip
    attach = ["ALTER TABLE accounts ATTACH PARTITION late FOR VALUES FROM (50000) TO (100000)"]

    def attached(_table: str, _size: int) -> None:
        with suppress(IndexError):
            world.at_source(attach.pop())

    (plan,) = run.foresee(world.job("public.accounts"), Scope()).plans
    assert len(staging.parts(plan, 2)) > 8
    assert load(world, jobs=2, progress=attached).rows == 49_999
    assert not attach
    assert load(world, jobs=2).rows == 99_999
    world.assert_same("public.accounts", "raw_hr.accounts")


def test_rows_of_a_lost_range_are_missed(world: World) -> None:
    world.at_source(*ACCOUNTS)
    job = world.job("public.accounts")
    with job.warehouse() as target:
        (staged,), _ = stage(job, target)
        with psycopg.connect(world.warehouse_admin) as connection:
            lost = connection.execute(
                "DELETE FROM raw_hr_staging.accounts WHERE ctid < '(40,0)'"
            ).rowcount
        with pytest.raises(CheckFailedError, match=rf"source's {ROWS} rows, found {ROWS - lost}"):
            run.audit(job, target, staged)


def test_a_kill_between_two_ranges_leaves_the_old_and_a_rerun_brings_the_new(world: World) -> None:
    world.at_source(*ACCOUNTS)
    load(world)
    world.at_source("UPDATE accounts SET owner = 'new'", "ANALYZE accounts")
    process = subprocess.Popen(
        [sys.executable, "-c", SMALL, "run", world.file("public.accounts")],
        env=os.environ
        | {"AIRFLOW_CONN_HR": world.source, "AIRFLOW_CONN_WAREHOUSE": world.warehouse},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with psycopg.connect(world.warehouse_admin, autocommit=True) as watch:
        deadline = time.monotonic() + 60
        landed = 0
        while not landed and process.poll() is None and time.monotonic() < deadline:
            # Rows of a range that has landed, while another is on its way.
            found = watch.execute("SELECT to_regclass('raw_hr_staging.accounts')::text").fetchone()
            if found and found[0]:
                ((landed,),) = watch.execute(
                    "SELECT count(*) FROM (SELECT FROM raw_hr_staging.accounts LIMIT 1) AS one"
                ).fetchall()
        assert process.poll() is None
        assert landed
        kill(process)
    settle(world)
    assert world.rows("SELECT count(*), count(*) FILTER (WHERE owner = 'new')"
                      " FROM raw_hr.accounts") == [(ROWS, 0)]  # fmt: skip
    assert world.rows("SELECT obj_description('raw_hr_staging.accounts'::regclass)") == [(None,)]
    assert load(world).rows == ROWS
    world.assert_same("public.accounts", "raw_hr.accounts")
    assert not world.rows(
        "SELECT FROM pg_class WHERE relnamespace = 'raw_hr_staging'::regnamespace"
    )
