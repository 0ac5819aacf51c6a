from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backup.attempt import Attempt
from backup.manifest import Sequence
from backup.postgres.connection import PostgresUri
from backup.source.snapshot import as_dumped, exclusive, exported_snapshot, lock_key
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backup.source.snapshot import Snapshot


@contextmanager
def snapshot_of(database: str) -> Iterator[Snapshot]:
    source = PostgresUri(database, "the test")
    with exported_snapshot(source, Attempt("a1", lambda: True)) as snapshot:
        snapshot.begin(lambda: source.connect("backup-count-a1"), 1, digests=True)
        yield snapshot


def test_each_name_has_a_lock_of_its_own() -> None:
    keys = {lock_key(name) for name in ("hr", "records", "service_desk")}
    assert len(keys) == 3
    assert all(-(2**63) <= key < 2**63 for key in keys)


def test_a_lock_tells_who_holds_it_and_ends_with_its_connection(database: str) -> None:
    uri = PostgresUri(database, "the test")
    with exclusive(uri, "hr"):
        with exclusive(uri, "records"):
            pass
        with (
            pytest.raises(Failure, match=r"already running \(from 127\.0\.0\.1/32 since"),
            exclusive(uri, "hr"),
        ):
            pass
    with exclusive(uri, "hr"):
        pass


def test_a_lock_of_another_role_holds_no_backup_up(database: str) -> None:
    role, password = f"stranger_{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), password)
        )
        with psycopg.connect(database, user=role, password=password) as stranger:
            stranger.execute("SELECT pg_advisory_lock(%s)", (lock_key("hr"),))
            with exclusive(PostgresUri(database, "the test"), "hr"):
                pass
        owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_truncate_cannot_come_between_count_and_dump(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("CREATE TABLE t AS SELECT generate_series(1, 5) n")
        other.execute("SET lock_timeout = '100ms'")
        with snapshot_of(database) as snapshot:
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("TRUNCATE t")
            snapshot.finish()
            assert [table.rows for table in snapshot.tables] == [5]
        other.execute("TRUNCATE t")


def test_a_count_that_still_runs_is_ended_with_the_snapshot(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("CREATE TABLE t AS SELECT generate_series(1, 500000) n")
        with snapshot_of(database):
            pass
        running = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s"
        until = time.monotonic() + 10  # a session that was left open would be there for ever
        while other.execute(running, ["harmattan-%"]).fetchone() != (0,):
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_snapshot_whose_session_was_lost_is_one_clear_error(database: str) -> None:
    ending = """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE application_name = 'harmattan-backup-snapshot-a1' AND datname = current_database()"""
    with (
        psycopg.connect(database, autocommit=True) as other,
        pytest.raises(Failure, match="session of the snapshot was lost: terminating"),
        snapshot_of(database) as snapshot,
    ):
        assert other.execute(ending).fetchall() == [(True,)]
        snapshot.finish()


def test_a_server_that_is_down_is_told_without_the_password(database: str) -> None:
    uri = PostgresUri("postgresql://u:hush@127.0.0.1:1/school", "the test")
    with pytest.raises(Failure, match="no connection to database school") as caught:
        uri.connect("test")
    assert "hush" not in caught.value.message + repr(uri)


def test_sequences_that_are_locked_at_the_end_are_waited_for_with_nothing_held(
    database: str,
) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("CREATE SEQUENCE s; CREATE TABLE t (n int)")
        with snapshot_of(database) as snapshot, ThreadPoolExecutor(1) as pool:
            # The first look keeps a lock on each sequence that there was.
            other.execute("SELECT nextval('s')")
            other.execute("CREATE SEQUENCE late; BEGIN; ALTER SEQUENCE late RENAME TO later")
            finishing = pool.submit(snapshot.finish)
            time.sleep(0.7)
            other.execute("SET lock_timeout = '1s'; TRUNCATE t")
            other.execute("COMMIT")
            finishing.result(10)
        (sequence,) = snapshot.sequences
        assert (sequence.name, sequence.before, sequence.after) == ("s", None, 1)


def test_a_snapshot_of_which_only_proofs_are_left_lets_go_of_them(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("CREATE TABLE t AS SELECT generate_series(1, 3000000) n")
        with snapshot_of(database) as snapshot:
            snapshot.watch.give_up_proofs("somebody waited")
            snapshot.finish()
        assert [table.unproved for table in snapshot.tables] == ["somebody waited"]


@pytest.mark.parametrize(
    ("before", "after", "dumped", "told"),
    [
        (3, 7, 5, (3, 7)),
        (3, 7, 9, (9, 9)),  # it was set, and set back
        (5, 5, None, (None, None)),  # it began again
        (None, 7, None, (None, 7)),
    ],
)
def test_a_sequence_that_went_back_is_told_as_it_was_dumped(
    before: int | None, after: int | None, dumped: int | None, told: tuple[int | None, int | None]
) -> None:
    looked = Sequence(schema_name="public", name="s", before=before, after=after)
    unknown = Sequence(schema_name="public", name="u", before=1, after=1)
    sequence, other = as_dumped([looked, unknown], {("public", "s"): dumped})
    assert (sequence.before, sequence.after, other) == (*told, unknown)
    assert sequence.may_stand_at(dumped)
