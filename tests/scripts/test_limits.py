from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from scripts import limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 3, 10, tzinfo=UTC)
GB = {"Size": 1}


@contextmanager
def tls_server(folder: Path, ends: datetime) -> Iterator[int]:
    """Serve one handshake after the other with a certificate that ends so."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=90))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / "server.pem"
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError), listening.accept()[0] as plain:
                context.wrap_socket(plain, server_side=True).close()

        serving = threading.Thread(target=serve)
        serving.start()
        yield listening.getsockname()[1]
        serving.join(10)


@pytest.mark.parametrize("days", [-3, 40])
def test_the_end_of_a_certificate_is_read_also_when_it_has_ended(tmp_path: Path, days: int) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    with tls_server(tmp_path, ends) as port:
        assert limits.certificate_ends("127.0.0.1", port, None) == ends


@pytest.mark.parametrize(
    ("days", "state", "well"),
    [
        (90, "ends in 90 days", True),
        (21, "ends in 21 days", False),
        (-2, "ended 2 days ago", False),
    ],
)
def test_what_ends_soon_is_not_well(days: int, state: str, well: object) -> None:
    row = limits.until("token of Nomad", NOW + timedelta(days=days), NOW)
    assert (row.state, row.well) == (state, well)


def test_a_disk_is_told_once_for_all_volumes_on_it() -> None:
    stats = [
        {"Mountpoint": "/", "UsedPercent": 20.4},
        {"Mountpoint": "/srv", "UsedPercent": 93.7},
        {"Mountpoint": "/boot", "UsedPercent": 99.0},
    ]
    paths = ["/srv/harmattan/airflow-logs", "/srv/harmattan/dag-mirror", "/opt/scratch"]
    rows = list(limits.full("node-1", paths, stats))
    assert [(row.name, row.state, row.well) for row in rows] == [
        ("disk / of node-1", "20 % full", True),
        ("disk /srv of node-1", "94 % full", False),
    ]
    assert list(limits.full("node-1", paths, stats[2:])) == []
