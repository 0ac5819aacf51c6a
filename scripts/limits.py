"""What comes to an end by itself: certificates, Nomad's tokens, room on disks."""

from __future__ import annotations

import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cryptography import x509

from scripts.row import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from scripts.access import Access

SOON = timedelta(days=21)  # time for somebody to be back from leave
FULL = 90  # per cent of a disk
SECONDS = 10  # that a server may take to show its certificate
# Who has an address, and the file of the authority that signs it.
ADDRESSES = {
    "NOMAD_ADDR": "NOMAD_CACERT",
    "VAULT_ADDR": "VAULT_CACERT",
    "AIRFLOW_URL": "",
}


def limits(platform: Access) -> Iterator[Row]:
    """Yield each certificate, the token of Nomad and each disk with a volume of the platform."""
    now = datetime.now(UTC)
    for name, authority in ADDRESSES.items():
        address = urlsplit(platform.values[name])
        if address.scheme == "https":
            ends = certificate_ends(
                str(address.hostname), address.port or 443, os.environ.get(authority)
            )
            yield until(f"certificate of {address.hostname}", ends, now)
    if (expiry := token_ends(platform)) is not None:
        yield until("token of Nomad", expiry, now)
    yield from disks(platform)


def until(name: str, ends: datetime, now: datetime) -> Row:
    """Return the row of what ends at a time."""
    days = (ends - now).days
    state = f"ends in {days} days" if ends > now else f"ended {-days} days ago"
    return Row(name, state, ends - now > SOON, {"ends": ends.isoformat()})


def certificate_ends(host: str, port: int, authority: str | None) -> datetime:
    """Return when the certificate of a server ends, if it is trusted or not. Raises OSError."""
    context = ssl.create_default_context(cafile=authority or None)
    # One that has ended is to be told as such, not as a server that does not answer.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as session,
    ):
        shown = session.getpeercert(binary_form=True) or b""  # a server has one
    return x509.load_der_x509_certificate(shown).not_valid_after_utc


def token_ends(platform: Access) -> datetime | None:
    """Return when the token of Nomad ends, ``None`` if it has no end."""
    found = platform.nomad.acl.get_self_token()
    ends = found.get("ExpirationTime")
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
