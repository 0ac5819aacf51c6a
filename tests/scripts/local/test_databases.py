"""The rights of the warehouse's reader, with its real login and the platform's own grants."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
import psycopg.errors
import pytest

from tests.dashboards.service import make_warehouse

if TYPE_CHECKING:
    from tests.conftest import PostgresServer

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def reader(postgres: PostgresServer) -> tuple[str, str, str]:
    """The reader's URI, the warehouse's name and what the analysts' role is called."""
    name = f"warehouse_{secrets.token_hex(3)}"
    bi, analyst = f"{name}_bi", f"{name}_analyst"
    password = make_warehouse(postgres, name, bi, analyst)
    return f"postgresql://{bi}:{password}@127.0.0.1:{postgres.port}/{name}", name, analyst


MAY = {
    "the marts": "SELECT sum(students) FROM marts.enrolment",
    "the marts without their schema": "SELECT sum(students) FROM enrolment",
    "the calendar": "SELECT now()",
}
MAY_NOT = {
    "a source's rows": "SELECT * FROM raw_hr.employees",
    "the journal": "SELECT * FROM ops.runs",
    "passwords": "SELECT * FROM pg_authid",
    "a row": "INSERT INTO marts.enrolment VALUES (1, 'x', 1)",
    "a change": "UPDATE marts.enrolment SET students = 0",
    "an end": "DELETE FROM marts.enrolment",
    "no row": "TRUNCATE marts.enrolment",
    "a table": "CREATE TABLE marts.x (a int)",
    "a table in public": "CREATE TABLE public.x (a int)",
    "a temporary table": "CREATE TEMPORARY TABLE x (a int)",
    "a schema": "CREATE SCHEMA x",
    "a role": "CREATE ROLE x",
    "a file": "COPY marts.enrolment TO '/tmp/x'",
    "a program": "COPY marts.enrolment TO PROGRAM 'true'",
    "another role": "SET ROLE postgres",
    "another's limit": "ALTER ROLE postgres SET statement_timeout = 1",
    "its own connections": "ALTER ROLE CURRENT_USER CONNECTION LIMIT 100",
}
DENIED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)


@pytest.mark.parametrize("statement", MAY.values(), ids=MAY.keys())
def test_the_reader_reads(reader: tuple[str, str, str], statement: str) -> None:
    with psycopg.connect(reader[0]) as connection:
        assert connection.execute(statement).fetchone()  # type: ignore[arg-type]


@pytest.mark.parametrize("writable", [False, True], ids=["as it is", "after SET"])
@pytest.mark.parametrize("statement", MAY_NOT.values(), ids=MAY_NOT.keys())
def test_the_reader_does_nothing_else(
    reader: tuple[str, str, str], statement: str, writable: bool
) -> None:
    """Every login may turn `read only` off: what counts then is that it holds no right."""
    with psycopg.connect(reader[0], autocommit=True) as connection:
        if writable:
            connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(DENIED):
            connection.execute(statement)  # type: ignore[arg-type]


def test_the_reader_enters_no_other_database(
    postgres: PostgresServer, reader: tuple[str, str, str]
) -> None:
    other = f"other_{secrets.token_hex(3)}"
    with psycopg.connect(postgres.uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {other} TEMPLATE template0")
        connection.execute(f"REVOKE ALL ON DATABASE {other} FROM PUBLIC")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(reader[0].removesuffix(reader[1]) + other)


def test_a_mart_that_is_made_later_is_read(
    postgres: PostgresServer, reader: tuple[str, str, str]
) -> None:
    with psycopg.connect(postgres.uri(reader[1])) as connection:
        connection.execute(f"SET ROLE {reader[2]}")
        connection.execute("CREATE TABLE marts.later AS SELECT 1 AS a")
    with psycopg.connect(reader[0]) as connection:
        assert connection.execute("SELECT a FROM later").fetchone() == (1,)


def test_a_session_of_the_reader_is_bounded(reader: tuple[str, str, str]) -> None:
    with psycopg.connect(reader[0]) as connection:
        settings = {
            name: connection.execute(f"SHOW {name}").fetchone()
            for name in (
                "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout",
                "idle_session_timeout", "default_transaction_read_only", "search_path",
            )
        }  # fmt: skip
        (limit,) = connection.execute(
            "SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user"
        ).fetchone() or (None,)
    assert settings == {
        "statement_timeout": ("30s",),
        "lock_timeout": ("5s",),
        "idle_in_transaction_session_timeout": ("1min",),
        "idle_session_timeout": ("10min",),
        "default_transaction_read_only": ("on",),
        "search_path": ("marts",),
    }
    assert limit == 10
