"""Readers of a published table while it is published: how long the slowest waits, what it sees."""

from __future__ import annotations

import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.conftest import PG_BIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ingest.world import World

SOAK = pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])
VIEW = "CREATE SCHEMA marts; CREATE MATERIALIZED VIEW marts.m AS SELECT count(*) FROM raw_hr.staff"


HELD_UP = 3.0  # seconds


class Readers:
    """Reads one row again and again, until told to stop; keeps the slowest answer, in seconds."""

    def __init__(self, world: World) -> None:
        self.slowest, self.answers = 0.0, set[Any]()
        self._world, self._stop = world, False

    def run(self) -> None:
        with psycopg.connect(self._world.warehouse_admin, autocommit=True) as reader:
            while not self._stop:
                began = time.monotonic()
                self.answers |= {*reader.execute("SELECT name FROM raw_hr.staff WHERE id = 77")}
                self.slowest = max(self.slowest, time.monotonic() - began)
                time.sleep(0.005)

    def stop(self) -> None:
        self._stop = True


def nothing(_: World) -> Callable[[], object]:
    return lambda: None


def report(world: World) -> Callable[[], object]:
    """A report that is open when the table is to be published, and for some seconds more."""
    reader = psycopg.connect(world.warehouse_admin)
    reader.execute("SELECT count(*) FROM raw_hr.staff")

    def end() -> None:
        hold_up(world)
        reader.close()

    return end


def dump(world: World) -> Callable[[], object]:
    """A pg_dump that is at work as long as a report; how many rows it had."""
    process = subprocess.Popen(
        [PG_BIN / "pg_dump", "--data-only", "--table=raw_hr.staff", world.warehouse_admin],
        stdout=subprocess.PIPE,
    )

    def end() -> int:
        hold_up(world)
        return len(re.findall(rb"Name [0-9]", process.communicate(timeout=120)[0]))

    return end


def hold_up(world: World) -> None:
    """Return some seconds after the loader waits for a lock."""
    with psycopg.connect(world.warehouse_admin, autocommit=True) as watcher:
        for _ in range(2400):
            waiting = watcher.execute(
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND usename = 'ingest_loader' AND datname = current_database()"
            )
            if waiting.rowcount:
                break
            time.sleep(0.05)
    time.sleep(HELD_UP)


@pytest.mark.parametrize("rows", [20_000, SOAK])
@pytest.mark.parametrize(
    ("beside", "statement"),
    [(nothing, ""), (nothing, VIEW), (report, ""), (dump, "")],
    ids=["plain", "materialised view", "long report", "pg_dump"],
)
def test_a_reader_of_one_row_waits_for_a_second_at_most(
    world: World, rows: int, beside: Callable[[World], Callable[[], Any]], statement: str
) -> None:
    world.at_source(
        "CREATE TABLE staff (id int PRIMARY KEY, name text, load int)",
        f"INSERT INTO staff SELECT n, 'Name ' || n, 1 FROM generate_series(1, {rows}) n",
    )
    world.run()
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute(statement or "SELECT 1")
    world.at_source("UPDATE staff SET load = 2, name = 'New Name ' || id")
    readers = Readers(world)
    with ThreadPoolExecutor(3) as pool, ExitStack() as stack:
        stack.callback(readers.stop)
        reading = pool.submit(readers.run)
        end = pool.submit(beside(world))
        assert world.run().loaded[0].rows == rows
        readers.stop()
        reading.result()
        dumped = end.result()
    print(f"{beside.__name__} {statement[:30]}: slowest {readers.slowest:.3f} s of {rows} rows")
    assert readers.slowest < 1.0
    assert readers.answers <= {("Name 77",), ("New Name 77",)}
    assert dumped in {None, rows}
