"""Calls on finished files and their versions."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from ..errors import B2Error, bad_request, not_found
from ..fields import checked_name
from ..files import bucket_of
from ..listing import Folder, page, visible

if TYPE_CHECKING:
    from ..errors import Json
    from ..fields import Fields
    from ..files import FileVersion
    from ..keys import Key
    from ..service import Service

# B2's own bounds: a page, and how long a download may be authorised in advance.
MAX_PAGE, _MAX_DOWNLOAD_SECONDS = 10_000, 7 * 24 * 3600
UPLOAD_SECONDS = 24 * 3600


def get_upload_url(service: Service, key: Key, fields: Fields) -> Json:
    """b2_get_upload_url; the address is relative, the front end knows its own name."""
    bucket_id = fields.text("bucketId")
    key.require("writeFiles", bucket_id=bucket_id)
    service.buckets.get(bucket_id)
    token = service.tokens.give(
        "upload", expires_ms=service.expiry_ms(key, UPLOAD_SECONDS), key=key.key_id,
        target=bucket_id,
    )  # fmt: skip
    return {
        "authorizationToken": token,
        "bucketId": bucket_id,
        "uploadUrl": f"/b2api/v4/b2_upload_file/{bucket_id}/{secrets.token_hex(8)}",
    }


def list_names(service: Service, key: Key, fields: Fields) -> Json:
    """b2_list_file_names."""
    bucket_id, prefix = _listed(service, key, fields)
    start = fields.optional_text("startFileName") or ""
    found = page(
        visible(service.files.versions(bucket_id, prefix, start)),
        prefix=prefix, delimiter=fields.optional_text("delimiter"), limit=_limit(fields),
    )  # fmt: skip
    return {
        "files": [_shown(service, key, bucket_id, entry) for entry in found.entries],
        "nextFileName": found.following.name if found.following else None,
    }


def list_versions(service: Service, key: Key, fields: Fields) -> Json:
    """b2_list_file_versions; unfinished large files are among them, as ``start``."""
    bucket_id, prefix = _listed(service, key, fields)
    start, start_id = fields.optional_text("startFileName"), fields.optional_text("startFileId")
    if start_id is not None and (start is None or not start_id.rpartition("_u")[2].isdecimal()):
        raise bad_request(f"Invalid startFileId: {start_id}")
    found = page(
        service.files.versions(bucket_id, prefix, start or "", start_id),
        prefix=prefix, delimiter=fields.optional_text("delimiter"), limit=_limit(fields),
    )  # fmt: skip
    following = found.following
    return {
        "files": [_shown(service, key, bucket_id, entry) for entry in found.entries],
        "nextFileId": None if following is None or isinstance(following, Folder)
        else following.file_id,
        "nextFileName": following.name if following else None,
    }  # fmt: skip


def get_info(service: Service, key: Key, fields: Fields) -> Json:
    """b2_get_file_info."""
    file_id = fields.text("fileId")
    key.require("readFiles", bucket_id=bucket_of(file_id))
    found = service.files.find(file_id)
    if found is None:
        raise not_found(f"file_state_none: {file_id}")
    key.require("readFiles", bucket_id=found.bucket_id, name=found.name)
    return found.shown(service.account_id, key)


def hide(service: Service, key: Key, fields: Fields) -> Json:
    """b2_hide_file."""
    bucket_id, name = fields.text("bucketId"), checked_name(fields.text("fileName"))
    key.require("writeFiles", bucket_id=bucket_id, name=name)
    bucket = service.buckets.get(bucket_id)
    newest = service.files.newest(bucket_id, name)
    if newest is None:
        raise bad_request(f"File not present: {name}", "no_such_file")
    if newest.action == "hide":
        raise bad_request(f"File already hidden: {name}", "already_hidden")
    return service.files.hide(bucket, name).shown(service.account_id, key)


def delete(service: Service, key: Key, fields: Fields) -> Json:
    """b2_delete_file_version."""
    file_id, name = fields.text("fileId"), fields.text("fileName")
    key.require("deleteFiles", bucket_id=bucket_of(file_id), name=name)
    found = service.files.find(file_id)
    if found is None or found.name != name:
        raise bad_request(f"File not present: {name} {file_id}", "file_not_present")
    if found.locked(service.clock.now_ms()):
        raise B2Error(403, "access_denied", f"File is retained by Object Lock: {name}")
    service.files.remove(file_id)
    return {"fileId": file_id, "fileName": name}


def get_download_authorization(service: Service, key: Key, fields: Fields) -> Json:
    """b2_get_download_authorization: a token for downloads by name below a prefix."""
    bucket_id, prefix = fields.text("bucketId"), fields.text("fileNamePrefix")
    key.require("shareFiles", bucket_id=bucket_id, name=prefix)
    service.buckets.get(bucket_id)
    seconds = fields.number(
        "validDurationInSeconds", default=None, low=1, high=_MAX_DOWNLOAD_SECONDS
    )
    token = service.tokens.give(
        "download", expires_ms=service.expiry_ms(key, seconds), key=key.key_id,
        bucket=bucket_id, prefix=prefix,
    )  # fmt: skip
    return {"authorizationToken": token, "bucketId": bucket_id, "fileNamePrefix": prefix}


def _listed(service: Service, key: Key, fields: Fields) -> tuple[str, str]:
    """Return the bucket and the prefix that a listing may show."""
    bucket_id, prefix = fields.text("bucketId"), fields.optional_text("prefix") or ""
    key.require("listFiles", bucket_id=bucket_id, name=prefix)
    service.buckets.get(bucket_id)
    return bucket_id, prefix


def _limit(fields: Fields) -> int:
    return fields.number("maxFileCount", default=100, low=1, high=MAX_PAGE)


def _shown(service: Service, key: Key, bucket_id: str, entry: FileVersion | Folder) -> Json:
    if not isinstance(entry, Folder):
        return entry.shown(service.account_id, key)
    return {
        "accountId": service.account_id, "action": "folder", "bucketId": bucket_id,
        "contentLength": 0, "contentMd5": None, "contentSha1": None, "contentType": None,
        "fileId": None, "fileInfo": {}, "fileName": entry.name, "uploadTimestamp": 0,
    }  # fmt: skip
