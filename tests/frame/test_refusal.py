"""Why a connection failed, on servers and sockets that refuse it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ingest import connections
from ingest.errors import DatabaseError
from tests.conftest import free_port, started_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import PostgresServer

REFUSED = "a user or a password that the server refuses"
NOBODY = "nothing that listens there"
CLOSED = "a server that closed the connection"


def refused(address: dict[str, Any]) -> tuple[str, bool]:
    """Return what a connection with ``address`` is told, and whether another try may do."""
    with pytest.raises(DatabaseError) as failure:
        connections.source(connections.Address("hr", address), side="source hr", purpose="test")
    what, _, cause = failure.value.message.partition(", found ")
    assert what == "source hr: expected a connection"
    return cause, failure.value.transient


@pytest.mark.parametrize(
    ("parameters", "cause", "transient"),
    [
        ({"password": "another"}, REFUSED, False),
        ({"user": "nobody"}, REFUSED, False),
        ({"password": ""}, "no password where the server wants one", False),
        ({"dbname": "nowhere"}, "a database that the server does not have", False),
        ({"host": "nowhere.invalid"}, "a host whose name has no address", True),
        ({"host": "x" * 70}, "a host whose name has no address", False),
        ({"port": "none"}, "a parameter that libpq does not take", False),
        ({"sslmode": "require"}, "no agreement about SSL", False),
        ({"port": 1}, NOBODY, True),
        ({"host": "/nowhere"}, NOBODY, True),
        (
            {"target_session_attrs": "standby"},
            "a server that is not what the connection's parameters want",
            True,
        ),
    ],
)
def test_a_connection_that_fails_says_why(
    postgres: PostgresServer, parameters: dict[str, Any], cause: str, transient: bool
) -> None:
    assert refused(conninfo_to_dict(postgres.uri()) | parameters) == (cause, transient)


@pytest.mark.parametrize(
    ("statement", "cause", "transient"),
    [
        ("ALTER ROLE {0} NOLOGIN", "a server that does not let this user in from here", False),
        ("ALTER ROLE {0} CONNECTION LIMIT 0", "a server without room for another", True),
        (
            "REVOKE CONNECT ON DATABASE {0} FROM PUBLIC",
            "a role that may not connect to the database",
            False,
        ),
        ("ALTER DATABASE {0} ALLOW_CONNECTIONS false", "a database that takes no", False),
    ],
)
def test_what_a_role_may_not_is_told(
    postgres: PostgresServer, statement: str, cause: str, transient: bool
) -> None:
    name = f"r{secrets.token_hex(4)}"
    with psycopg.connect(postgres.uri(), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{postgres.password}'")
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        admin.execute(statement.format(name).encode())
        address = conninfo_to_dict(postgres.uri()) | {"user": name, "dbname": name}
        told, again = refused(address)
        admin.execute(f"DROP DATABASE {name}")
        admin.execute(f"DROP ROLE {name}")
    assert told.startswith(cause)
    assert again is transient


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[dict[str, Any]]:
    """Run a server whose clients ``serve`` gets; return how they reach it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                client.settimeout(3)
                with client, suppress(OSError):
                    serve(client)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield {"host": "127.0.0.1", "port": server.getsockname()[1], "connect_timeout": 2}
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.mark.parametrize(
    ("serve", "cause", "transient"),
    [
        (lambda client: client.recv(9), CLOSED, True),
        (lambda client: client.sendall(b"HTTP/1.1"), "something else than PostgreSQL", False),
        (lambda client: client.recv(9) and client.recv(9), "no answer in time", True),
    ],
    ids=["closed", "another protocol", "silent"],
)
def test_what_is_no_server_is_told_by_what_it_does(
    serve: Callable[[socket.socket], object], cause: str, transient: bool
) -> None:
    with listening(serve) as address:
        assert refused(address) == (cause, transient)


@pytest.mark.programs
def test_a_certificate_that_is_not_trusted_and_a_server_that_stops_are_told(
    tmp_path: Path,
) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-keyout", key, "-out", certificate], check=True, capture_output=True,
    )  # fmt: skip
    with started_server() as server:
        address = conninfo_to_dict(server.uri())
        with psycopg.connect(server.uri(), autocommit=True) as admin:
            ((data,),) = admin.execute("SHOW data_directory").fetchall()
            for file in (key, certificate):
                there = os.path.join(data, file.name)
                with open(os.open(there, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as copy:
                    copy.write(file.read_bytes())
                os.chown(there, os.stat(data).st_uid, os.stat(data).st_gid)
            admin.execute("ALTER SYSTEM SET ssl_key_file = 'key'")
            admin.execute("ALTER SYSTEM SET ssl_cert_file = 'certificate'")
            admin.execute("ALTER SYSTEM SET ssl = on")
            admin.execute("SELECT pg_reload_conf()")
            for root, cause in (
                ("system", "a certificate of an authority that is not trusted"),
                (str(certificate), "a certificate for other addresses than the host's"),
                ("/nowhere", "a certificate to check, and no file of the authorities to trust"),
            ):
                told, again = refused(address | {"sslmode": "verify-full", "sslrootcert": root})
                assert told.startswith(cause)
                assert not again
            ((pid,),) = admin.execute(
                "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int"
            ).fetchall()
            os.kill(pid, signal.SIGTERM)  # it waits for this session
            assert refused(address) == ("a server that starts, stops or recovers", True)
    assert refused(address | {"port": free_port()}) == (NOBODY, True)
