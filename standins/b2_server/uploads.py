"""The two calls whose body is the content: b2_upload_file and b2_upload_part."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from .buckets import checked_encryption
from .errors import bad_auth_token, bad_request, no_active_upload
from .fields import MAX_BYTES, MAX_PARTS, checked_info, checked_name, checked_type
from .files import Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from .contents import Incoming
    from .errors import Json
    from .service import Service

_SHA1 = re.compile(r"[0-9a-fA-F]{40}")
_SHA1_LENGTH = 40
_AT_END, _UNVERIFIED = "hex_digits_at_end", "do_not_verify"
_INFO = "x-bz-info-"


class Uploads:
    """Takes content in, one upload at a time for each token."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._busy: set[str] = set()

    async def file(self, request: Request) -> Json:
        """b2_upload_file."""
        service, bucket_id = self._service, request.path_params["target"]
        token = request.headers.get("authorization", "")
        key, claims = service.bearer(token, "upload")
        if claims["target"] != bucket_id:
            raise bad_auth_token()
        name = checked_name(unquote_plus(_header(request, "x-bz-file-name")))
        key.require("writeFiles", bucket_id=bucket_id, name=name)
        bucket = service.buckets.get(bucket_id)
        info = checked_info({
            header.removeprefix(_INFO): unquote_plus(value)
            for header, value in request.headers.items()
            if header.startswith(_INFO)
        })  # fmt: skip
        content_type = checked_type(_header(request, "content-type"), name)
        encryption = _asked_encryption(request)
        with self._alone(token), service.contents.receive() as incoming:
            sha1 = await _receive(request, incoming)
            now_ms = service.clock.now_ms()
            piece = Piece(1, incoming.keep(), incoming.length, incoming.sha1(), now_ms)
            version = replace(
                service.files.draft(bucket, name, "upload"),
                content_type=content_type, sha1=sha1, length=piece.length, info=info,
                encryption=bucket.encryption if encryption is None else encryption,
            )  # fmt: skip
            service.files.add(version, (piece,))
        return version.shown(service.account_id, key)

    async def part(self, request: Request) -> Json:
        """b2_upload_part."""
        service, file_id = self._service, request.path_params["target"]
        token = request.headers.get("authorization", "")
        _, claims = service.bearer(token, "part")
        if claims["target"] != file_id:
            raise bad_auth_token()
        number = _header(request, "x-bz-part-number")
        if not number.isdecimal() or not 1 <= int(number) <= MAX_PARTS:
            raise bad_request(f"Part number must be in range 1 - {MAX_PARTS}")
        if service.files.unfinished(file_id) is None:
            raise no_active_upload(file_id)
        with self._alone(token), service.contents.receive() as incoming:
            await _receive(request, incoming)
            # The file may have been finished or cancelled while the part was on its way.
            version = service.files.unfinished(file_id)
            if version is None:
                raise no_active_upload(file_id)
            now_ms = service.clock.now_ms()
            piece = Piece(int(number), incoming.keep(), incoming.length, incoming.sha1(), now_ms)
            service.files.put_piece(file_id, piece)
        return piece.shown(version)

    @contextmanager
    def _alone(self, token: str) -> Iterator[None]:
        if token in self._busy:
            raise bad_request(f"more than one upload using auth token {token}", "auth_token_limit")
        self._busy.add(token)
        try:
            yield
        finally:
            self._busy.discard(token)


async def _receive(request: Request, incoming: Incoming) -> str:
    """Write the body as it comes, check its SHA-1, and return what B2 calls the SHA-1."""
    claimed = _header(request, "x-bz-content-sha1")
    length = _content_length(request)
    trailer_length = _SHA1_LENGTH if claimed == _AT_END else 0
    if claimed not in (_AT_END, _UNVERIFIED) and not _SHA1.fullmatch(claimed):
        raise bad_request(f"Invalid X-Bz-Content-Sha1: {claimed}")
    if not trailer_length <= length <= MAX_BYTES + trailer_length:
        raise bad_request(f"Invalid Content-Length: {length}")
    content_length, trailer = length - trailer_length, b""
    async for chunk in request.stream():
        left = content_length - incoming.length
        incoming.write(chunk[:left])
        trailer += chunk[left:]
    if incoming.length + len(trailer) != length:
        raise bad_request("Content-Length does not match the data received")
    if claimed == _UNVERIFIED:
        return f"unverified:{incoming.sha1()}"
    expected = trailer.decode("ascii", "replace") if trailer_length else claimed
    if incoming.sha1() != expected.lower():
        raise bad_request("Sha1 did not match data received")
    return incoming.sha1()


def _content_length(request: Request) -> int:
    """Return the length that the client gave; B2 takes no chunked bodies."""
    value = request.headers.get("content-length", "")
    if not value.isdecimal():
        raise bad_request("Missing header: Content-Length")
    return int(value)


def _asked_encryption(request: Request) -> Json | None:
    refused = ("server-side-encryption-customer-algorithm", "file-retention-mode",
               "file-legal-hold", "custom-upload-timestamp")  # fmt: skip
    for name in refused:
        if f"x-bz-{name}" in request.headers:
            raise bad_request(f"this server does not do X-Bz-{name}")
    if "x-bz-server-side-encryption" not in request.headers:
        return None
    return checked_encryption({"mode": "SSE-B2"})


def _header(request: Request, name: str) -> str:
    value = request.headers.get(name)
    if value is None:
        raise bad_request(f"Missing header: {name}")
    return value
