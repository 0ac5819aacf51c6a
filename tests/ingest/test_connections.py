"""Connections from the environment, in Airflow's two forms."""

from __future__ import annotations

import json
import os
import socket
import traceback
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from frame.failure import Failure
from ingest import connections, starter
from ingest.errors import DatabaseError, UnknownConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import PostgresServer
    from tests.ingest.world import World

PARTS = {"host": "db", "port": "5433", "user": "u", "password": "p@ss w/rd", "dbname": "hr"}


@pytest.mark.parametrize(
    "value",
    [
        "postgres://u:p%40ss%20w%2Frd@db:5433/hr",
        "postgresql://u:p%40ss%20w%2Frd@db:5433/hr",
        json.dumps(
            {
                "conn_type": "postgres",
                "host": "db",
                "port": 5433,
                "login": "u",
                "password": "p@ss w/rd",
                "schema": "hr",
            }
        ),
    ],
)
def test_a_uri_and_json_mean_the_same(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SERVICE_DESK", value)
    entry = connections.from_environment("service_desk")
    address = connections.postgres(entry)
    assert dict(address.parameters) == PARTS
    assert "ss w" not in repr(entry) + repr(address)


@pytest.mark.parametrize(
    "extra", [{"sslmode": "require", "cursor": "dictcursor"}, '{"sslmode": "require"}']
)
def test_extra_holds_libpqs_parameters(extra: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HR", json.dumps({"conn_type": "postgres", "extra": extra}))
    address = connections.postgres(connections.from_environment("hr"))
    assert address.parameters == {"sslmode": "require"}


def test_a_server_is_verified_by_the_authorities_that_are_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/all.pem")
    monkeypatch.setenv("AIRFLOW_CONN_HR", "postgresql://db/hr?sslmode=verify-full")
    address = connections.postgres(connections.from_environment("hr"))
    assert address.parameters["sslrootcert"] == "/etc/all.pem"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "expected AIRFLOW_CONN_HR in the environment, found nothing"),
        ("mysql://u:s3cret@db/hr", "expected a PostgreSQL connection, found another kind"),
        ("s3cret", "found another kind"),
        ("{s3cret", "found text that is no JSON"),
        ('{"conn_type": "postgres", "extra": "{s3cret"}', "found text that is no JSON"),
        ("postgres://u:s3cret@db/hr?sslmod=on", "found a parameter that libpq does not know"),
        ('{"conn_type": "postgres", "extra": {"s3cret": 1}}', "found a parameter that libpq"),
        ('{"conn_type": "postgres", "extra": ["s3cret"]}', "found an extra that is no JSON object"),
        (os.fsdecode(b"postgres://u:s3cret\xff@db/hr"), "found bytes that are no UTF-8"),
    ],
)
def test_what_is_no_connection_is_named_and_never_shown(
    value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HR", value)
    with pytest.raises(UnknownConnectionError) as failure:
        connections.postgres(connections.from_environment("hr"))
    assert expected in str(failure.value)
    assert "s3cret" not in str(failure.value)


@pytest.mark.parametrize(
    ("value", "url", "headers"),
    [
        ("https://hooks.example.org/T0/B0?token=s3cret", None, {}),
        (
            {"conn_type": "http", "host": "https://hooks.example.org/T0/B0?token=s3cret"},
            None,
            {},
        ),
        (
            {
                "conn_type": "https",
                "host": "hooks.example.org",
                "schema": "T0/B0",
                "extra": {"token": "s3cret", "headers": {"X-Key": "k3y"}},
            },
            None,
            {"X-Key": "k3y"},
        ),
        (
            {"conn_type": "http", "host": "hooks", "port": 8443, "schema": "https"},
            "https://hooks:8443/",
            {},
        ),
    ],
)
def test_a_webhook_is_a_uri_or_its_parts(
    value: str | dict[str, object],
    url: str | None,
    headers: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_A", value if isinstance(value, str) else json.dumps(value))
    hook = connections.webhook(connections.from_environment("a"))
    assert hook.url == (url or "https://hooks.example.org/T0/B0?token=s3cret")
    assert hook.headers == headers
    assert "s3cret" not in repr(hook)
    assert "k3y" not in repr(hook)


@pytest.mark.parametrize("value", ["postgres://u:s3cret@h/d", "s3cret", '{"conn_type": "http"}'])
def test_what_is_no_webhook_is_named_and_never_shown(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_A", value)
    with pytest.raises(UnknownConnectionError, match="connection a: expected a webhook") as failure:
        connections.webhook(connections.from_environment("a"))
    assert "s3cret" not in str(failure.value)


def source(address: connections.Address) -> psycopg.Connection[Any]:
    return connections.source(address, side="source hr", purpose="ingest")


def warehouse(address: connections.Address) -> psycopg.Connection[Any]:
    return connections.warehouse(address, purpose="ingest")


@pytest.mark.parametrize("connect", [source, warehouse])
def test_a_server_that_is_lost_without_a_word_is_given_up_after_two_minutes(
    postgres: PostgresServer, connect: Callable[[connections.Address], psycopg.Connection[Any]]
) -> None:
    address = connections.postgres(connections.Entry("hr", "postgresql", postgres.uri()))
    with (
        closing(connect(address)) as connection,
        socket.socket(fileno=os.dup(connection.fileno())) as wire,
    ):
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (
            socket.TCP_KEEPIDLE,
            socket.TCP_KEEPINTVL,
            socket.TCP_KEEPCNT,
            socket.TCP_USER_TIMEOUT,
        )
        found = [wire.getsockopt(socket.IPPROTO_TCP, option) for option in options]
    assert found == [60, 10, 6, 120_000]


def test_a_connections_own_timeouts_go_before_ours(postgres: PostgresServer) -> None:
    uri = f"{postgres.uri()}?tcp_user_timeout=5000"
    address = connections.postgres(connections.Entry("hr", "postgresql", uri))
    with closing(warehouse(address)) as connection:
        assert connection.info.get_parameters()["tcp_user_timeout"] == "5000"


def test_a_server_that_is_too_old_is_refused_by_its_version(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.uri()) as connection:
        connections.expect_version("source hr", connection.info.server_version)
    connections.expect_version("source hr", 140000)
    for number in (139999, 130023, 90624):
        with pytest.raises(DatabaseError, match="expected PostgreSQL 14 or newer, found") as old:
            connections.expect_version("source hr", number)
        assert old.value.hint


@pytest.mark.parametrize("odd", ["@", "/", "%", ":", "?", "#", " ", "%zz", "@[", "..", "x" * 80])
def test_no_part_of_a_password_is_said_whatever_it_breaks(
    odd: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = f"Kx7{odd}Qz9"
    parts = urlsplit(postgres.uri())
    where = {"conn_type": "postgres", "login": "u", "host": parts.hostname, "port": parts.port}
    values = [
        f"postgresql://u:{password}@{parts.hostname}:{parts.port}/d",
        f"postgresql://u:{quote(password, safe='')}@{parts.hostname}:{parts.port}/d",
        json.dumps(where | {"password": password, "schema": "d"}),
        *(json.dumps(where | {part: password}) for part in ("host", "port", "schema", "login")),
    ]
    for value in values:
        monkeypatch.setenv("AIRFLOW_CONN_HR", value)
        with pytest.raises(Failure, match=r"\bhr\b") as failure:
            address = connections.postgres(connections.from_environment("hr"))
            source(address)
        # As a log shows it, with the errors that led to it.
        told = "".join(traceback.format_exception(failure.value)).partition("ingest.errors.")[2]
        assert told, value
        assert "Kx7" not in told, value
        assert "Qz9" not in told, value
        assert failure.value.__suppress_context__


# Functions and operators whose types fit some calls better than PostgreSQL's own, and twins of
# those, which come first if public does. Each of them ends what calls it.
HOSTILE = """
    CREATE FUNCTION public.trap() RETURNS void LANGUAGE plpgsql AS
      $$ BEGIN RAISE 'a trap was called'; END $$;
    DO $make$
    DECLARE
      types text[] := '{text, varchar, name, bpchar, int2, int4, int8, oid, bool, timestamptz}';
      known record;
      sign text;
      l text;
      r text;
    BEGIN
      SET LOCAL search_path = pg_catalog;
      SET LOCAL check_function_bodies = off;
      FOREACH l IN ARRAY types LOOP FOREACH r IN ARRAY types LOOP
        EXECUTE format('CREATE FUNCTION public.operate(%1$s, %2$s) RETURNS bool LANGUAGE plpgsql'
          ' AS ''BEGIN PERFORM public.trap(); RETURN true; END''', l, r);
        FOREACH sign IN ARRAY '{=, <>, <, <=, >, >=, ||, +, -}'::text[] LOOP
          EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s,'
            ' FUNCTION = public.operate)', sign, l, r);
        END LOOP;
      END LOOP; END LOOP;
      FOR known IN
        SELECT DISTINCT p.proname, replace(args, 'text', kind) AS args
        FROM pg_proc p, pg_get_function_identity_arguments(p.oid) AS args,
             unnest('{text, varchar, name}'::text[]) AS kind
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f'
          AND p.provariadic = 0
          AND p.proname ~ '^(set_config|current_setting|quote_|has_|pg_(get|table|relation|export)'
            '|pg_adv|to_reg|format|array_|hash|encode|decode|sha|convert_to|obj_desc|now|age|left)'
          AND args !~ 'internal|any|cstring|OUT|VARIADIC'
      LOOP
        EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS text LANGUAGE plpgsql'
          ' AS ''BEGIN PERFORM public.trap(); RETURN NULL; END''', known.proname, known.args);
      END LOOP;
    END $make$;
    CREATE EXTENSION citext SCHEMA public;
    GRANT ALL ON SCHEMA public TO PUBLIC;
"""


def test_nothing_that_others_put_into_a_search_path_is_called(world: World) -> None:
    world.at_source(
        "CREATE TABLE staff (badge varchar(9) PRIMARY KEY, name text, ssn name, n oid)",
        "INSERT INTO staff VALUES ('a', 'Ada', '1', 1), ('b', 'Bob', '2', 2)",
    )
    logins = {world.source_admin: "ingest_reader",
              world.warehouse_admin: "ingest_loader, ingest_checks"}  # fmt: skip
    for uri, roles in logins.items():
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute(HOSTILE)
            for role in roles.split(", "):
                connection.execute(
                    f"ALTER ROLE {role} IN DATABASE {connection.info.dbname}"
                    " SET search_path = public, pg_catalog"
                )
    rule = (
        "name: public.staff\n    load: incremental\n    deletes: detect\n    columns: {hash: [ssn]}"
        "\n    checks: {unique: [[name]], accepted: {name: [Ada, Bob, Cy]}, nulls: {name: 0},"
        ' sql: {all: "select count(*) = 2 from {table} where badge <> name"}}'
    )
    with psycopg.connect(world.warehouse, autocommit=True) as connection:  # they do what they say
        with pytest.raises(psycopg.errors.RaiseException, match="trap"):
            connection.execute("SELECT 'a'::varchar = 'b'::varchar")
        with pytest.raises(psycopg.errors.RaiseException, match="trap"):
            connection.execute("SELECT set_config('search_path', 'x', false)")
    try:
        world.run(rule)
        world.at_source("DELETE FROM staff WHERE badge OPERATOR(pg_catalog.=) 'a'",
                        "INSERT INTO staff VALUES ('c', 'Cy', '3', 3)")  # fmt: skip
        world.run(rule)
        assert starter.pipeline_file(
            connections.postgres(world.resolve("hr")), schemas=["public"], published="raw"
        )
    finally:
        for uri, roles in logins.items():
            with psycopg.connect(uri, autocommit=True) as connection:
                for role in roles.split(", "):
                    connection.execute(
                        f"ALTER ROLE {role} IN DATABASE {connection.info.dbname} RESET ALL"
                    )
    assert world.rows("SELECT badge FROM raw_hr.staff ORDER BY badge") == [("b",), ("c",)]
