from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import psycopg
import pytest

from frame.failure import Failure
from harmattan import migrate
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer

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
        assert time.monotonic() - started < 30


def test_one_that_fails_leaves_the_lock_to_the_next(database: str) -> None:
    with pytest.raises(ZeroDivisionError), migrate.only_one(database):
        raise ZeroDivisionError
    with migrate.only_one(database):
        pass


@pytest.mark.usefixtures("holder")
def test_waiting_is_bounded(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", 300)
    started = time.monotonic()
    with pytest.raises(psycopg.errors.LockNotAvailable), migrate.only_one(database):
        pytest.fail("two at once")
    assert 0.2 < time.monotonic() - started < 30


def test_half_an_hour_is_the_bound_in_the_unit_that_postgresql_reads(database: str) -> None:
    assert migrate.LOCK_TIMEOUT == 30 * 60 * 1000
    with psycopg.connect(database) as connection:
        connection.execute(f"SET lock_timeout = {migrate.LOCK_TIMEOUT}")
        assert connection.execute("SHOW lock_timeout").fetchone() == ("30min",)


@pytest.mark.usefixtures("holder")
def test_another_database_of_the_server_is_another_lock(postgres: object) -> None:
    other, entered = postgres.create_database(), False  # type: ignore[attr-defined]
    with migrate.only_one(other):
        entered = True
    assert entered


def test_a_uri_as_airflow_spells_it(database: str) -> None:
    with migrate.only_one(database.replace("postgresql:", "postgresql+psycopg2:")):
        with psycopg.connect(database) as connection:
            ((name, key),) = connection.execute(
                "SELECT application_name, objid FROM pg_locks JOIN pg_stat_activity USING (pid)"
                " WHERE locktype = 'advisory'"
            ).fetchall()
        assert (name, key) == ("harmattan.migrate", migrate.LOCK)


def test_a_database_that_comes_later_is_waited_for(postgres: PostgresServer) -> None:
    uri = postgres.create_database()
    name = uri.rpartition("/")[2]
    with psycopg.connect(postgres.uri(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name}")
        process = start(uri, 0)
        assert process.stdout is not None
        assert process.stdout.readline() == (
            "Airflow's database: a database that the server does not have; it is asked again\n"
        )
        connection.execute(f"CREATE DATABASE {name}")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "in " in output


@pytest.mark.slow
def test_a_database_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "DATABASE_TIMEOUT", 1.5)
    uri = f"postgresql://airflow:a-password@127.0.0.1:{free_port()}/airflow"
    with pytest.raises(Failure) as caught, migrate.only_one(uri):
        pytest.fail("no server is there")
    assert "expected a connection, found nothing that listens there" in str(caught.value)
    assert "a-password" not in str(caught.value)


@pytest.fixture
def roles(database: str) -> Iterator[tuple[str, str]]:
    """A web server's and a scheduler's role, which may write two tables of Airflow's."""
    names = tuple(f"{name}-{secrets.token_hex(4)}" for name in ("web", "scheduler"))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE ab_user (id int); CREATE TABLE dag_run (id int)")
        for name in names:
            connection.execute(f'CREATE ROLE "{name}"')
            connection.execute(f'GRANT SELECT, INSERT, UPDATE ON ab_user, dag_run TO "{name}"')
        yield names
        for name in names:
            connection.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')


def test_accounts_are_the_web_servers_alone_to_write(database: str, roles: tuple[str, str]) -> None:
    for _ in range(2):
        migrate.guard(database, roles[0], "not-there")
    with psycopg.connect(database) as connection:
        rights = connection.execute(
            "SELECT role, tables, array_agg(right_ ORDER BY right_)"
            " FROM unnest(%s::text[]) role, unnest('{ab_user,dag_run}'::text[]) tables,"
            " unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) right_"
            " WHERE has_table_privilege(role, tables, right_) GROUP BY 1, 2",
            [list(roles)],
        ).fetchall()
    web, scheduler = roles
    assert {(role, table): "".join(right[0] for right in each) for role, table, each in rights} == {
        (web, "ab_user"): "ISU",
        (web, "dag_run"): "ISU",
        (scheduler, "ab_user"): "S",
        (scheduler, "dag_run"): "ISU",
    }
