"""What tests may do beyond B2's API, under /harmattan-test/, with the master key as password."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from .clock import DAY_MS
from .errors import Json, bad_request, unauthorized
from .faults import Fault
from .fields import Fields
from .injector import damage
from .lifecycle import due

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from .files import FileVersion
    from .service import Service

# Ten years: each day is one round over all files.
_MAX_ADVANCE_SECONDS = 10 * 366 * 24 * 3600


def basic_credentials(request: Request) -> tuple[str, str]:
    """Return the key's id and secret from a Basic authorisation header."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        key_id, found, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        key_id, found, secret = "", "", ""
    if scheme.lower() != "basic" or not found:
        raise unauthorized("Basic authorisation with an application key is required")
    return key_id, secret


async def serve(service: Service, request: Request) -> Json:
    """Answer GET and POST of clock and faults."""
    key = service.keys.proven(*basic_credentials(request), service.clock.now_ms())
    if key.key_id != service.master.key_id:
        raise unauthorized("only the master key may do this")
    fields = Fields(await request.json() if request.method == "POST" else {})
    what = request.path_params["what"]
    if what == "clock":
        if request.method == "POST":
            _set_clock(service, fields)
        return {"now_ms": service.clock.now_ms()}
    if what == "faults":
        if request.method == "POST":
            _set_faults(service, fields)
        return {"faults": service.faults.left()}
    raise bad_request(f"/harmattan-test/{what} is not known; there are clock, faults and health")


def _set_clock(service: Service, fields: Fields) -> None:
    """Move the clock forward, or set it back to the machine's."""
    if fields.raw("reset") is True:
        service.clock.reset()
        return
    seconds = fields.number("advance_seconds", default=None, low=0, high=_MAX_ADVANCE_SECONDS)
    advance(service, seconds * 1000)


def advance(service: Service, milliseconds: int) -> None:
    """Move the clock and apply the lifecycle rules as B2 does, once a day."""
    while milliseconds > DAY_MS:
        service.clock.advance_ms(DAY_MS)
        apply_rules(service)
        milliseconds -= DAY_MS
    service.clock.advance_ms(milliseconds)
    apply_rules(service)


def apply_rules(service: Service) -> None:
    """Do what every bucket's rules ask for at this time."""
    now_ms = service.clock.now_ms()
    for bucket in list(service.buckets.all()):
        for rule in bucket.lifecycle_rules:
            versions = list(service.files.versions(bucket.bucket_id, rule["fileNamePrefix"]))
            for name, of_name in _by_name(versions):
                wanted = due(rule, of_name, now_ms)
                if wanted.hide:
                    service.files.hide(bucket, name)
                locked = {each.file_id for each in of_name if each.locked(now_ms)}
                for file_id in wanted.remove:
                    if file_id not in locked:
                        service.files.remove(file_id)


def _by_name(versions: list[FileVersion]) -> Iterator[tuple[str, list[FileVersion]]]:
    grouped: dict[str, list[FileVersion]] = {}
    for version in versions:
        grouped.setdefault(version.name, []).append(version)
    yield from grouped.items()


def _set_faults(service: Service, fields: Fields) -> None:
    """Replace the queue; damage to a file that is named is done at once."""
    entries = fields.raw("faults")
    if not isinstance(entries, list):
        raise bad_request("faults must be a list; an empty one takes all faults back")
    faults = [Fault.of(entry) for entry in entries]
    for fault in faults:
        if fault.file_id is not None:
            if service.files.find(fault.file_id) is None:
                raise bad_request(f"there is no file {fault.file_id} to damage")
            damage(service, fault, fault.file_id)
    service.faults.set(fault for fault in faults if fault.file_id is None)
