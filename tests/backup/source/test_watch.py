from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backup.attempt import Attempt, Disturbed
from backup.postgres.connection import PostgresUri
from backup.source import watch as module
from backup.source.sessions import DUMP, PROOF, called
from backup.source.watch import Account, Watch
from frame.failure import Failure
from tests.backup.conftest import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    Session = psycopg.Connection[tuple[Any, ...]]

NAME = "c0ffee00"
SNAPSHOT = "harmattan-backup-snapshot"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the watch lose its patience in a second."""
    monkeypatch.setattr(module, "POLL", 0.1)
    monkeypatch.setattr(module, "OTHERS_PATIENCE", 1.0)
    monkeypatch.setattr(module, "OWN_PATIENCE", 0.5)


@pytest.fixture
def table(database: str) -> str:
    """The URI of a database with the table ``t``."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT generate_series(1, 5) AS n")
    return database


@contextmanager
def session(uri: str, application: str = "app", *statements: str) -> Iterator[Session]:
    """Open a session in a transaction in which ``statements`` were executed."""
    # Closed and not left: a lost session cannot be committed.
    with closing(psycopg.connect(uri, application_name=application, autocommit=True)) as connection:
        if statements:
            connection.execute("BEGIN")
        for statement in statements:
            connection.execute(statement.encode())
        yield connection


def ours(uri: str, *statements: str, kind: str = SNAPSHOT) -> AbstractContextManager[Session]:
    return session(uri, f"{kind}-{NAME}", *statements)


@contextmanager
def elsewhere(uri: str, statement: str, application: str = "app") -> Iterator[Future[float]]:
    """Execute ``statement`` in a session of its own; the future is the seconds that it took."""

    def execute() -> float:
        with psycopg.connect(uri, application_name=application, autocommit=True) as connection:
            began = time.monotonic()
            connection.execute(statement.encode())
            return time.monotonic() - began

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(execute)


@contextmanager
def watching(uri: str, *, gives_way: bool = True) -> Iterator[Watch]:
    attempt = Attempt(NAME, lambda: gives_way)
    with Watch(PostgresUri(uri, "the test"), attempt) as watch:
        yield watch


def verdict(watch: Watch) -> Disturbed:
    """Return how the attempt was ended, once it was."""

    def ended() -> Disturbed | None:
        try:
            watch.check()
        except Disturbed as disturbed:
            return disturbed
        return None

    found = eventually(ended)
    assert isinstance(found, Disturbed)
    return found


def ending_of(session: Session) -> str:
    """Return what a session says of its end, nothing if it goes on: one ends after the other."""
    try:
        session.execute("SELECT 1")
    except psycopg.OperationalError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE t ADD COLUMN w int",
        "TRUNCATE t",
        "DROP TABLE t",
        "VACUUM FULL t",
        "CREATE INDEX CONCURRENTLY ON t (n)",
    ],
)
def test_all_is_let_go_for_who_waits_for_it(table: str, statement: str) -> None:
    snapshot = "SELECT count(*) FROM t"
    repeatable = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
    with (
        watching(table) as watch,
        ours(table, repeatable, snapshot) as held,
        ours(table, snapshot, kind=DUMP) as dump,
        elsewhere(table, statement, "migrator") as migration,
    ):
        assert migration.result(20) < 5
        found = verdict(watch)
        for connection in (held, dump):
            assert "terminating connection" in eventually(partial(ending_of, connection))
    assert "migrator (pid " in found.message
    assert "lock on " in found.message.lower()


def test_one_that_comes_again_and_again_is_waited_for_no_longer(table: str) -> None:
    with (
        watching(table) as watch,
        ours(table, "LOCK t IN ACCESS SHARE MODE"),
        session(table) as migrator,
    ):
        migrator.execute("SET lock_timeout = '300ms'")
        for _ in range(20):
            try:
                migrator.execute("ALTER TABLE t ADD COLUMN w int")
            except psycopg.errors.LockNotAvailable:
                time.sleep(0.2)
            else:
                break
        assert "public.t" in verdict(watch).message


def test_strangers_who_wait_for_each_other_end_nothing(table: str) -> None:
    with (
        watching(table) as watch,
        ours(table, "SELECT 1"),
        session(table, "app", "LOCK t") as holder,
        elsewhere(table, "ALTER TABLE t ADD COLUMN w int") as waiting,
    ):
        time.sleep(2)
        watch.check()
        holder.execute("COMMIT")
        assert waiting.result(5) > 1


def test_it_is_too_late_to_give_way_after_half_of_the_time(table: str) -> None:
    with (
        watching(table, gives_way=False) as watch,
        ours(table, "LOCK t IN ACCESS SHARE MODE") as held,
        elsewhere(table, "ALTER TABLE t ADD COLUMN w int", "migrator") as migration,
    ):
        (warning,) = eventually(lambda: watch.warnings)
        time.sleep(1)
        watch.check()
        assert len(watch.warnings) == 1, "one is warned of once"
        held.execute("COMMIT")
        migration.result(5)
    assert "did not give way" in warning
    assert "migrator" in warning
    assert "AccessExclusiveLock on public.t" in warning


def test_only_proofs_are_given_up_once_the_dump_is_done(table: str) -> None:
    given_up: list[str] = []
    with (
        watching(table) as watch,
        ours(table, "LOCK t IN ACCESS SHARE MODE") as held,
    ):
        watch.give_up_proofs = given_up.append
        with ours(table, "SELECT 1", kind=DUMP):
            time.sleep(0.5)
        with elsewhere(table, "TRUNCATE t", "loader") as load:
            eventually(lambda: given_up)
            watch.check()
            held.execute("COMMIT")
            load.result(5)
    assert "loader" in given_up[0]


def test_a_dump_that_waits_itself_ends_the_attempt_and_names_who_holds(table: str) -> None:
    with (
        watching(table, gives_way=False) as watch,
        session(table, "idler", "LOCK t"),
        elsewhere(table, "BEGIN; LOCK TABLE t IN ACCESS SHARE MODE", f"{DUMP}-{NAME}") as dump,
    ):
        message = verdict(watch).message
        assert isinstance(dump.exception(5), psycopg.errors.AdminShutdown)
    assert "AccessShareLock on public.t, held or wanted by idler (pid" in message


def test_a_proof_that_waits_ends_nothing(table: str) -> None:
    with (
        watching(table) as watch,
        session(table, "app", "LOCK t") as holder,
        elsewhere(table, "BEGIN; LOCK TABLE t IN ACCESS SHARE MODE", f"{PROOF}-{NAME}") as proof,
    ):
        time.sleep(1.5)
        watch.check()
        holder.execute("COMMIT")
        proof.result(5)


def test_a_role_without_rights_sees_who_waits(table: str) -> None:
    with psycopg.connect(table, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS nobody_special")
        connection.execute("CREATE ROLE nobody_special LOGIN PASSWORD 'x'")
        connection.execute("GRANT SELECT ON t TO nobody_special")
    host = table.rpartition("@")[2]
    role = f"postgresql://nobody_special:x@{host}"
    with (
        watching(role) as watch,
        ours(role, "SELECT count(*) FROM t"),
        elsewhere(table, "ALTER TABLE t ADD COLUMN w int", "migrator") as migration,
    ):
        assert migration.result(20) < 5
        assert "migrator" in verdict(watch).message


def test_another_roles_session_is_not_ours_whatever_it_is_called(table: str) -> None:
    with psycopg.connect(table, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS impostor")
        connection.execute("CREATE ROLE impostor LOGIN SUPERUSER PASSWORD 'x'")
    host = table.rpartition("@")[2]
    with (
        watching(table) as watch,
        ours(f"postgresql://impostor:x@{host}", "LOCK t IN ACCESS SHARE MODE") as impostor,
        elsewhere(table, "TRUNCATE t") as waiting,
    ):
        time.sleep(1.5)
        watch.check()
        impostor.execute("COMMIT")
        waiting.result(5)


def test_a_watch_whose_session_is_lost_opens_another(table: str) -> None:
    ending = f"""SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE application_name = 'harmattan-backup-watch-{NAME}'"""
    with watching(table) as watch, session(table) as other:
        assert other.execute(ending.encode()).fetchall() == [(True,)]
        with (
            ours(table, "LOCK t IN ACCESS SHARE MODE"),
            elsewhere(table, "TRUNCATE t") as load,
        ):
            assert load.result(20) < 5
            verdict(watch)


def test_a_watch_that_sees_nothing_ends_the_attempt(
    table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLIND", 1.0)
    with watching(table) as watch, session(table) as other:
        monkeypatch.setattr(
            watch, "_uri", PostgresUri("postgresql://nobody:x@127.0.0.1:1/none", "the test")
        )
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ %s",
            [f"watch-{NAME}"],
        )
        assert "could not be seen who waits" in verdict(watch).message


def test_waiting_adds_up_until_it_is_forgotten() -> None:
    account = Account(30)
    assert account.note(0, 1, waits=True) == 1
    assert account.note(1, 2, waits=False) == 1
    assert account.note(11, 13, waits=True) == 3
    assert account.note(13, 42, waits=False) == 3
    assert account.note(42, 43, waits=False) == 0
    assert account.note(43, 44, waits=True) == 1


def test_a_prepared_transaction_which_has_no_session_is_told_as_one() -> None:
    assert "pg_prepared_xacts" in called(0, None)
    assert called(7, None) == "somebody (pid 7)"


def test_a_pooler_that_drops_the_names_of_sessions_is_told_before_anything_is_locked(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PostgresUri.connect
    monkeypatch.setattr(PostgresUri, "connect", lambda uri, _, **more: real(uri, "", **more))
    with pytest.raises(Failure, match="does not hear the application_name"), watching(database):
        pass
