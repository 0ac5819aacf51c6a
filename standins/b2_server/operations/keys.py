"""Calls on application keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import bad_request, unauthorized
from ..keys import CAPABILITIES

if TYPE_CHECKING:
    from ..errors import Json
    from ..fields import Fields
    from ..keys import Key
    from ..service import Service

# B2's own bounds: a thousand days, and ten thousand keys a page.
_MAX_SECONDS, _MAX_PAGE = 1000 * 24 * 3600, 10_000
_NAME = re.compile(r"[A-Za-z0-9-]{1,100}")
_ACCOUNT_WIDE = {"listKeys", "writeKeys", "deleteKeys"}


def create(service: Service, key: Key, fields: Fields) -> Json:
    """b2_create_key; nobody gives what they do not have."""
    key.require("writeKeys")
    name, capabilities = fields.text("keyName"), fields.texts("capabilities")
    if not _NAME.fullmatch(name):
        raise bad_request(f"Invalid keyName: {name}")
    if unknown := set(capabilities) - set(CAPABILITIES):
        raise bad_request(f"Invalid capabilities: {', '.join(sorted(unknown))}")
    if not capabilities:
        raise bad_request("capabilities must not be empty")
    if set(capabilities) - set(key.capabilities):
        raise unauthorized()
    bucket_ids = None if fields.raw("bucketIds") is None else fields.texts("bucketIds")
    if bucket_ids is not None:
        if not bucket_ids:
            raise bad_request("bucketIds must not be empty")
        for bucket_id in bucket_ids:
            service.buckets.get(bucket_id)
        if refused := set(capabilities) & _ACCOUNT_WIDE:
            raise bad_request(f"a key of some buckets cannot have {', '.join(sorted(refused))}")
    expires_ms = None
    if fields.raw("validDurationInSeconds") is not None:
        seconds = fields.number("validDurationInSeconds", default=None, low=1, high=_MAX_SECONDS)
        expires_ms = service.clock.now_ms() + seconds * 1000
    made, secret = service.keys.create(
        name, capabilities, bucket_ids, fields.optional_text("namePrefix"), expires_ms
    )
    return {**_shown(service, made), "applicationKey": secret}


def list_all(service: Service, key: Key, fields: Fields) -> Json:
    """b2_list_keys; the master key is not among them."""
    key.require("listKeys")
    limit = fields.number("maxKeyCount", default=100, low=1, high=_MAX_PAGE)
    found = list(service.keys.all(fields.optional_text("startApplicationKeyId") or ""))
    return {
        "keys": [_shown(service, each) for each in found[:limit]],
        "nextApplicationKeyId": found[limit].key_id if len(found) > limit else None,
    }


def delete(service: Service, key: Key, fields: Fields) -> Json:
    """b2_delete_key."""
    key.require("deleteKeys")
    key_id = fields.text("applicationKeyId")
    found = service.keys.find(key_id)
    if found is None or found.key_id == service.master.key_id:
        raise bad_request(f"application key does not exist: {key_id}")
    service.keys.delete(key_id)
    return _shown(service, found)


def _shown(service: Service, key: Key) -> Json:
    return {
        "accountId": service.account_id,
        "applicationKeyId": key.key_id,
        "bucketIds": None if key.bucket_ids is None else list(key.bucket_ids),
        "capabilities": list(key.capabilities),
        "expirationTimestamp": key.expires_ms,
        "keyName": key.name,
        "namePrefix": key.name_prefix,
        "options": ["s3"],
    }
