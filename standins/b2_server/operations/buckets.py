"""Calls on buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..buckets import checked_changes, checked_retention
from ..errors import bad_request

if TYPE_CHECKING:
    from ..errors import Json
    from ..fields import Fields
    from ..keys import Key
    from ..service import Service

_CHANGEABLE = (
    "bucketType",
    "bucketInfo",
    "corsRules",
    "lifecycleRules",
    "defaultServerSideEncryption",
    "fileLockEnabled",
    "replicationConfiguration",
)


def create(service: Service, key: Key, fields: Fields) -> Json:
    """b2_create_bucket."""
    key.require("writeBuckets")
    _check_account(service, fields)
    fields.text("bucketType")
    changes = checked_changes({name: fields.raw(name) for name in _CHANGEABLE})
    bucket = service.buckets.create(fields.text("bucketName"), changes)
    return bucket.shown(service.account_id, key)


def update(service: Service, key: Key, fields: Fields) -> Json:
    """b2_update_bucket."""
    bucket_id = fields.text("bucketId")
    key.require("writeBuckets", bucket_id=bucket_id)
    _check_account(service, fields)
    changes = checked_changes({name: fields.raw(name) for name in _CHANGEABLE})
    bucket = service.buckets.get(bucket_id)
    if (retention := fields.raw("defaultRetention")) is not None:
        key.require("writeBucketRetentions", bucket_id=bucket_id)
        changes["lock"] = checked_retention(retention, changes.get("lock", bucket.lock))
    changed = service.buckets.update(bucket, changes, fields.raw("ifRevisionIs"))
    return changed.shown(service.account_id, key)


def delete(service: Service, key: Key, fields: Fields) -> Json:
    """b2_delete_bucket."""
    bucket_id = fields.text("bucketId")
    key.require("deleteBuckets", bucket_id=bucket_id)
    _check_account(service, fields)
    bucket = service.buckets.get(bucket_id)
    service.buckets.delete(bucket)
    return bucket.shown(service.account_id, key)


def list_all(service: Service, key: Key, fields: Fields) -> Json:
    """b2_list_buckets; a key that is restricted to buckets must name one of them."""
    key.require("listBuckets", bucket_id=_named_bucket(service, key, fields))
    _check_account(service, fields)
    bucket_id, name = fields.optional_text("bucketId"), fields.optional_text("bucketName")
    types = fields.raw("bucketTypes") or ["all"]
    found = [
        bucket
        for bucket in service.buckets.all()
        if (bucket_id is None or bucket.bucket_id == bucket_id)
        and (name is None or bucket.name.lower() == name.lower())
        and ("all" in types or bucket.type in types)
    ]
    return {"buckets": [bucket.shown(service.account_id, key) for bucket in found]}


def _named_bucket(service: Service, key: Key, fields: Fields) -> str | None:
    """Return the id of the bucket that a call asks for, if the key may see only some."""
    if key.bucket_ids is None:
        return None
    name = fields.optional_text("bucketName")
    if name is None:
        return fields.optional_text("bucketId")
    bucket = service.buckets.named(name)
    return None if bucket is None else bucket.bucket_id


def _check_account(service: Service, fields: Fields) -> None:
    if fields.text("accountId") != service.account_id:
        raise bad_request("Invalid accountId")
