"""The cluster's own authorities, from the meta of a job to what connects with a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from frame import trust
from frame.failure import Failure
from tests.http_server import http_server
from tests.tls import PUBLIC, secure_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer
    from tests.tls import Authority

URI = "postgresql://role:sslmode=verify-full@db.example.org/app"
ASK = """
import json, os, sys, psycopg
from frame.trust import rooted
found = {}
for mode in ("disable", "prefer", "require", "verify-ca", "verify-full"):
    try:
        with psycopg.connect(rooted(f"{os.environ['URI']}?sslmode={mode}")) as connection:
            found[mode] = "TLS" if connection.pgconn.ssl_in_use else "plain"
    except psycopg.OperationalError:
        found[mode] = "refused"
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def server(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresServer]:
    with secure_postgres(tmp_path_factory.mktemp("tls"), authority) as running:
        yield running


def become(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the images do."""
    return subprocess.run(
        [sys.executable, "-m", "frame.trust", *command],
        env={"PATH": os.environ["PATH"], "SSL_CERT_FILE": PUBLIC, **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.programs
@pytest.mark.parametrize("own", [False, True])
def test_only_who_asks_for_a_check_has_one_and_it_goes_by_the_variable(
    authority: Authority, server: PostgresServer, tmp_path: Path, own: bool
) -> None:
    given = {trust.OWN: f"\n{authority.pem}\n"} if own else {}
    done = become(sys.executable, "-c", ASK, URI=server.uri(), TMPDIR=str(tmp_path), **given)
    assert done.returncode == 0, done.stderr
    verified = "TLS" if own else "refused"
    assert json.loads(done.stdout) == {
        "disable": "plain", "prefer": "TLS", "require": "TLS",
        "verify-ca": verified, "verify-full": verified,
    }  # fmt: skip


@pytest.mark.programs
def test_public_authorities_are_still_trusted(authority: Authority, tmp_path: Path) -> None:
    done = become("env", TMPDIR=str(tmp_path), **{trust.OWN: authority.pem})
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    (file,) = tmp_path.iterdir()
    assert {told[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO")} == {
        str(file)
    }
    assert file.read_text() == f"{Path(PUBLIC).read_text()}\n{authority.pem.strip()}\n"
    assert file.stat().st_mode & 0o777 == 0o644


EACH = """
import sys, urllib.request
import httpx, hvac, requests
url = sys.argv[1]
print(urllib.request.urlopen(url).status, requests.get(url).status_code, httpx.get(url).status_code)
print(hvac.Client(url).adapter.get("/v1/sys/health").status_code)
"""


@pytest.mark.programs
def test_every_library_that_calls_a_server_finds_them(authority: Authority, tmp_path: Path) -> None:
    with http_server(tls=authority.context(tmp_path)) as server:
        ask = (sys.executable, "-c", EACH, f"https://{server.address}")
        done = become(*ask, TMPDIR=str(tmp_path), **{trust.OWN: authority.pem})
        assert done.stdout.split() == ["200"] * 4, done.stderr[-2000:]
        assert become(*ask).returncode == 1


def test_without_the_variable_nothing_is_made() -> None:
    environ = {trust.OWN: " \n", "SSL_CERT_FILE": PUBLIC}
    trust.add(environ)
    assert environ == {trust.OWN: " \n", "SSL_CERT_FILE": PUBLIC}


def test_what_is_no_certificate_is_said_before_the_command_starts() -> None:
    done = become("echo", "started", **{trust.OWN: "-----BEGIN CERTIFICATE-----\nhush"})
    assert done.returncode == 1
    assert done.stdout == ""
    assert "ca_certificates: expected certificates in PEM, found something else" in done.stderr
    assert "HINT: " in done.stderr
    assert "hush" not in done.stderr
    with pytest.raises(Failure):
        trust.add({trust.OWN: "one"})


@pytest.mark.parametrize(
    ("uri", "added"),
    [
        (f"{URI}?sslmode=verify-full", "&sslrootcert=/etc/all.pem"),
        (f"{URI}?connect_timeout=3&sslmode=verify-ca", "&sslrootcert=/etc/all.pem"),
        ("host=db sslmode=verify-full", " sslrootcert='/etc/all.pem'"),
        (f"{URI}?sslmode=verify-full&sslrootcert=system", ""),
        (f"{URI}?sslrootcert=/ca&sslmode=verify-full", ""),
        (f"{URI}?sslmode=require", ""),
        (URI, ""),
        ("host=db sslmode=prefer", ""),
    ],
)
def test_a_connection_that_wants_a_check_and_names_no_root_gets_one(
    monkeypatch: pytest.MonkeyPatch, uri: str, added: str
) -> None:
    monkeypatch.setenv(trust.BUNDLE, "/etc/all.pem")
    assert trust.rooted(uri) == uri + added
    options = psycopg.conninfo.conninfo_to_dict(uri)
    root = {"sslrootcert": "/etc/all.pem"} if added else {}
    assert trust.rooted_parameters(options) == {**root, **options}
    monkeypatch.delenv(trust.BUNDLE)
    assert trust.rooted(uri) == uri
    assert trust.rooted_parameters(options) == options
