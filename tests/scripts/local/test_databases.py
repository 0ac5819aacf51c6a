"""The local server: who may do what in its databases, and which data they are filled with."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
import psycopg.errors
import pytest

from scripts.local import databases, home
from standins.school.load import Mark
from tests.conftest import started_server
from tests.dashboards.service import make_warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    "a mart that is not tested yet": "SELECT * FROM marts_build.unfinished",
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


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server with the platform's databases and roles, and the secrets of a home of its own."""
    with started_server() as started:
        monkeypatch.setattr(home, "SECRETS", tmp_path)
        monkeypatch.setattr(databases, "ADDRESS", "127.0.0.1")
        monkeypatch.setattr(databases, "PORT", started.port)
        home.kept("postgres", lambda: started.password)
        databases.create()
        yield


def count(role: str, table: str) -> int:
    with psycopg.connect(databases.role(role).uri) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.usefixtures("server")
def test_a_source_of_an_older_edition_is_replaced_and_its_jobs_keep_their_grants() -> None:
    databases.fill(0.01)
    # What the first edition left behind: its mark, and a table that is not in this one.
    with psycopg.connect(databases.owner("hr").uri) as connection:
        connection.execute(
            "COMMENT ON SCHEMA public IS 'Harmattan''s school: hr, scale 0.01, seed 7'"
        )
        connection.execute("DROP TABLE leave_entitlements; CREATE TABLE outdated (id int)")
    with psycopg.connect(databases.owner("records").uri) as connection:
        connection.execute("DELETE FROM results")

    databases.fill(0.01)
    with psycopg.connect(databases.owner("hr").uri) as connection:
        assert Mark.read(connection.cursor()) == Mark("hr", 0.01, 7)
        assert connection.execute("SELECT to_regclass('outdated')").fetchone() == (None,)
    assert count("hr_ingest", "leave_entitlements") > 0
    assert count("hr_backup", "leave_entitlements") > 0
    # What this edition loaded is left alone, whatever has changed in it since.
    assert count("records_ingest", "results") == 0


@pytest.mark.usefixtures("server")
def test_a_second_environment_on_the_same_server_has_its_own_databases_and_roles() -> None:
    databases.create("second_")
    first, second = (list(databases.roles(prefix)) for prefix in ("", "second_"))
    assert not {role.name for role in first} & {role.name for role in second}
    for own, other in ((first, second), (second, first)):
        for role in own:
            with psycopg.connect(role.uri) as connection:
                for beyond in {each.database for each in other} - {role.database, "postgres"}:
                    asked = "SELECT has_database_privilege(%s, 'CONNECT')"
                    assert connection.execute(asked, (beyond,)).fetchone() == (False,), role.name
    loader = databases.role("warehouse_loader", "second_")
    with psycopg.connect(loader.uri) as connection:
        member = "SELECT pg_has_role(%s, 'MEMBER'), pg_has_role(%s, 'MEMBER')"
        names = ("second_warehouse_analyst", "warehouse_analyst")
        assert connection.execute(member, names).fetchone() == (True, False)


@pytest.mark.usefixtures("server")
def test_a_load_makes_tables_in_schemas_of_its_own_that_models_and_checks_read() -> None:
    databases.create()  # again: it can be repeated
    analyst = databases.role("warehouse_analyst").uri
    with psycopg.connect(analyst, autocommit=True) as connection:
        for load in databases.LOADS:
            connection.execute(f"CREATE TABLE load_{load}.t AS SELECT 1 AS a".encode())
            connection.execute(f"CREATE TABLE load_{load}_staging.t (a int)".encode())
        for elsewhere in ("SCHEMA load_other", "TABLE public.t (a int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"CREATE {elsewhere}".encode())
        connection.execute("SET ROLE marts_builder")
        assert connection.execute("SELECT a FROM load_lists.t").fetchone() == (1,)
    assert count("warehouse_checks", "load_lists.t") == 1
    for role, table in (("warehouse_checks", "load_lists_staging.t"), ("bi", "load_lists.t")):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            count(role, table)
