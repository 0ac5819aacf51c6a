"""What stands in the way of a table's proof is told of that table, and ends nothing else."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backup.postgres.connection import PostgresUri
from backup.source.contents import list_tables
from backup.source.digests import reason
from backup.source.inventory import Inventory
from frame.failure import Failure
from tests.backup.conftest import eventually

if TYPE_CHECKING:
    from backup.manifest import TableContents


def inventory(uri: str, *, digests: bool = True, jobs: int = 1, **more: Any) -> Inventory:
    """Start an inventory of all tables that the superuser sees, by ``uri``."""
    with PostgresUri(uri, "the test").connect("test") as connection:
        tables = list_tables(connection)
    connect = more.pop("connect", lambda: PostgresUri(uri, "the test").connect("backup-count"))
    return Inventory(connect, jobs, tables, digests=digests, **more)


def told(tables: tuple[TableContents, ...]) -> dict[str, tuple[int | None, str, str | None]]:
    """Return rows, manner and reason of each table."""
    return {
        table.table: (
            table.rows,
            "-" if table.digest is None else table.digest.partition(":")[0],
            table.unproved,
        )
        for table in tables
    }


def make(database: str, *statements: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


UNQUALIFIED = """
CREATE EXTENSION unaccent;
CREATE FUNCTION plain(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT unaccent($1)';
CREATE TABLE people (name text); INSERT INTO people VALUES ('Afua'), ('Kwabéna'), (NULL);
CREATE INDEX ON people (plain(name)) WHERE plain('ɛ') <> 'x';
CREATE TABLE others (a int); INSERT INTO others VALUES (1);
"""


@pytest.mark.parametrize(("digests", "manners"), [(True, ("copy", "columns")), (False, "--")])
def test_an_index_whose_function_misses_its_schema_is_in_nobodys_way(
    database: str, digests: bool, manners: tuple[str, str]
) -> None:
    make(database, UNQUALIFIED)
    with inventory(database, digests=digests) as taken:
        assert told(taken.tables()) == {
            "people": (3, manners[0], None), "others": (1, manners[1], None)
        }  # fmt: skip


def test_a_digest_by_copy_tells_every_change_and_no_order(database: str) -> None:
    make(database, UNQUALIFIED)

    def digest() -> str | None:
        with inventory(database) as taken:
            return next(each.digest for each in taken.tables() if each.table == "people")

    before = digest()
    make(database, "UPDATE people SET name = name WHERE name = 'Afua'")
    assert digest() == before
    make(database, "UPDATE people SET name = '' WHERE name IS NULL")
    assert digest() != before


def test_a_table_that_the_role_may_not_read_is_told_and_the_others_are_proved(
    database: str,
) -> None:
    role = f"reader_{secrets.token_hex(4)}"
    make(
        database, "CREATE TABLE secret (a int); CREATE TABLE open (a int)",
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT ON open TO {role}",
    )  # fmt: skip
    uri = f"postgresql://{role}:x@{database.rpartition('@')[2]}"
    with inventory(uri) as taken:
        assert told(taken.tables()) == {
            "open": (0, "columns", None),
            "secret": (None, "-", "a right is missing (SQLSTATE 42501)"),
        }
    make(database, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_table_that_stays_locked_is_told_and_nobody_waits_for_us(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.source.inventory.LOCK_WAIT", "50ms")
    make(database, "CREATE TABLE altered (a int); CREATE TABLE other (a int)")
    with psycopg.connect(database) as migration:
        migration.execute("ALTER TABLE altered ADD b int")
        with inventory(database) as taken:
            assert told(taken.tables()) == {
                "altered": (None, "-", "locked by another session (SQLSTATE 55P03)"),
                "other": (0, "columns", None),
            }


def test_what_is_given_up_lets_its_lock_go_at_once(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.source.inventory.LOCK_WAIT", "60s")
    make(database, "CREATE TABLE altered (a int)")
    with psycopg.connect(database) as migration:
        migration.execute("LOCK TABLE altered")
        with inventory(database) as taken:
            (backend,) = eventually(lambda: [*taken.working()])
            waits = migration.execute("SELECT %s = ANY(pg_blocking_pids(%s))", [
                migration.info.backend_pid, backend
            ])  # fmt: skip
            assert waits.fetchone() == (True,)
            taken.give_up_rest("given up for a migration")
            assert told(taken.tables()) == {"altered": (None, "-", "given up for a migration")}


def test_a_session_that_is_lost_is_replaced(database: str) -> None:
    make(database, "CREATE TABLE one (a int); CREATE TABLE two (a int)")
    ends = threading.Lock()

    def connect() -> psycopg.Connection[Any]:
        connection = PostgresUri(database, "the test").connect("backup-count")
        if ends.acquire(blocking=False):  # only of the first
            make(database, f"SELECT pg_terminate_backend({connection.info.backend_pid})")
        return connection

    with inventory(database, connect=connect) as taken:
        contents = told(taken.tables())
    assert all(why and "no session" in why for _, _, why in contents.values()) or contents == {
        "one": (0, "columns", None), "two": (0, "columns", None)
    }  # fmt: skip


def test_a_server_that_gives_no_session_leaves_tables_unproved(database: str) -> None:
    make(database, "CREATE TABLE one (a int)")

    def connect() -> psycopg.Connection[Any]:
        raise Failure("no connection to database hr: too many clients", hint="")

    with inventory(database, connect=connect, jobs=2) as taken:
        why = "no session for it: no connection to database hr: too many clients"
        assert told(taken.tables()) == {"one": (None, "-", why)}


def test_each_table_is_read_in_the_snapshot(database: str) -> None:
    make(database, *(f"CREATE TABLE t{number} (a int)" for number in range(20)))
    with psycopg.connect(database) as exporting:
        exporting.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        ((identifier,),) = exporting.execute("SELECT pg_export_snapshot()").fetchall()
        make(database, *(f"INSERT INTO t{number} VALUES (1)" for number in range(20)))
        with inventory(database, snapshot=identifier) as taken:
            assert set(told(taken.tables()).values()) == {(0, "columns", None)}


def test_a_table_of_1600_columns_is_digested(database: str) -> None:
    columns = ", ".join(f"column_{number} int" for number in range(1600))
    make(database, f"CREATE TABLE wide ({columns})", "INSERT INTO wide VALUES (1)")
    with inventory(database) as taken:
        assert told(taken.tables()) == {"wide": (1, "columns", None)}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("42501", "a right is missing"),
        ("42883", "a function is missing"),
        ("53200", "out of memory"),
        ("54000", "too wide for one text"),
        ("57014", "cancelled, or over a time limit"),
        ("XX001", "a page is damaged"),
        ("57P01", "the session was lost"),
        ("22012", "PostgreSQL's error"),
    ],
)
def test_each_reason_is_told_in_our_own_words(state: str, words: str) -> None:
    error = psycopg.errors.lookup(state)("Key (name)=(Kofi) is to stay here")
    assert reason(error).startswith(words)
    assert "Kofi" not in reason(error)
