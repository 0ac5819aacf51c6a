from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backup.postgres.connection import PostgresUri
from frame.failure import WrongUse

if TYPE_CHECKING:
    from tests.backup.conftest import House


def test_a_child_gets_everything_by_libpqs_variables() -> None:
    text = "postgresql://u%40x:p%2Fw@h:5433/d?sslmode=verify-full&sslrootcert=/ca"
    environment = PostgresUri(text, "the test").environment()
    assert {name: value for name, value in environment.items() if name.startswith("PG")} == {
        "PGUSER": "u@x",
        "PGPASSWORD": "p/w",
        "PGHOST": "h",
        "PGPORT": "5433",
        "PGDATABASE": "d",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/ca",
        "PGCONNECT_TIMEOUT": "15",
    }


def test_a_child_inherits_nothing_that_redirects_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("BACKUP_BUCKET", "x")
    environment = PostgresUri("postgresql://h/d", "the test").environment()
    assert environment["PGHOST"] == "h"
    assert environment["PATH"] == os.environ["PATH"]
    assert "BACKUP_BUCKET" not in environment


def test_a_uri_must_name_its_database() -> None:
    with pytest.raises(WrongUse, match="the test names no database"):
        PostgresUri("postgresql://h", "the test").database()


@pytest.mark.parametrize(
    "uri", ["postgresql//u:hush@h/d", os.fsdecode(b"postgresql://u:hush\xff@h/d")]
)
def test_a_uri_that_libpq_cannot_read_is_not_repeated(uri: str) -> None:
    with pytest.raises(WrongUse) as caught:
        PostgresUri(uri, "file /secrets/database_uri").environment()
    assert caught.value.message == "file /secrets/database_uri holds no PostgreSQL connection URI"
    assert caught.value.__cause__ is None


def test_a_session_that_is_quiet_for_hours_is_not_taken_for_dead(house: House) -> None:
    uri = house.settings.secret("database_uri")
    role = uri.removeprefix("postgresql://").partition(":")[0]
    with psycopg.connect(house.source, autocommit=True) as connection:
        for setting in ("statement_timeout", "idle_session_timeout"):
            connection.execute(
                sql.SQL("ALTER ROLE {} SET {} TO '5min'").format(
                    sql.Identifier(role), sql.Identifier(setting)
                )
            )
    show = (
        "SELECT current_setting('statement_timeout'), current_setting('idle_session_timeout'),"
        " current_setting('tcp_keepalives_idle')"
    )
    with PostgresUri(uri, "the test").connect("test") as connection:
        assert connection.execute(show).fetchone() == ("0", "0", "60")
        given = connection.pgconn.info
        options = {option.keyword: option.val for option in given}
        assert options[b"keepalives_idle"] == b"60"
    with PostgresUri(uri, "the test").connect("test", statement_timeout="30s") as connection:
        assert connection.execute(show).fetchone() == ("30s", "0", "60")


def test_no_object_of_a_user_is_found_in_place_of_postgresqls(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            b"""CREATE FUNCTION public.now() RETURNS text LANGUAGE sql AS 'SELECT $$mine$$';
            CREATE TABLE public.pg_settings (name text);"""
        )
        connection.execute(
            b"ALTER DATABASE "
            + database.rpartition("/")[2].encode()
            + b" SET search_path = public, pg_catalog"
        )
    with PostgresUri(database, "the test").connect("test") as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("pg_catalog, pg_temp",)
        connection.execute("CREATE TEMP TABLE pg_class (mine int)")
        assert connection.execute("SELECT count(*) > 99 FROM pg_class").fetchone() == (True,)
        assert connection.execute("SELECT pg_typeof(now())::text").fetchone() == (
            "timestamp with time zone",
        )
