from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from scripts import limits
from scripts.access import POSTGRES, Access
from scripts.cluster import connect
from scripts.health.waiting import wait
from scripts.limits import Server
from tests.conftest import free_port
from tests.git_https import git_https
from tests.nomad.agent import running_nodes, running_server
from tests.scripts.health.running import run
from tests.tls import Authority, secure_postgres

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
        assert limits.certificate_ends(Server("127.0.0.1", port)) == ends


@pytest.mark.programs
def test_certificates_of_redis_postgresql_and_the_mirror_that_end_tomorrow_are_not_well(
    tmp_path: Path,
) -> None:
    """Each server as it is; the authority's certificates are for a day."""
    authority, port = Authority(), free_port()
    with (
        running_nodes(tmp_path, {"node": None}) as (nomad, _),
        secure_postgres(tmp_path, authority) as postgres,
        git_https(tmp_path, tmp_path, authority, "a:b") as mirror,
    ):
        certificate, key = authority.issue(tmp_path)
        options = f"--tls-port {port} --port 0 --save '' --tls-auth-clients no"
        files = f"--tls-cert-file {certificate} --tls-key-file {key}"
        ports = [{"Label": "broker", "Value": port}]
        run(
            nomad, "redis", f"exec redis-server {options} {files}",
            Networks=[{"Mode": "host", "ReservedPorts": ports}], task={"Env": {"TLS": "--tls"}},
        )  # fmt: skip
        wait(nomad, ["redis"], timeout=30, lasting=2)
        asked = urlsplit(postgres.uri())
        platform = Access(
            {
                "NOMAD_ADDR": nomad.address, "NOMAD_TOKEN": "", "VAULT_ADDR": "http://127.0.0.1:1",
                "AIRFLOW_URL": "http://127.0.0.1:1", "DAG_MIRROR_URL": mirror.url,
                POSTGRES: f"{asked.hostname}:{asked.port}, 127.0.0.1:1",
            }
        )  # fmt: skip
        rows = {row.name: row for row in limits.limits(platform) if "certificate" in row.name}
        git = urlsplit(mirror.url).port
        for place in (git, port, asked.port):
            row = rows.pop(f"certificate of 127.0.0.1:{place}")
            assert (row.state, row.well) == ("ends in 0 days", False)
        (row,) = rows.values()
        assert not row.well
        assert row.state.startswith("is not shown: ")
        with psycopg.connect(postgres.uri(), autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET ssl = off")
            admin.execute("SELECT pg_reload_conf()")
        with pytest.raises(OSError, match="it speaks without TLS"):
            limits.certificate_ends(Server("127.0.0.1", asked.port or 0, postgres=True))


@pytest.mark.programs
def test_who_may_list_tokens_sees_those_that_end_soon_and_others_their_own(tmp_path: Path) -> None:
    def made(name: str, hours: int) -> str:
        token = {"Name": name, "Type": "client", "Policies": ["p"], "ExpirationTTL": f"{hours}h"}
        return str(management.acl.create_token(token)["SecretID"])

    def names(token: str) -> dict[str, bool]:
        platform = Access({"NOMAD_ADDR": server.address, "NOMAD_TOKEN": token})
        return {row.name: row.well for row in limits.tokens(platform, datetime.now(UTC))}

    with running_server(tmp_path) as server:
        management = connect(server.address, server.token)
        soon, late = made("triggerer", 24), made("analysts", 2000)
        assert names(soon) == {"token of Nomad": False}
        assert names(late) == {"token of Nomad": True}
        assert names(server.token) == {"token triggerer": False}


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
