"""Bucket and databases of backups: whoever is not trusted gets no key and no password."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from backup.bucket.store import open_store
from backup.dump import run_backup
from backup.postgres.connection import PostgresUri
from backup.settings import B2Key, Settings
from frame.failure import Failure
from standins.b2_server.endpoint import running_endpoint
from tests.backup.conftest import contents
from tests.conftest import PG_BIN
from tests.http_server import http_server
from tests.tls import PEERS, secure_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from standins.b2_server.endpoint import B2Endpoint
    from tests.backup.conftest import House, OpenPgpKey
    from tests.conftest import PostgresServer
    from tests.tls import Authority, Peer

AT_ONCE = 10.0  # seconds; what may pass is tried for 45 minutes


@pytest.fixture(scope="module")
def postgres(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresServer]:
    with secure_postgres(tmp_path_factory.mktemp("tls"), authority) as server:
        yield server


@pytest.fixture(scope="module")
def b2_endpoint(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[B2Endpoint]:
    home = tmp_path_factory.mktemp("b2")
    certificate, key = authority.issue(home)
    with running_endpoint(
        home, "--certificate", str(certificate), "--private-key", str(key)
    ) as endpoint:
        yield endpoint


@pytest.mark.parametrize("peer", ["trusted"], indirect=True)
def test_a_backup_and_its_restore_have_every_server_checked(
    peer: Peer, house: House, postgres: PostgresServer, drill_key: OpenPgpKey
) -> None:
    assert house.settings.b2_realm.startswith(f"https://{peer.host}:")
    house.secret("database_uri", f"{house.settings.secret('database_uri')}?sslmode=verify-full")
    size = postgres.log.stat().st_size
    run_backup(house.settings, house.database)
    house.read()
    house.secret("drill_key.asc", drill_key.private)
    target = postgres.create_database()
    trusted = {name: os.environ[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")}
    restored = house.run(
        "restore", "hr", "--into-env", "TARGET", "--jobs", "2",
        TARGET=f"{target}?sslmode=verify-full", **trusted,
    )  # fmt: skip
    assert restored.returncode == 0, restored.stderr
    assert contents(target) == contents(house.source)
    log = postgres.log.read_bytes()[size:].decode()
    assert log.count("SSL enabled") == log.count("connection authorized")


@pytest.mark.parametrize("peer", ["untrusted", "another name"], indirect=True)
def test_a_bucket_elsewhere_gets_no_key(peer: Peer, authority: Authority, tmp_path: Path) -> None:
    key = B2Key.model_validate({"key_id": "id", "key": "s3cret"})
    with http_server(tls=authority.context(tmp_path)) as server:
        realm = f"https://{peer.host}:{server.port}"
        settings = Settings(secrets_dir=tmp_path, b2_realm=realm, bucket="a-bucket", prefix="local")
        began = time.monotonic()
        with pytest.raises(Failure) as caught, open_store(settings, key):
            pass
        assert time.monotonic() - began < AT_ONCE
        assert server.requests == []
    assert caught.value.message == (
        f"authorisation at {realm}: expected a good certificate, found {peer.fault}"
    )


def test_a_database_and_postgresqls_programs(
    peer: Peer, postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    said = {
        PEERS["untrusted"]: "certificate verify failed",
        PEERS["another name"]: 'does not match host name "localhost"',
    }.get(peer, "")
    dump = tmp_path / "dump"
    subprocess.run([PG_BIN / "pg_dump", "-Fc", f"--file={dump}", database], check=True)
    text = f"{database.replace('127.0.0.1', peer.host)}?sslmode=verify-full"
    uri = PostgresUri(text, "the test")
    size, began = postgres.log.stat().st_size, time.monotonic()
    for program, words in (("pg_dump", []), ("pg_restore", [dump])):
        ended = subprocess.run(
            [PG_BIN / program, f"--dbname={uri.database()}", *words],
            env=uri.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == (1 if said else 0)
        assert said in ended.stderr
    derived = (
        uri, uri.in_database("postgres"), uri.named("test"), uri.with_settings({"jit": "off"}),
    )  # fmt: skip
    for each in derived:
        with nullcontext() if not said else pytest.raises(Failure) as caught:
            each.connect("test").close()
        if caught is not None:
            assert said in caught.value.message
            assert "its authority in ca_certificates" in caught.value.hint
    assert time.monotonic() - began < AT_ONCE
    log = postgres.log.read_bytes()[size:].decode()
    assert log.count("SSL enabled") == log.count("authorized") == (0 if said else 6)
