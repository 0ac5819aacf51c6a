from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backup.postgres.connection import PostgresUri
from backup.restoration.properties import apply, read_properties, sort_properties
from backup.restoration.target import Wanted
from tests.backup.postgres.zoo import dump
from tests.conftest import PG_BIN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import PostgresServer

SCRIPT = r"""
\restrict abc
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
CREATE DATABASE "a b" WITH TEMPLATE = template0 ENCODING = 'UTF8';
ALTER DATABASE "a b" OWNER TO "Ow ner";
\unrestrict abc
\connect -reuse-previous=on "dbname='a b'"
COMMENT ON DATABASE "a b" IS 'so; it''s DATABASE "a b"';
ALTER DATABASE "a b" CONNECTION LIMIT = 5;
ALTER DATABASE "a b" IS_TEMPLATE = true;
ALTER DATABASE "a b" SET search_path TO 'q r', 'public';
ALTER DATABASE "a b" SET default_transaction_read_only TO 'on';
ALTER ROLE database IN DATABASE "a b" SET work_mem TO '5MB';
ALTER ROLE database IN DATABASE "a b" SET role TO 'x';
REVOKE CONNECT,TEMPORARY ON DATABASE "a b" FROM PUBLIC;
SET SESSION AUTHORIZATION x;
GRANT CONNECT ON DATABASE "a b" TO database;
RESET SESSION AUTHORIZATION;
DROP DATABASE "a b";
"""
SETTINGS = (
    "ALTER DATABASE \"new\" SET search_path TO 'q r', 'public'",
    "ALTER ROLE database IN DATABASE \"new\" SET work_mem TO '5MB'",
)
LATE = (
    'ALTER DATABASE "new" OWNER TO "Ow ner"',
    "COMMENT ON DATABASE \"new\" IS 'so; it''s DATABASE \"a b\"'",
    'ALTER DATABASE "new" CONNECTION LIMIT = 5',
    'ALTER DATABASE "new" IS_TEMPLATE = true',
    "ALTER DATABASE \"new\" SET default_transaction_read_only TO 'on'",
    "ALTER ROLE database IN DATABASE \"new\" SET role TO 'x'",
    'REVOKE CONNECT,TEMPORARY ON DATABASE "new" FROM PUBLIC',
    "SET SESSION AUTHORIZATION x",
    'GRANT CONNECT ON DATABASE "new" TO database',
    "RESET SESSION AUTHORIZATION",
)


def test_settings_come_before_the_load_and_the_rest_after_it() -> None:
    properties = sort_properties(SCRIPT, "new", owners=True)
    assert properties.settings == SETTINGS
    assert properties.late == LATE


def test_without_owners_there_are_no_rights() -> None:
    properties = sort_properties(SCRIPT, "new", owners=False)
    assert properties.settings == SETTINGS
    assert properties.late == LATE[1:6]


def test_a_statement_that_is_refused_ends_no_other(database: str) -> None:
    name = database.rpartition("/")[2]
    with psycopg.connect(database, autocommit=True) as connection:
        refused = apply(
            connection,
            [
                f"ALTER DATABASE {name} SET work_mem TO '7MB'",
                f"ALTER DATABASE {name} SET nonsense TO 'x'",
                f"ALTER DATABASE {name} OWNER TO nobody_at_all",
                f"COMMENT ON DATABASE {name} IS 'ɛ'",
            ],
        )
        assert [each.partition('"')[0] for each in refused] == [
            "unrecognized configuration parameter ", "role ",
        ]  # fmt: skip
        about = """SELECT setconfig, shobj_description(setdatabase, 'pg_database')
        FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = %s"""
        assert connection.execute(about, [name]).fetchall() == [(["work_mem=7MB"], "ɛ")]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_words_of_every_encoding_come_back_as_they_were(
    postgres: PostgresServer, tmp_path: Path, encoding: str
) -> None:
    """Its comment, and what a setting says."""
    name = f"words_{secrets.token_hex(4)}"
    create = "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'"
    with psycopg.connect(postgres.uri(), autocommit=True) as connection:
        connection.execute(sql.SQL(create).format(sql.Identifier(name), encoding))
    uri = postgres.uri(name)
    said = b"SELECT shobj_description(oid, 'pg_database')::bytea, current_setting('a.b')::bytea" \
           b" FROM pg_database WHERE datname = current_database()"  # fmt: skip
    with psycopg.connect(uri, autocommit=True, client_encoding="SQL_ASCII") as connection:
        on = b"DATABASE " + name.encode()
        connection.execute(b"COMMENT ON " + on + b" IS 'f\xfcr'")
        connection.execute(b"ALTER " + on + b" SET a.b TO 'Gr\xf6\xdfe'")
        properties = read_properties(PG_BIN, dump(uri, tmp_path / "dump"), name, Wanted(1))
        connection.execute(b"COMMENT ON " + on + b" IS NULL; ALTER " + on + b" RESET a.b")
    with PostgresUri(uri, "the test").connect("test") as connection:
        assert apply(connection, (*properties.settings, *properties.late)) == ()
    with psycopg.connect(uri, client_encoding="SQL_ASCII") as connection:
        assert connection.execute(said).fetchall() == [(b"f\xfcr", b"Gr\xf6\xdfe")]
