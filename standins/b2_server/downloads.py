"""Downloads by id and by name, streamed across the parts of a file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from .errors import B2Error, Json, not_found, unauthorized
from .files import bucket_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

    from .buckets import Bucket
    from .files import FileVersion
    from .service import Service

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# File info under these names comes back as the header itself.
_HEADER_OF_INFO = {
    "b2-content-disposition": "Content-Disposition",
    "b2-content-language": "Content-Language",
    "b2-expires": "Expires",
    "b2-cache-control": "Cache-Control",
    "b2-content-encoding": "Content-Encoding",
}


def parsed_range(header: str, length: int) -> tuple[int, int] | None:
    """Return start and length of a Range header within ``length`` bytes; None: there is none."""
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last), length - 1) if last else length - 1
    elif last:
        start, end = max(length - int(last), 0), length - 1
    else:
        return None
    return (start, end - start + 1) if start <= end else None


async def by_id(service: Service, request: Request) -> Response:
    """b2_download_file_by_id."""
    file_id = request.query_params.get("fileId", "")
    found = service.files.find(file_id)
    bucket_id = bucket_of(file_id)
    bucket = service.buckets.get(bucket_id) if found is not None else None
    _check(service, request, bucket, bucket_id, None if found is None else found.name, "account")
    if found is None or found.action != "upload":
        raise not_found(f"File not present: {file_id}")
    return _answer(service, request, found)


async def by_name(service: Service, request: Request) -> Response:
    """b2_download_file_by_name; a hidden file is not found."""
    bucket = service.buckets.named(request.path_params["bucket"])
    name, bucket_id = request.path_params["name"], "" if bucket is None else bucket.bucket_id
    _check(service, request, bucket, bucket_id, name, "account", "download")
    found = service.files.newest(bucket_id, name)
    if found is None or found.action != "upload":
        raise not_found("File with such name does not exist.")
    return _answer(service, request, found)


def _check(
    service: Service, request: Request, bucket: Bucket | None, bucket_id: str, name: str | None,
    *kinds: str,
) -> None:  # fmt: skip
    """Raise unless the request may read this file."""
    token = request.headers.get("authorization") or request.query_params.get("Authorization")
    if bucket is not None and bucket.type == "allPublic" and not token:
        return
    key, claims = service.bearer(token, *kinds)
    if claims["kind"] == "account":
        key.require("readFiles", bucket_id=bucket_id, name=name)
    elif claims["bucket"] != bucket_id or not (name or "").startswith(claims["prefix"]):
        raise unauthorized()


def _answer(service: Service, request: Request, version: FileVersion) -> Response:
    headers = _headers(version)
    status, start, length = 200, 0, version.length
    asked = request.headers.get("range")
    if asked is not None and _RANGE.fullmatch(asked.strip()):
        span = parsed_range(asked, version.length)
        if span is None:
            error = B2Error(416, "range_not_satisfiable", f"The Range '{asked}' is not in the file")
            error.headers["Content-Range"] = f"bytes */{version.length}"
            raise error
        status, (start, length) = 206, span
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{version.length}"
    headers["Content-Length"] = str(length)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    pieces = service.files.pieces(version.file_id)
    return StreamingResponse(
        _streamed(service.contents.read(pieces, start, length)), status, headers
    )


async def _streamed(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    # Reads come from the page cache: a thread for each would cost more than it saves.
    for chunk in chunks:
        yield chunk


def _headers(version: FileVersion) -> dict[str, str]:
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Type": version.content_type or "application/octet-stream",
        "X-Bz-Content-Sha1": version.sha1 or "none",
        "X-Bz-File-Id": version.file_id,
        "X-Bz-File-Name": quote(version.name),
        "X-Bz-Upload-Timestamp": str(version.uploaded_ms),
    }
    for name, value in version.info.items():
        if name in _HEADER_OF_INFO:
            headers[_HEADER_OF_INFO[name]] = value
        else:
            headers[f"X-Bz-Info-{name}"] = quote(value)
    algorithm: Json = version.encryption
    if algorithm.get("algorithm"):
        headers["X-Bz-Server-Side-Encryption"] = algorithm["algorithm"]
    return headers
