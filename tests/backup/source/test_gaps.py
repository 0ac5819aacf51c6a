from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backup.postgres.connection import PostgresUri
from backup.source.gaps import find_gaps
from tests.backup.conftest import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def reader(database: str) -> Iterator[PostgresUri]:
    """The database as the runbook's role sees it."""
    role = f"dumper_{secrets.token_hex(4)}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE pg_read_all_data").format(
                sql.Identifier(role), sql.Literal(PASSWORD)
            )
        )
        yield PostgresUri(f"postgresql://{role}:{PASSWORD}@{database.rpartition('@')[2]}", "it")
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


def gaps(uri: PostgresUri) -> list[str]:
    with uri.connect("test") as connection:
        return [f"{gap.kind}:{gap.name}" for gap in find_gaps(connection)]


def make(database: str, *statements: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_a_plain_database_has_no_gap(database: str, reader: PostgresUri) -> None:
    make(database, "CREATE EXTENSION hstore", "CREATE TABLE t AS SELECT 1 AS a")
    assert gaps(reader) == []


def test_a_subscription_that_the_role_may_not_dump_is_a_gap(
    database: str, reader: PostgresUri
) -> None:
    make(
        database,
        "CREATE SUBSCRIPTION \"From Elsewhere\" CONNECTION 'host=nowhere' PUBLICATION p"
        " WITH (connect = false, slot_name = NONE)",
    )
    try:
        assert gaps(reader) == ['subscription:"From Elsewhere"']
        assert gaps(PostgresUri(database, "a superuser")) == []
    finally:
        make(database, 'DROP SUBSCRIPTION "From Elsewhere"')


def test_user_mappings_with_hidden_options_and_foreign_tables_are_gaps(
    database: str, reader: PostgresUri
) -> None:
    make(
        database,
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere')",
        "CREATE USER MAPPING FOR postgres SERVER other OPTIONS (user 'u', password 'hush')",
        "CREATE FOREIGN TABLE far (a int) SERVER other",
    )
    assert gaps(reader) == ["user mapping:postgres on other", "foreign table:public.far"]
    assert gaps(PostgresUri(database, "a superuser")) == ["foreign table:public.far"]


def test_a_tablespace_is_a_gap_where_something_is_in_it(database: str, reader: PostgresUri) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        name = f"ts_{secrets.token_hex(4)}"
        connection.execute(f"CREATE TABLESPACE {name} LOCATION ''".encode())
        assert gaps(reader) == []
        connection.execute(f"CREATE TABLE t (a int) TABLESPACE {name}".encode())
        assert gaps(reader) == [f"tablespace:{name}"]
        connection.execute("DROP TABLE t")
        connection.execute(f"DROP TABLESPACE {name}".encode())


def test_rows_of_an_extension_that_marks_no_configuration_are_a_gap(
    database: str, reader: PostgresUri
) -> None:
    make(
        database,
        "CREATE EXTENSION citext",
        "CREATE TABLE kept (a int); CREATE TABLE empty (a int); CREATE TABLE marked (a int)",
        "INSERT INTO kept VALUES (1), (2); INSERT INTO marked VALUES (1)",
        "ALTER EXTENSION citext ADD TABLE kept; ALTER EXTENSION citext ADD TABLE empty",
        "ALTER EXTENSION citext ADD TABLE marked",
        "UPDATE pg_extension SET extconfig = ARRAY['marked'::regclass::oid]"
        " WHERE extname = 'citext'",
    )
    assert gaps(reader) == ["extension table:public.kept"]


def test_what_was_added_to_an_extensions_own_table_is_a_gap(
    database: str, reader: PostgresUri
) -> None:
    make(
        database,
        "BEGIN; CREATE EXTENSION citext; CREATE TABLE theirs (a int PRIMARY KEY, b text);"
        "CREATE INDEX by_b ON theirs (b); ALTER EXTENSION citext ADD TABLE theirs; COMMIT",
    )
    assert gaps(reader) == []
    make(
        database,
        "CREATE INDEX mine ON theirs (a); ALTER TABLE theirs ADD c int, ADD CHECK (a > 0)",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
        "CREATE TRIGGER t BEFORE INSERT ON theirs FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE RULE r AS ON DELETE TO theirs DO INSTEAD NOTHING; CREATE PUBLICATION p FOR TABLE"
        ' theirs; CREATE POLICY "My own" ON theirs; CREATE STATISTICS s ON a, b FROM theirs',
        "CREATE TABLE ours (a int REFERENCES theirs)",
        "VACUUM FULL theirs",
    )
    assert gaps(reader) == [
        "added to an extension:" + name
        for name in (
            "column c on public.theirs", "constraint theirs_a_check on public.theirs",
            "index mine on public.theirs", 'policy "My own" on public.theirs',
            "public.theirs in publication p", "rule r on public.theirs",
            "statistics s on public.theirs", "trigger t on public.theirs",
        )
    ]  # fmt: skip
    # As pg_upgrade leaves it, nobody can tell which of them the extension made.
    make(database, "ALTER EXTENSION citext DROP TABLE theirs", "DROP PUBLICATION p",
         "ALTER EXTENSION citext ADD TABLE theirs")  # fmt: skip
    assert gaps(reader) == []


def test_what_stands_among_postgresqls_own_is_a_gap(database: str, reader: PostgresUri) -> None:
    make(database, "CREATE FUNCTION pg_catalog.mine(int) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    assert gaps(reader) == ["object in a schema of the system:mine(integer)"]


def test_a_question_that_the_server_refuses_is_a_gap_and_no_error(
    database: str, reader: PostgresUri
) -> None:
    make(database, "REVOKE EXECUTE ON FUNCTION pg_is_in_recovery FROM PUBLIC")
    (found,) = gaps(reader)
    assert found == "unlogged table:?"
