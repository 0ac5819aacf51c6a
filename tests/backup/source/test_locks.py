from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from backup.attempt import Attempt, Disturbed
from backup.postgres.connection import PostgresUri
from backup.source import locks
from backup.source.locks import begin_locked, check_names
from backup.source.sessions import look
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "c0ffee00"
TABLES = "CREATE TABLE a AS SELECT 1 AS n; CREATE TABLE b AS SELECT 1 AS n"


@contextmanager
def locked(uri: str) -> Iterator[psycopg.Connection[tuple[int]]]:
    """Hold every table, as an attempt called NAME does, and its snapshot."""
    source = PostgresUri(uri, "the test")
    with (
        closing(source.connect("watch")) as watch,
        closing(source.connect(f"backup-snapshot-{NAME}", lock_timeout=locks.SLICE)) as connection,
    ):
        attempt = Attempt(NAME, lambda: True)
        begin_locked(connection, lambda: bool(look(watch, attempt).for_us()))
        yield connection


def rows(connection: psycopg.Connection[tuple[int]], table: str) -> int:
    ((count,),) = connection.execute(f"SELECT count(*) FROM public.{table}".encode()).fetchall()
    return count


# What is open while the backup begins, and is committed a little later.
OPEN = {
    "truncate and load": "TRUNCATE a; INSERT INTO a SELECT generate_series(1, 1000)",
    "swap by rename": """CREATE TABLE c AS SELECT generate_series(1, 1000) AS n;
        ALTER TABLE a RENAME TO old; ALTER TABLE c RENAME TO a""",
    "swap by drop": """CREATE TABLE c AS SELECT generate_series(1, 1000) AS n;
        DROP TABLE a; ALTER TABLE c RENAME TO a""",
    "rewrite": """INSERT INTO a SELECT generate_series(2, 1000);
        ALTER TABLE a ALTER n TYPE text""",
    "a partition": """ALTER TABLE a RENAME TO part; CREATE TABLE a (n int) PARTITION BY RANGE (n);
        ALTER TABLE a ATTACH PARTITION part FOR VALUES FROM (0) TO (2000);
        INSERT INTO a SELECT generate_series(2, 1000)""",
}


@pytest.mark.parametrize("change", OPEN.values(), ids=OPEN)
def test_what_is_open_at_the_start_is_seen_as_it_was_committed(database: str, change: str) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        other.execute(TABLES)
        other.execute("BEGIN")
        other.execute(change.encode())
        commit = threading.Timer(0.7, other.execute, ["COMMIT"])
        commit.start()
        until = time.monotonic() + 10
        while True:
            try:
                with locked(database) as connection:
                    assert rows(connection, "a") == 1000
                    check_names(connection)
                break
            except Disturbed:
                assert time.monotonic() < until
        commit.join()


def test_a_table_that_stays_locked_is_named_with_its_holder(database: str) -> None:
    with closing(psycopg.connect(database, application_name="idler")) as other:
        other.execute(TABLES)
        other.commit()
        other.execute("LOCK b")
        began = time.monotonic()
        with (
            pytest.raises(Disturbed, match=r"public\.b is held by idler \(pid \d+\)"),
            locked(database),
        ):
            pass
        assert 1 < time.monotonic() - began < 20


def test_nobody_waits_behind_a_lock_that_is_waited_for(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration that holds one table wants another that we have: it is not stopped by us."""
    monkeypatch.setattr(locks, "BATCH", 1)
    with (
        closing(psycopg.connect(database, autocommit=True)) as migrator,
        ThreadPoolExecutor(1) as pool,
    ):
        migrator.execute(TABLES)
        migrator.execute("BEGIN")
        migrator.execute("ALTER TABLE b ADD COLUMN w int")
        waiting = pool.submit(_outcome, database)
        time.sleep(0.5)  # it has a, and waits for b
        began = time.monotonic()
        migrator.execute("ALTER TABLE a ADD COLUMN w int")  # and would be ended as a deadlock
        assert time.monotonic() - began < 10
        migrator.execute("COMMIT")
        assert "no lock on a table" in waiting.result(10)


def _outcome(uri: str) -> str:
    try:
        with locked(uri):
            return "locked"
    except Disturbed as disturbed:
        return disturbed.message


def test_a_migration_is_never_the_victim_of_a_deadlock(database: str) -> None:
    """It waits for our table just before we wait for its own."""
    source, attempt = PostgresUri(database, "the test"), Attempt(NAME, lambda: True)
    with (
        closing(psycopg.connect(database, autocommit=True)) as migrator,
        closing(source.connect("watch")) as watch,
        closing(source.connect(f"backup-snapshot-{NAME}", lock_timeout=locks.SLICE)) as ours,
    ):
        migrator.execute(TABLES)
        migrator.execute("BEGIN; LOCK TABLE b")
        ours.execute("BEGIN; LOCK TABLE public.a IN ACCESS SHARE MODE")
        wanting = threading.Thread(target=migrator.execute, args=["LOCK TABLE a"])
        wanting.start()
        time.sleep(0.5)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            locks._lock(ours, [("public", "b")], lambda: bool(look(watch, attempt).for_us()))
        ours.execute("ROLLBACK")
        wanting.join(5)
        migrator.execute("SELECT 1")  # it lives, and its transaction too
        assert migrator.info.transaction_status == TransactionStatus.INTRANS


def test_a_table_that_came_meanwhile_is_not_left_without_a_lock(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        other.execute(TABLES)

        def make(*_: object) -> bool:
            other.execute("CREATE TABLE late AS SELECT 1 AS n")
            return False

        with closing(PostgresUri(database, "the test").connect("snapshot")) as connection:
            real = locks._lock
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(locks, "_lock", lambda *of: (real(*of), make())[0])
                with pytest.raises(Disturbed, match=r"public\.late is new"):
                    begin_locked(connection, lambda: False)
        with locked(database) as connection:
            assert rows(connection, "late") == 1


def test_a_schema_that_changed_places_is_noticed(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("CREATE SCHEMA live; CREATE TABLE live.t (n int)")
        other.execute("CREATE SCHEMA next; CREATE TABLE next.t (n int)")
        with locked(database) as connection:
            check_names(connection)
            other.execute("ALTER SCHEMA live RENAME TO old; ALTER SCHEMA next RENAME TO live")
            with pytest.raises(Disturbed, match=r"live\.t is now old\.t"):
                check_names(connection)


def test_a_table_without_rights_is_told_as_such(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        other.execute(TABLES)
        other.execute("DROP ROLE IF EXISTS blind")
        other.execute("CREATE ROLE blind LOGIN PASSWORD 'x'")
    role = f"postgresql://blind:x@{database.rpartition('@')[2]}"
    with pytest.raises(psycopg.errors.InsufficientPrivilege), locked(role):
        pass


def test_a_server_without_room_for_the_locks_is_refused_by_name(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise psycopg.errors.OutOfMemory("out of shared memory")

    with psycopg.connect(database, autocommit=True) as other:
        other.execute(TABLES)
    monkeypatch.setattr(locks, "_lock", full)
    with pytest.raises(Failure, match="no room to lock 2 tables") as caught, locked(database):
        pass
    assert "max_locks_per_transaction to 128 or more" in caught.value.hint
    assert not isinstance(caught.value, Disturbed)
