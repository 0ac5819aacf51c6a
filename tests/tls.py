"""An authority of a test's own, and servers with certificates of it."""

from __future__ import annotations

import ipaddress
import os
import ssl
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from frame import trust
from tests.conftest import started_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer

PUBLIC = "/etc/ssl/certs/ca-certificates.crt"
_DAY = timedelta(days=1)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(subject))
        .issuer_name(_named(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * _DAY)
        .not_valid_after(now + _DAY)
    )


@dataclass
class Authority:
    """Issues certificates for 127.0.0.1; ``pem`` is what a client trusts."""

    name: str = "a school's own authority"
    _key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )
    pem: str = ""

    def __post_init__(self) -> None:
        builder = _builder(self.name, self.name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        made = builder.sign(self._key, hashes.SHA256())
        self.pem = made.public_bytes(Encoding.PEM).decode()

    def issue(
        self, folder: Path, address: str = "127.0.0.1", *, expired: bool = False
    ) -> tuple[Path, Path]:
        """Write a certificate for ``address`` and its key into ``folder``; return both files."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = _builder("server", self.name, key.public_key()).add_extension(names, False)
        if expired:
            builder._not_valid_after = datetime.now(UTC).replace(tzinfo=None) - _DAY
        made = builder.sign(self._key, hashes.SHA256())
        certificate, private = folder / "certificate.pem", folder / "key.pem"
        certificate.write_bytes(made.public_bytes(Encoding.PEM))
        private.touch(mode=0o600)
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, private

    def context(self, folder: Path) -> ssl.SSLContext:
        """Return what a server on 127.0.0.1 needs; its files go into ``folder``."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*self.issue(folder))
        return made


@dataclass(frozen=True)
class Peer:
    """How a client calls a server with a certificate of ``authority`` for 127.0.0.1.

    ``host`` is the name that it uses, ``fault`` what is then wrong, empty for nothing.
    """

    host: str
    fault: str


PEERS = {
    "trusted": Peer("127.0.0.1", ""),
    "untrusted": Peer("127.0.0.1", "a certificate of an authority that is not trusted"),
    "another name": Peer("localhost", "a certificate for other names than the host's"),
}


@pytest.fixture(scope="session")
def authority() -> Authority:
    """A school's own authority, which nothing trusts unless it is told to."""
    return Authority()


@pytest.fixture(params=PEERS)
def peer(
    request: pytest.FixtureRequest,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Peer:
    """Each way to meet such a server; this process trusts what the images' first process would."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in (trust.BUNDLE, "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO"):
        monkeypatch.setenv(name, PUBLIC)
    monkeypatch.setenv(trust.OWN, "" if request.param == "untrusted" else authority.pem)
    trust.add(os.environ)
    return PEERS[request.param]


def present(server: PostgresServer, certificate: Path, key: Path) -> None:
    """Let a PostgreSQL server present a certificate from its next connection on."""
    with psycopg.connect(server.uri(), autocommit=True) as admin:
        ((data,),) = admin.execute("SHOW data_directory").fetchall()
        owner = os.stat(data)
        for file, name in ((certificate, "server.crt"), (key, "server.key")):
            copy = Path(data, name)
            copy.unlink(missing_ok=True)
            copy.touch(mode=0o600)
            copy.write_bytes(file.read_bytes())
            os.chown(copy, owner.st_uid, owner.st_gid)
        admin.execute("ALTER SYSTEM SET ssl = on")
        admin.execute("SELECT pg_reload_conf()")
        while admin.execute("SHOW ssl").fetchone() != ("on",):
            pass


@contextmanager
def secure_postgres(folder: Path, authority: Authority) -> Iterator[PostgresServer]:
    """Run a PostgreSQL server with a certificate of ``authority``, whose log has each login."""
    with started_server() as server:
        with psycopg.connect(server.uri(), autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET log_connections = on")  # `present` reloads
        present(server, *authority.issue(folder))
        yield server
