from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backup.postgres.connection import PostgresUri
from backup.restoration.target import (
    CONNECTABLE,
    Grantee,
    Wanted,
    close_to_others,
    create_database,
    open_to,
)
from frame.failure import Failure
from tests.backup.clusters import cluster
from tests.backup.examples import SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer

MADE = SOURCE.model_copy(update={"collate": "C.UTF-8", "ctype": "C.UTF-8"})


@pytest.fixture
def owner(postgres: PostgresServer) -> Iterator[str]:
    """A role that owns a database of its name, is no superuser, and is gone afterwards."""
    name = f"owner_{secrets.token_hex(4)}"
    with psycopg.connect(postgres.uri(), autocommit=True) as connection:
        role = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD 'x'").format(role))
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(f"{name} 2")))
        yield name
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(role))
        connection.execute(sql.SQL("DROP ROLE {}, {}").format(role, sql.Identifier(f"{name} 2")))


def as_owner(postgres: PostgresServer, owner: str) -> PostgresUri:
    return PostgresUri(f"postgresql://{owner}:x@127.0.0.1:{postgres.port}/{owner}", "the test")


def test_an_owner_closes_his_database_and_opens_it_as_it_was(
    postgres: PostgresServer, owner: str
) -> None:
    with psycopg.connect(postgres.uri(owner), autocommit=True) as connection:
        connection.execute(
            sql.SQL("GRANT CONNECT ON DATABASE {} TO {} WITH GRANT OPTION").format(
                sql.Identifier(owner), sql.Identifier(f"{owner} 2")
            )
        )
        connection.execute(
            sql.SQL("COMMENT ON DATABASE {} IS 'it''s ɛ'").format(sql.Identifier(owner))
        )
        before = connection.execute(CONNECTABLE).fetchall()
    with as_owner(postgres, owner).connect("test") as connection:
        closed = close_to_others(connection)
        assert closed == (Grantee(None, False), Grantee(f"{owner} 2", True))
        assert connection.execute(CONNECTABLE).fetchall() == []
        may = "SELECT has_database_privilege(%s, current_database(), 'CONNECT')"
        assert connection.execute(may, [f"{owner} 2"]).fetchone() == (False,)
        assert connection.execute(may, [owner]).fetchone() == (True,)
    with as_owner(postgres, owner).connect("test") as connection:  # after a restore that was killed
        assert close_to_others(connection) == closed
        open_to(connection, closed)
        assert connection.execute(CONNECTABLE).fetchall() == before
        comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
        assert connection.execute(comment, [owner]).fetchone() == ("it's ɛ",)


def test_who_does_not_own_a_database_says_that_it_stays_open(
    postgres: PostgresServer, database: str, owner: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        before = connection.execute(CONNECTABLE).fetchall()
    uri = as_owner(postgres, owner).in_database(database.rpartition("/")[2])
    with uri.connect("test") as connection:
        close_to_others(connection)
        assert connection.execute(CONNECTABLE).fetchall() == before
    assert "others can connect before it is whole" in caplog.text


def test_a_database_is_made_like_the_source_and_once(postgres: PostgresServer, owner: str) -> None:
    name = f"{owner} = made"
    source = MADE.model_copy(update={"provider": "i", "locale": "en-GH"})
    uri = as_owner(postgres, owner).in_database(name)
    about = "SELECT datlocprovider, daticulocale, datdba::regrole::text FROM pg_database" \
            " WHERE datname = %s"  # fmt: skip
    try:
        assert create_database(uri, source, Wanted(1))
        with uri.connect("test") as connection:
            assert connection.execute(about, [name]).fetchone() == ("i", "en-GH", owner)
        assert not create_database(uri, source, Wanted(1))
    finally:
        with psycopg.connect(postgres.uri(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


@pytest.mark.programs
def test_a_database_of_the_c_library_is_one_wherever_it_is_made() -> None:
    """A server that was made with another provider has that one in its templates."""
    with cluster(17, initdb=("--locale-provider=builtin", "--builtin-locale=C.UTF-8")) as server:
        assert create_database(PostgresUri(server.uri("made"), "the test"), MADE, Wanted(1))
        with psycopg.connect(server.uri("made")) as connection:
            about = "SELECT datlocprovider, datlocale, datcollate FROM pg_database" \
                    " WHERE datname = current_database()"  # fmt: skip
            assert connection.execute(about).fetchone() == ("c", None, "C.UTF-8")


def test_a_locale_that_is_missing_gives_way_where_that_is_wanted(postgres: PostgresServer) -> None:
    source = MADE.model_copy(update={"collate": "xx_XX.UTF-8"})
    name = f"plain_{secrets.token_hex(4)}"
    uri = PostgresUri(postgres.uri(name), "the test")
    with pytest.raises(Failure, match=f"database {name} cannot be created: .*locale"):
        create_database(uri, source, Wanted(1))
    assert create_database(uri, source, Wanted(1, any_locale=True))
    with psycopg.connect(postgres.uri(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


@pytest.mark.parametrize(
    ("wanted", "everything", "whole"),
    [
        (Wanted(2), True, False),
        (Wanted(1), True, True),
        (Wanted(2, beside=True), False, True),
        (Wanted(2, tables=("a.b",)), False, True),
        (Wanted(1, keep_going=True), True, False),
        (Wanted(2, excluded=("a.b",)), True, False),
    ],
)
def test_what_is_one_transaction_and_what_is_all_of_it(
    wanted: Wanted, everything: bool, whole: bool
) -> None:
    assert (wanted.everything, wanted.whole) == (everything, whole)
