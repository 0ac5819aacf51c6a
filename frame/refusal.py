"""Why a connection failed: by what the server and the network say in codes, never by words.

libpq has words alone for it, of its own release and in the language of either side. So the server
is asked once more for its SQLSTATE; what none answers to is looked at by a socket.
"""

from __future__ import annotations

import ctypes
import re
import selectors
import socket
import ssl
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from frame import certificate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg.pq.abc import PGconn

_LIMIT = 10.0  # seconds for another try


class Cause(NamedTuple):
    """Why a connection failed; whether another try may do; the way out, if there is a known one."""

    words: str
    passes: bool
    hint: str = ""


# By the beginnings of SQLSTATEs, the first that fits, and whether another try may do.
_REFUSALS = (
    ("28P01", "a user or a password that the server refuses", False),
    (
        "28",
        "a server that does not let this user in from here (pg_hba.conf), or no such role",
        False,
    ),
    ("3D000", "a database that the server does not have", False),
    ("42501", "a role that may not connect to the database", False),
    ("53300", "a server without room for another connection", True),
    ("55000", "a database that takes no connections", False),
    ("57P04", "a database that was dropped", False),
    ("57P", "a server that starts, stops or recovers", True),
    ("08", "a pooler that knows no such user or database, or has no server", True),
)
_NO_ADDRESS = "a host whose name has no address"
_NO_PARAMETER = Cause("a parameter that libpq does not take", False)
_SILENT = Cause("no answer in time", True)
_CLOSED = Cause("a server that closed the connection", True)
_NETWORK = (
    (ValueError, _NO_PARAMETER),
    ((ConnectionRefusedError, FileNotFoundError), Cause("nothing that listens there", True)),
    (TimeoutError, _SILENT),
    (ConnectionError, _CLOSED),
    (OSError, Cause("no way to the host", True)),
)
_UNTRUSTED = ", or a certificate that is not trusted"
_SSL_ONLY = (b"require", b"verify-ca", b"verify-full")
_NO_ROOT = Cause(
    "a certificate to check, and no file of the authorities to trust (sslrootcert)",
    False,
    "Let sslrootcert be a file that this program may read, or leave it out: then the authorities"
    " in the file that SSL_CERT_FILE names are trusted.",
)
_SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"  # the protocol's: 8 bytes, code 80877103
_SQLSTATE = re.compile(r":  ([0-9A-Z]{5})$", re.MULTILINE)
_PQERRORS_SQLSTATE = 3
_AWAITED = {
    int(pq.PollingStatus.READING): selectors.EVENT_READ,
    int(pq.PollingStatus.WRITING): selectors.EVENT_WRITE,
}


def why(error: Exception, parameters: Mapping[str, Any]) -> Cause:
    """Return why psycopg.connect failed with ``parameters``.

    No part of them is in it: where a password was not written as a URI wants it, a piece of it
    stands for the host.
    """
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return _SILENT
    if not isinstance(error, psycopg.OperationalError):
        # Python's own encoding of a host's name raises ValueError.
        return _NO_PARAMETER if isinstance(error, psycopg.Error) else Cause(_NO_ADDRESS, False)
    if error.pgconn is None:  # psycopg itself resolves names
        return Cause(_NO_ADDRESS, True)
    if error.pgconn.needs_password:
        return Cause("no password where the server wants one", False)
    if state := _sqlstate(parameters):
        causes = (
            Cause(words, passes) for start, words, passes in _REFUSALS if state.startswith(start)
        )
        return next(causes, Cause(f"a server that refuses it (SQLSTATE {state})", False))
    return _by_socket(error.pgconn)


def _sqlstate(parameters: Mapping[str, Any]) -> str:
    """Connect once more and return the server's SQLSTATE, "" if it gives none."""
    connection = pq.PGconn.connect_start(make_conninfo(**parameters).encode())
    try:
        # psycopg has no name for this, but its libpq does.
        library = ctypes.CDLL(sys.modules[pq.PGconn.__module__].__file__)
        address = ctypes.c_void_p(connection.pgconn_ptr)  # type: ignore[attr-defined]
        library.PQsetErrorVerbosity(address, _PQERRORS_SQLSTATE)
        until, asked = monotonic() + _LIMIT, int(pq.PollingStatus.WRITING)
        while asked in _AWAITED:
            with selectors.DefaultSelector() as selector:
                selector.register(connection.socket, _AWAITED[asked])
                if not selector.select(max(0.0, until - monotonic())):
                    return ""
            asked = connection.connect_poll()
        states: list[str] = _SQLSTATE.findall(connection.get_error_message())
        return states[-1] if states else ""
    except psycopg.OperationalError:  # there is no socket
        return ""
    finally:
        connection.finish()


def _by_socket(connection: PGconn) -> Cause:
    """Return what is in the way to where ``connection`` went last."""
    options = {option.keyword: option.val for option in connection.info}
    try:
        with _dial(connection) as wire:
            wire.sendall(_SSL_REQUEST)
            answer = wire.recv(1)
            if answer == b"S" and (fault := _certificate(wire, connection.host.decode(), options)):
                return fault
    except (OSError, ValueError) as error:
        return next(cause for kinds, cause in _NETWORK if isinstance(error, kinds))
    if not answer:
        return _CLOSED
    if answer not in b"SN":
        return Cause("something else than PostgreSQL", False)
    if options[b"sslmode"] in _SSL_ONLY:
        return Cause(f"no agreement about SSL{_UNTRUSTED if answer == b'S' else ''}", False)
    return Cause("a server that is not what the connection's parameters want", True)


def _certificate(
    wire: socket.socket, host: str, options: Mapping[bytes, bytes | None]
) -> Cause | None:
    """Return what is wrong with the certificate of the server at the other end; None if nothing."""
    mode = options[b"sslmode"] or b""
    if not mode.startswith(b"verify-"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == b"verify-full"
    root = (options[b"sslrootcert"] or b"").decode() or Path.home() / ".postgresql/root.crt"
    try:
        if root == "system":
            context.load_default_certs()
        else:
            context.load_verify_locations(root)
    except (OSError, ValueError):
        return _NO_ROOT
    try:
        context.wrap_socket(wire, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        if fault := certificate.fault(error):
            return Cause(fault.words, False, fault.hint)
    return None


def _dial(connection: PGconn) -> socket.socket:
    host = (connection.hostaddr or connection.host).decode()
    port = int(connection.port or b"5432")
    if not host.startswith("/"):
        return socket.create_connection((host, port), _LIMIT)
    wire = socket.socket(socket.AF_UNIX)
    wire.settimeout(_LIMIT)
    try:
        wire.connect(f"{host}/.s.PGSQL.{port}")
    except OSError:
        wire.close()
        raise
    return wire
