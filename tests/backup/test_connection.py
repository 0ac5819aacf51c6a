from __future__ import annotations

import os

import pytest

from backup.connection import PostgresUri
from backup.errors import WrongUse


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


def test_a_uri_that_libpq_cannot_read_is_not_repeated() -> None:
    with pytest.raises(WrongUse) as caught:
        PostgresUri("postgresql//u:hush@h/d", "file /secrets/database_uri").environment()
    assert caught.value.message == "file /secrets/database_uri holds no PostgreSQL connection URI"
    assert caught.value.__cause__ is None
