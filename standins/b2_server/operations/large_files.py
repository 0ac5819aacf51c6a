"""Calls on large files: they exist from their start on, and are files once finished."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from ..buckets import checked_encryption
from ..errors import bad_request, no_active_upload
from ..fields import MAX_PARTS, checked_info, checked_name, checked_type
from ..files import bucket_of
from .files import UPLOAD_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..errors import Json
    from ..fields import Fields
    from ..files import FileVersion, Piece
    from ..keys import Key
    from ..service import Service

# B2 makes large files of two parts or more; what is smaller goes up by b2_upload_file.
_MIN_PARTS = 2
_MAX_UNFINISHED_PAGE, _MAX_PARTS_PAGE = 100, 1000


def start(service: Service, key: Key, fields: Fields) -> Json:
    """b2_start_large_file."""
    bucket_id, name = fields.text("bucketId"), checked_name(fields.text("fileName"))
    key.require("writeFiles", bucket_id=bucket_id, name=name)
    bucket = service.buckets.get(bucket_id)
    if fields.raw("fileRetention") or fields.raw("legalHold"):
        raise bad_request("this server locks files by their bucket's default only")
    if fields.raw("custom_upload_timestamp") is not None:
        raise bad_request("custom upload timestamps are not enabled for this account")
    asked = fields.raw("serverSideEncryption")
    version = replace(
        service.files.draft(bucket, name, "start"),
        content_type=checked_type(fields.text("contentType"), name),
        sha1="none",
        info=checked_info(fields.info("fileInfo")),
        encryption=bucket.encryption if asked is None else checked_encryption(asked),
    )
    return service.files.add(version).shown(service.account_id, key)


def get_upload_part_url(service: Service, key: Key, fields: Fields) -> Json:
    """b2_get_upload_part_url."""
    version = writable(service, key, fields.text("fileId"))
    token = service.tokens.give(
        "part", expires_ms=service.expiry_ms(key, UPLOAD_SECONDS), key=key.key_id,
        target=version.file_id,
    )  # fmt: skip
    return {
        "authorizationToken": token,
        "fileId": version.file_id,
        "uploadUrl": f"/b2api/v4/b2_upload_part/{version.file_id}/{secrets.token_hex(8)}",
    }


def list_parts(service: Service, key: Key, fields: Fields) -> Json:
    """b2_list_parts."""
    version = writable(service, key, fields.text("fileId"))
    first = fields.number("startPartNumber", default=1, low=1, high=MAX_PARTS)
    limit = fields.number("maxPartCount", default=100, low=1, high=_MAX_PARTS_PAGE)
    found = [piece for piece in service.files.pieces(version.file_id) if piece.number >= first]
    return {
        "nextPartNumber": found[limit].number if len(found) > limit else None,
        "parts": [piece.shown(version) for piece in found[:limit]],
    }


def list_unfinished(service: Service, key: Key, fields: Fields) -> Json:
    """b2_list_unfinished_large_files."""
    bucket_id, prefix = fields.text("bucketId"), fields.optional_text("namePrefix") or ""
    key.require("listFiles", bucket_id=bucket_id, name=prefix)
    service.buckets.get(bucket_id)
    limit = fields.number("maxFileCount", default=100, low=1, high=_MAX_UNFINISHED_PAGE)
    found = list(
        service.files.all_unfinished(bucket_id, prefix, fields.optional_text("startFileId"))
    )
    return {
        "files": [version.shown(service.account_id, key) for version in found[:limit]],
        "nextFileId": found[limit].file_id if len(found) > limit else None,
    }


def finish(service: Service, key: Key, fields: Fields) -> Json:
    """b2_finish_large_file; called twice, the second time is refused."""
    version = writable(service, key, fields.text("fileId"))
    pieces = service.files.pieces(version.file_id)
    check_parts(pieces, fields.texts("partSha1Array"), service.options.minimum_part_size)
    finished = service.files.finish(version, sum(piece.length for piece in pieces))
    return finished.shown(service.account_id, key)


def cancel(service: Service, key: Key, fields: Fields) -> Json:
    """b2_cancel_large_file: its parts are gone."""
    version = writable(service, key, fields.text("fileId"))
    service.files.remove(version.file_id)
    return {
        "accountId": service.account_id,
        "bucketId": version.bucket_id,
        "fileId": version.file_id,
        "fileName": version.name,
    }


def check_parts(pieces: Sequence[Piece], sha1s: Sequence[str], minimum: int) -> None:
    """Raise unless the parts are 1, 2, 3 ... without a gap, large enough, and those meant."""
    if len(pieces) < _MIN_PARTS:
        raise bad_request(f"large files must have at least {_MIN_PARTS} parts")
    for expected, piece in enumerate(pieces, start=1):
        if piece.number != expected:
            raise bad_request(f"Part number {expected} has not been uploaded", "missing_part")
    if len(sha1s) > len(pieces):
        raise bad_request(f"Part number {len(pieces) + 1} has not been uploaded", "missing_part")
    if len(sha1s) < len(pieces):
        raise bad_request(f"{len(pieces)} parts were uploaded, partSha1Array has {len(sha1s)}")
    for piece, sha1 in zip(pieces, sha1s, strict=True):
        if piece.sha1 != sha1.lower():
            raise bad_request(f"Part number {piece.number} has wrong SHA1", "part_sha1_mismatch")
    for piece in pieces[:-1]:
        if piece.length < minimum:
            raise bad_request(f"Part number {piece.number} is smaller than {minimum} bytes")


def writable(service: Service, key: Key, file_id: str) -> FileVersion:
    """Return an unfinished large file that the key may go on with."""
    bucket_id = bucket_of(file_id)
    key.require("writeFiles", bucket_id=bucket_id)
    version = service.files.unfinished(file_id)
    if version is None:
        raise no_active_upload(file_id)
    key.require("writeFiles", bucket_id=bucket_id, name=version.name)
    return version
