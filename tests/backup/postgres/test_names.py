"""Names in databases of encodings that do not convert to UTF-8, and in those that do."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backup.postgres.connection import PostgresUri
from backup.postgres.names import Quoted, printable

if TYPE_CHECKING:
    from tests.conftest import PostgresServer

NAMES = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('public')"


def make_database(postgres: PostgresServer, encoding: str) -> str:
    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(postgres.uri(), autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'".encode()
        )
    return postgres.uri(name)


@pytest.mark.parametrize(
    ("encoding", "name", "shown"),
    [
        ("UTF8", "Täble".encode(), "Täble"),
        ("LATIN1", b"T\xe4ble", "Täble"),
        ("EUC_JP", b"\xc9\xbd", "表"),
        ("SQL_ASCII", "Täble".encode(), "Täble"),
        ("SQL_ASCII", b'"T\xe4ble\xff', '"T\\xe4ble\\xff'),
        ("MULE_INTERNAL", b"T\x81\xe4ble", "T\\x81\\xe4ble"),
    ],
)
def test_a_name_is_text_here_and_the_same_bytes_there(
    postgres: PostgresServer, encoding: str, name: bytes, shown: str
) -> None:
    uri = make_database(postgres, encoding)
    with psycopg.connect(uri, client_encoding="SQL_ASCII", autocommit=True) as raw:
        raw.execute(b'CREATE TABLE public."%s" (a int)' % name.replace(b'"', b'""'))
        with PostgresUri(uri, "the test").connect("test") as connection:
            ((found,),) = connection.execute(NAMES)
            assert printable(found) == shown
            asked = connection.execute("SELECT relname FROM pg_class WHERE relname = %s", [found])
            assert asked.fetchall() == [(found,)]
            count = sql.SQL("SELECT count(*) FROM {}").format(Quoted("public", found))
            assert connection.execute(count).fetchone() == (0,)
        assert raw.execute(NAMES.encode()).fetchall() == [(name,)]


def test_a_role_with_an_encoding_of_its_own_changes_nothing(database: str) -> None:
    role = f"ascii_{secrets.token_hex(4)}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'".encode())
        connection.execute(f"ALTER ROLE {role} SET client_encoding = 'SQL_ASCII'".encode())
    uri = f"postgresql://{role}:x@{database.rpartition('@')[2]}"
    with PostgresUri(uri, "the test").connect("test") as connection:
        assert connection.execute("SELECT 'ɛ'::text, 'ɛ'::name").fetchone() == ("ɛ", "ɛ")
