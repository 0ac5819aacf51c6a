"""Connections from the environment, in Airflow's two forms."""

from __future__ import annotations

import json

import pytest
from ingest import connections
from ingest.errors import UnknownConnectionError

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
    address = connections.from_environment("service_desk")
    assert dict(address.parameters) == PARTS
    assert "ss w" not in repr(address)


@pytest.mark.parametrize(
    "extra", [{"sslmode": "require", "cursor": "dictcursor"}, '{"sslmode": "require"}']
)
def test_extra_holds_libpqs_parameters(extra: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HR", json.dumps({"conn_type": "postgres", "extra": extra}))
    assert connections.from_environment("hr").parameters == {"sslmode": "require"}


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
    ],
)
def test_what_is_no_connection_is_named_and_never_shown(
    value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HR", value)
    with pytest.raises(UnknownConnectionError) as failure:
        connections.from_environment("hr")
    assert expected in str(failure.value)
    assert "s3cret" not in str(failure.value)
