"""A database that lets nobody in: what is said at each try, and when it is given up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from frame import database, trust
from frame.failure import Failure
from tests.conftest import free_port
from tests.tls import PUBLIC, present, secure_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import PostgresServer
    from tests.tls import Authority


@pytest.fixture(scope="module")
def server(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresServer]:
    with secure_postgres(tmp_path_factory.mktemp("tls"), authority) as running:
        yield running


def in_vain(uri: str, patience: float = 600) -> str:
    with pytest.raises(Failure) as caught:
        database.opened(uri, name="Airflow's database", purpose="a test", patience=patience)
    return caught.value.message


@pytest.mark.programs
def test_what_no_waiting_mends_is_said_at_once_and_given_up_soon(
    server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(database, "LASTING", 1.5)
    began = time.monotonic()
    refused = in_vain(server.uri().replace(server.password, "a-wrong-password"))
    assert 1.5 <= time.monotonic() - began < 15
    cause = "a user or a password that the server refuses"
    assert refused == f"Airflow's database: expected a connection, found {cause}"
    said = capfd.readouterr().out.splitlines()
    assert len(said) == 2  # after 1 and 2 s
    assert set(said) == {f"Airflow's database: {cause}; it is asked again"}


@pytest.mark.programs
def test_a_certificate_that_is_not_good_is_told_by_what_is_wrong_with_it(
    authority: Authority,
    server: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "LASTING", 0)
    monkeypatch.delenv(trust.BUNDLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    uri = f"{server.uri()}?sslmode=verify-full"
    assert "no file of the authorities to trust (sslrootcert)" in in_vain(uri)
    monkeypatch.setenv(trust.BUNDLE, PUBLIC)
    assert in_vain(uri).endswith("found a certificate of an authority that is not trusted")
    own = tmp_path / "own.pem"
    own.write_text(authority.pem)
    monkeypatch.setenv(trust.BUNDLE, str(own))
    database.opened(uri, name="", purpose="a test", patience=0).close()
    present(server, *authority.issue(tmp_path, "127.0.0.2"))
    assert in_vain(uri).endswith("found a certificate for other addresses than the host's")
    present(server, *authority.issue(tmp_path, expired=True))
    assert in_vain(uri).endswith("found a certificate that has expired")
    present(server, *authority.issue(tmp_path))
    database.opened(uri, name="", purpose="a test", patience=0).close()


def test_a_server_that_is_not_there_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(database, "LASTING", 0)
    uri = f"postgresql://airflow:a-password@127.0.0.1:{free_port()}/airflow"
    began = time.monotonic()
    assert in_vain(uri, patience=1).endswith("found nothing that listens there")
    assert time.monotonic() - began >= 1
    assert "nothing that listens there; it is asked again" in capfd.readouterr().out


def test_what_is_no_uri_is_not_repeated() -> None:
    assert "hush" not in in_vain("postgresql://airflow:hu?sh@hush/db?x=hush")


def test_a_uri_as_vault_holds_it(postgres: PostgresServer) -> None:
    uri = postgres.uri().replace("postgresql:", "postgresql+psycopg2:")
    with database.opened(f"{uri}\n", name="", purpose="a purpose", patience=0) as connection:
        row = connection.execute("SHOW application_name").fetchone()
    assert row == ("a purpose",)
