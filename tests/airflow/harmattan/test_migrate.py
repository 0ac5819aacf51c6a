from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import psycopg
import psycopg2.errors
import pytest
from harmattan import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

# Takes the lock, says so, holds it for a while, and says what it did in between.
HOLDER = """
import sys, time
from harmattan.migrate import only_one
with only_one(sys.argv[1]):
    print("in", time.time(), flush=True)
    time.sleep(float(sys.argv[2]))
    print("out", time.time(), flush=True)
"""


def start(uri: str, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, uri, str(seconds)],
        stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip


@pytest.fixture
def holder(database: str) -> Iterator[subprocess.Popen[str]]:
    """Another migration that holds the lock for a minute."""
    process = start(database, 60)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("in ")
    yield process
    process.kill()
    process.communicate(timeout=10)


def test_three_at_once_take_turns(database: str) -> None:
    processes = [start(database, 0.4) for _ in range(3)]
    turns = []
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        turns.append(tuple(float(line.split()[1]) for line in output.splitlines()))
    turns.sort()
    assert len(turns) == 3
    for (_, left), (entered, _) in pairwise(turns):
        assert left <= entered


def test_one_that_is_killed_leaves_the_lock_to_the_next(
    database: str, holder: subprocess.Popen[str]
) -> None:
    holder.send_signal(signal.SIGKILL)
    started = time.monotonic()
    with migrate.only_one(database):
        assert time.monotonic() - started < 10


def test_one_that_fails_leaves_the_lock_to_the_next(database: str) -> None:
    with pytest.raises(ZeroDivisionError), migrate.only_one(database):
        raise ZeroDivisionError
    with migrate.only_one(database):
        pass


@pytest.mark.usefixtures("holder")
def test_waiting_is_bounded(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", 300)
    started = time.monotonic()
    with pytest.raises(psycopg2.errors.LockNotAvailable), migrate.only_one(database):
        pytest.fail("two at once")
    assert 0.2 < time.monotonic() - started < 5


def test_half_an_hour_is_the_bound_in_the_unit_that_postgresql_reads(database: str) -> None:
    assert migrate.LOCK_TIMEOUT == 30 * 60 * 1000
    with psycopg.connect(database) as connection:
        connection.execute(f"SET lock_timeout = {migrate.LOCK_TIMEOUT}")
        assert connection.execute("SHOW lock_timeout").fetchone() == ("30min",)


@pytest.mark.usefixtures("holder")
def test_another_database_of_the_server_is_another_lock(postgres: object) -> None:
    with migrate.only_one(postgres.create_database()):  # type: ignore[attr-defined]
        pass


def test_a_uri_as_airflow_spells_it(database: str) -> None:
    with migrate.only_one(database.replace("postgresql:", "postgresql+psycopg2:")):
        with psycopg.connect(database) as connection:
            ((name, key),) = connection.execute(
                "SELECT application_name, objid FROM pg_locks JOIN pg_stat_activity USING (pid)"
                " WHERE locktype = 'advisory'"
            ).fetchall()
        assert (name, key) == ("harmattan.migrate", migrate.LOCK)
