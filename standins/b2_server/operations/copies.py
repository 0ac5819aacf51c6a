"""Copies made on the server: of a file, or of a range of one into a part of another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..buckets import checked_encryption
from ..downloads import parsed_range
from ..errors import B2Error, bad_request, not_found
from ..fields import MAX_BYTES, MAX_PARTS, checked_info, checked_name, checked_type
from ..files import Piece, bucket_of
from .large_files import writable

if TYPE_CHECKING:
    from ..errors import Json
    from ..fields import Fields
    from ..files import FileVersion
    from ..keys import Key
    from ..service import Service


def copy_file(service: Service, key: Key, fields: Fields) -> Json:
    """b2_copy_file."""
    source = _source(service, key, fields)
    name = checked_name(fields.text("fileName"))
    bucket_id = fields.optional_text("destinationBucketId") or source.bucket_id
    key.require("writeFiles", bucket_id=bucket_id, name=name)
    bucket = service.buckets.get(bucket_id)
    content_type, info = source.content_type, source.info
    if (fields.optional_text("metadataDirective") or "COPY") == "REPLACE":
        content_type = checked_type(fields.text("contentType"), name)
        info = checked_info(fields.info("fileInfo"))
    elif fields.raw("contentType") is not None or fields.raw("fileInfo") is not None:
        raise bad_request("contentType and fileInfo may be set with metadataDirective REPLACE only")
    asked = fields.raw("destinationServerSideEncryption")
    piece = _copied(service, source, fields, 1)
    whole = fields.raw("range") is None
    version = replace(
        service.files.draft(bucket, name, "upload"),
        content_type=content_type,
        sha1=source.sha1 if whole else piece.sha1,
        length=piece.length,
        info=info,
        encryption=bucket.encryption if asked is None else checked_encryption(asked),
    )
    service.files.add(version, (piece,))
    return {**version.shown(service.account_id, key), "action": "copy"}


def copy_part(service: Service, key: Key, fields: Fields) -> Json:
    """b2_copy_part."""
    source = _source(service, key, fields)
    version = writable(service, key, fields.text("largeFileId"))
    number = fields.number("partNumber", default=None, low=1, high=MAX_PARTS)
    piece = _copied(service, source, fields, number)
    service.files.put_piece(version.file_id, piece)
    return piece.shown(version)


def _source(service: Service, key: Key, fields: Fields) -> FileVersion:
    file_id = fields.text("sourceFileId")
    key.require("readFiles", bucket_id=bucket_of(file_id))
    found = service.files.find(file_id)
    if found is None or found.action != "upload":
        raise not_found(f"file_state_none: {file_id}")
    key.require("readFiles", bucket_id=found.bucket_id, name=found.name)
    return found


def _copied(service: Service, source: FileVersion, fields: Fields, number: int) -> Piece:
    """Copy the range that a call asks for into a piece. It blocks the server: tests are small."""
    start, length = 0, source.length
    if (asked := fields.optional_text("range")) is not None:
        span = parsed_range(asked, source.length)
        if span is None:
            raise B2Error(416, "range_not_satisfiable", f"Invalid range: {asked}")
        start, length = span
    if length > MAX_BYTES:
        raise bad_request(f"Copy source too big: {length}", "source_too_large")
    with service.contents.receive() as incoming:
        for chunk in service.contents.read(service.files.pieces(source.file_id), start, length):
            incoming.write(chunk)
        return Piece(
            number, incoming.keep(), incoming.length, incoming.sha1(), service.clock.now_ms()
        )
