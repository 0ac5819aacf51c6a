"""What comes to an end by itself: certificates, Nomad's tokens, room on disks."""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cryptography import x509

from scripts.access import POSTGRES
from scripts.cluster import NotFound
from scripts.row import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from scripts.access import Access

SOON = timedelta(days=21)  # time for somebody to be back from leave
FULL = 90  # per cent of a disk
SECONDS = 10  # that a server may take to show its certificate
# Who has an address that shows a certificate where it begins with https.
ADDRESSES = ("NOMAD_ADDR", "VAULT_ADDR", "AIRFLOW_URL", "DAG_MIRROR_URL")
REDIS = "redis"  # the job
# PostgreSQL's own question whether a server speaks TLS, and its yes.
SSL_REQUEST, SSL_YES = struct.pack("!ii", 8, 80877103), b"S"


@dataclass(frozen=True)
class Server:
    """Who shows a certificate; PostgreSQL is asked for it first."""

    host: str
    port: int
    postgres: bool = False


def limits(platform: Access) -> Iterator[Row]:
    """Yield each certificate, tokens of Nomad and each disk with a volume of the platform."""
    now = datetime.now(UTC)
    for server in servers(platform):
        name = f"certificate of {server.host}:{server.port}"
        try:
            yield until(name, certificate_ends(server), now)
        except OSError as error:
            yield Row(name, f"is not shown: {error}", well=False)
    yield from tokens(platform, now)
    yield from disks(platform)


def servers(platform: Access) -> Iterator[Server]:
    """Yield who shows a certificate: those with an address, Redis where it has one, PostgreSQL."""
    for name in ADDRESSES:
        address = urlsplit(platform.values[name])
        if address.scheme == "https":
            yield Server(str(address.hostname), address.port or 443)
    yield from redis(platform)
    for each in platform.values.get(POSTGRES, "").split(","):
        if each.strip():
            address = urlsplit(f"//{each.strip()}")
            yield Server(str(address.hostname), address.port or 5432, postgres=True)


def redis(platform: Access) -> Iterator[Server]:
    """Yield the ports of Redis, where the job says that they speak TLS."""
    try:
        job = platform.nomad.job.get_job(REDIS)
    except NotFound:
        return  # the section of jobs says so
    tasks = [task for group in job["TaskGroups"] for task in group["Tasks"]]
    if not any((task["Env"] or {}).get("TLS") for task in tasks):
        return
    for allocation in platform.nomad.job.get_allocations(REDIS):
        if allocation["ClientStatus"] == "running":
            found = platform.nomad.allocation.get_allocation(allocation["ID"])
            for port in found["AllocatedResources"]["Shared"]["Ports"]:
                if port["Label"] in {"broker", "results"}:
                    yield Server(port["HostIP"], port["Value"])


def until(name: str, ends: datetime, now: datetime) -> Row:
    """Return the row of what ends at a time."""
    days = (ends - now).days
    state = f"ends in {days} days" if ends > now else f"ended {-days} days ago"
    return Row(name, state, ends - now > SOON, {"ends": ends.isoformat()})


def certificate_ends(server: Server) -> datetime:
    """Return when the certificate of a server ends, if it is trusted or not. Raises OSError."""
    context = ssl.create_default_context()
    # One that has ended is to be told as such, not as a server that does not answer.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((server.host, server.port), timeout=SECONDS) as plain:
        if server.postgres:
            plain.sendall(SSL_REQUEST)
            if plain.recv(1) != SSL_YES:
                raise OSError("it speaks without TLS")
        with context.wrap_socket(plain, server_hostname=server.host) as session:
            shown = session.getpeercert(binary_form=True) or b""  # a server has one
    return x509.load_der_x509_certificate(shown).not_valid_after_utc


def tokens(platform: Access, now: datetime) -> Iterator[Row]:
    """Yield the end of the token of Nomad, and of others that end soon if it may list them."""
    own = platform.nomad.acl.get_self_token()
    if ends := _end_of(own):
        yield until("token of Nomad", ends, now)
    if own["Type"] != "management":
        return
    for token in platform.nomad.acl.get_tokens():
        ends = _end_of(token)
        if ends and ends - now <= SOON and token["AccessorID"] != own["AccessorID"]:
            yield until(f"token {token['Name'] or token['AccessorID']}", ends, now)


def _end_of(token: Mapping[str, Any]) -> datetime | None:
    ends = token.get("ExpirationTime")
    return datetime.fromisoformat(ends).astimezone(UTC) if ends else None


def disks(platform: Access) -> Iterator[Row]:
    """Yield the disk below each host volume, by its node."""
    for node in platform.nomad.nodes.get_nodes():
        if node["Status"] != "ready":
            continue
        volumes = (platform.nomad.node.get_node(node["ID"]).get("HostVolumes") or {}).values()
        stats = platform.nomad.client.stats.read_stats(node_id=node["ID"])
        yield from full(node["Name"], [each["Path"] for each in volumes], stats["DiskStats"])


def full(node: str, paths: Iterable[str], stats: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """Yield a row for each mount of ``node`` that has one of the ``paths``."""
    mounts = {each["Mountpoint"]: each for each in stats}
    used = {str(_mount(path, mounts)) for path in paths}
    for mount in sorted(used & mounts.keys()):
        per_cent = mounts[mount]["UsedPercent"]
        yield Row(
            f"disk {mount} of {node}", f"{per_cent:.0f} % full", per_cent < FULL,
            {"used_per_cent": per_cent},
        )  # fmt: skip


def _mount(path: str, mounts: Mapping[str, Any]) -> PurePosixPath:
    """Return the mount that a path is on, as far as they are known."""
    place = PurePosixPath(path)
    return next((each for each in (place, *place.parents) if str(each) in mounts), place)
