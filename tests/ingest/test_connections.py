"""Connections from the environment, in Airflow's two forms."""

from __future__ import annotations

import json
import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ingest import connections
from ingest.errors import UnknownConnectionError

if TYPE_CHECKING:
    from tests.conftest import PostgresServer

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


@pytest.mark.parametrize("side", ["source hr", "warehouse"])
def test_a_server_that_is_lost_without_a_word_is_given_up_after_two_minutes(
    postgres: PostgresServer, side: str
) -> None:
    address = connections.postgres(connections.Entry("hr", "postgresql", postgres.uri()))
    with (
        closing(connections.connect(address, side=side, purpose="ingest")) as connection,
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
    with closing(connections.connect(address, side="warehouse", purpose="ingest")) as connection:
        assert connection.info.get_parameters()["tcp_user_timeout"] == "5000"
