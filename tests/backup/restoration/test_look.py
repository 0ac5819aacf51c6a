from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from backup.openpgp.crypt import private_key
from backup.postgres.connection import PostgresUri
from backup.restoration.look import Server, gather
from frame.failure import Failure, WrongUse
from tests.backup.examples import SOURCE, manifest_of
from tests.conftest import PG_ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from backup.restoration.look import Facts
    from tests.backup.conftest import OpenPgpKey
    from tests.conftest import PostgresServer


@pytest.fixture
def armoured(tmp_path: Path, drill_key: OpenPgpKey) -> Path:
    path = tmp_path / "key.asc"
    path.write_text(drill_key.private)
    return path


def looked(armoured: Path, target: str | None, key: OpenPgpKey) -> Facts:
    manifest = manifest_of(recipients=(key.fingerprint,), source=SOURCE)
    uri = PostgresUri(target, "the test") if target else None
    with private_key(armoured) as ring:
        return gather(manifest, ring, uri, (armoured.parent, PG_ROOT), signed=True)


def server_of(facts: Facts) -> Server:
    assert isinstance(facts.server, Server), facts.server
    return facts.server


def test_a_server_says_what_it_has(armoured: Path, database: str, drill_key: OpenPgpKey) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (); CREATE SCHEMA s")
        facts = looked(armoured, database, drill_key)
    server = server_of(facts)
    assert (facts.closed, facts.signed, facts.clients[0]) == (None, True, 15)
    assert facts.free > 0
    assert (server.major, server.user, server.superuser, server.createdb) == (
        15, "postgres", True, True,
    )  # fmt: skip
    assert server.knows_encoding
    assert server.free_sessions > 10
    assert "postgres" in server.roles
    assert "pg_default" in server.tablespaces
    assert "C.UTF-8" in server.locales
    assert "1.5" in server.extensions["citext"]
    there = server.database
    assert there is not None
    assert (there.encoding, there.collate, there.mine) == ("UTF8", "C.UTF-8", True)
    assert there.others == 1
    assert there.contents == ("schema s", "relation public.t")
    assert "public.t" in there.relations


def test_a_database_that_is_not_there_is_no_error(
    armoured: Path, postgres: PostgresServer, drill_key: OpenPgpKey
) -> None:
    assert server_of(looked(armoured, postgres.uri("nowhere"), drill_key)).database is None


def test_a_server_that_is_down_is_one_finding_among_others(
    armoured: Path, drill_key: OpenPgpKey
) -> None:
    facts = looked(armoured, "postgresql://u:hush@127.0.0.1:1/hr", drill_key)
    assert isinstance(facts.server, Failure)
    assert "no connection" in facts.server.message
    assert "hush" not in str(facts.server)
    assert facts.closed is None


def test_a_login_without_rights_is_told_apart(
    armoured: Path, postgres: PostgresServer, database: str, drill_key: OpenPgpKey
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS looker")
        connection.execute("CREATE ROLE looker LOGIN PASSWORD 'x' CONNECTION LIMIT 3")
        uri = f"postgresql://looker:x@127.0.0.1:{postgres.port}/{database.rpartition('/')[2]}"
        server = server_of(looked(armoured, uri, drill_key))
        connection.execute("DROP ROLE looker")
    assert (server.superuser, server.createdb, server.createrole) == (False, False, False)
    assert server.database is not None
    assert not server.database.mine
    assert server.free_sessions == 3  # the one that asks ends
    assert server.receivers == {"looker"}
    assert "amcheck" in server.for_superusers
    assert database.rpartition("/")[2] in server.databases
    assert (server.database.provider, server.database.extensions) == ("c", {"plpgsql"})


def test_a_file_needs_no_server_but_a_directory(
    armoured: Path, tmp_path: Path, drill_key: OpenPgpKey
) -> None:
    assert looked(armoured, None, drill_key).server is None
    with (
        private_key(armoured) as ring,
        pytest.raises(WrongUse, match=r"can be made in .*: No such"),
    ):
        gather(manifest_of(), ring, None, (tmp_path / "absent", PG_ROOT), signed=True)


# What is not empty, and by what it is called.
@pytest.mark.parametrize(
    ("statement", "contents"),
    [
        ("CREATE TABLE precious (id int)", ("relation public.precious",)),
        ('CREATE SCHEMA "Old"', ("schema Old",)),
        ("CREATE FUNCTION public.f() RETURNS int RETURN 1", ("function public.f",)),
        ("SELECT lo_create(77)", ("large object 77",)),
        ("CREATE TYPE public.mood AS ENUM ('well')", ("type public.mood",)),
        ("CREATE DOMAIN public.pay AS numeric", ("type public.pay",)),
        ("CREATE TYPE public.pair AS (a int, b int)", ("relation public.pair",)),
        ("CREATE PUBLICATION everything FOR ALL TABLES", ("publication everything",)),
        (
            "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
            "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION f()",
            ("function public.f", "event trigger watch"),
        ),
    ],
)
def test_whatever_a_user_made_is_found(
    armoured: Path, database: str, drill_key: OpenPgpKey, statement: str, contents: tuple[str, ...]
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION citext; CREATE EXTENSION hstore")
        there = server_of(looked(armoured, database, drill_key)).database
        assert there is not None
        assert there.contents == (), "what is an extension's is nobody's"
        connection.execute(statement.encode())
        there = server_of(looked(armoured, database, drill_key)).database
    assert there is not None
    assert there.contents == contents
