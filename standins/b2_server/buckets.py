"""Buckets: their records and how B2 shows them."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .clock import DAY_MS
from .errors import B2Error, Json, bad_request, no_such_bucket
from .lifecycle import checked_rules

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from .database import Database
    from .keys import Key

TYPES = ("allPrivate", "allPublic")
PLAIN: Json = {"algorithm": None, "mode": None}
NO_LOCK: Json = {
    "defaultRetention": {"mode": None, "period": None},
    "isFileLockEnabled": False,
}
UNLOCKED: Json = {"mode": None, "retainUntilTimestamp": None}
_UNITS = {"days": DAY_MS, "years": 365 * DAY_MS}
_NAME = re.compile(r"[A-Za-z0-9-]{6,63}")


@dataclass(frozen=True)
class Bucket:
    """A bucket as it is stored."""

    bucket_id: str
    name: str
    type: str
    info: Json
    cors_rules: list[Json]
    lifecycle_rules: list[Json]
    encryption: Json
    revision: int
    lock: Json

    def retention(self, now_ms: int) -> Json:
        """Return how long, and how strictly, a file is kept that is uploaded now."""
        mode, period = (self.lock["defaultRetention"][name] for name in ("mode", "period"))
        if mode is None:
            return UNLOCKED
        until_ms = now_ms + period["duration"] * _UNITS[period["unit"]]
        return {"mode": mode, "retainUntilTimestamp": until_ms}

    def shown(self, account_id: str, key: Key) -> Json:
        """Return the bucket as B2 shows it to the bearer of ``key``."""
        replication = {"asReplicationSource": None, "asReplicationDestination": None}
        return {
            "accountId": account_id,
            "bucketId": self.bucket_id,
            "bucketInfo": self.info,
            "bucketName": self.name,
            "bucketType": self.type,
            "corsRules": self.cors_rules,
            "defaultServerSideEncryption": if_read(key, "readBucketEncryption", self.encryption),
            "fileLockConfiguration": if_read(key, "readBucketRetentions", self.lock),
            "lifecycleRules": self.lifecycle_rules,
            "options": [],
            "replicationConfiguration": if_read(key, "readBucketReplications", replication),
            "revision": self.revision,
        }


def if_read(key: Key, capability: str, value: Any) -> Json:
    """Wrap a value that only some keys may read, as B2 does."""
    allowed = key.may(capability)
    return {"isClientAuthorizedToRead": allowed, "value": value if allowed else None}


def checked_encryption(value: Json | None) -> Json:
    """Return a setting of server-side encryption: none, or SSE-B2, which shows nowhere else."""
    mode = (value or {}).get("mode")
    if mode in (None, "none"):
        return PLAIN
    if mode != "SSE-B2":
        raise bad_request(f"this server does not do server-side encryption {mode}")
    return {"algorithm": "AES256", "mode": "SSE-B2"}


def checked_changes(fields: Json) -> Json:
    """Return the fields of a create or update call under the names of ``Bucket``, checked."""
    if fields.get("replicationConfiguration"):
        raise bad_request("this server does not do replication")
    changes: Json = {}
    if (kind := fields.get("bucketType")) is not None:
        if kind not in TYPES:
            raise bad_request(f"bucketType must be one of {', '.join(TYPES)}, not {kind!r}")
        changes["type"] = kind
    for field, name in (("bucketInfo", "info"), ("corsRules", "cors_rules")):
        if fields.get(field) is not None:
            changes[name] = fields[field]
    if fields.get("lifecycleRules") is not None:
        changes["lifecycle_rules"] = checked_rules(fields["lifecycleRules"])
    if fields.get("defaultServerSideEncryption") is not None:
        changes["encryption"] = checked_encryption(fields["defaultServerSideEncryption"])
    if fields.get("fileLockEnabled") is not None:
        changes["lock"] = {**NO_LOCK, "isFileLockEnabled": bool(fields["fileLockEnabled"])}
    return changes


def checked_retention(value: Json, lock: Json) -> Json:
    """Return ``lock`` with another default retention."""
    if not lock["isFileLockEnabled"]:
        raise bad_request("File Lock is not enabled on this bucket")
    period = value.get("period") or {}
    if value.get("mode") is not None and (
        value["mode"] not in ("governance", "compliance")
        or period.get("unit") not in _UNITS
        or not isinstance(period.get("duration"), int)
    ):
        raise bad_request(f"Invalid defaultRetention: {value}")
    return {**lock, "defaultRetention": {"mode": value.get("mode"), "period": period or None}}


class Buckets:
    """The buckets of the account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, bucket_id: str) -> Bucket:
        """Return a bucket that must be there."""
        row = self._database.row("SELECT * FROM bucket WHERE bucket_id = ?", bucket_id)
        if row is None:
            raise no_such_bucket(bucket_id)
        return _bucket(row)

    def named(self, name: str) -> Bucket | None:
        """Return the bucket of a name; case counts for nothing in bucket names."""
        row = self._database.row("SELECT * FROM bucket WHERE lower(name) = lower(?)", name)
        return None if row is None else _bucket(row)

    def all(self) -> Iterator[Bucket]:
        """Yield every bucket, by name."""
        for row in self._database.rows("SELECT * FROM bucket ORDER BY name"):
            yield _bucket(row)

    def create(self, name: str, changes: Json) -> Bucket:
        """Create a bucket."""
        if not _NAME.fullmatch(name) or name.startswith("b2-"):
            raise bad_request(f"Invalid bucketName: {name}")
        if self.named(name) is not None:
            raise bad_request("Bucket name is already in use.", "duplicate_bucket_name")
        empty = Bucket(secrets.token_hex(12), name, "allPrivate", {}, [], [], PLAIN, 1, NO_LOCK)
        bucket = replace(empty, **changes)
        self._write(bucket)
        return bucket

    def update(self, bucket: Bucket, changes: Json, if_revision: int | None) -> Bucket:
        """Change a bucket, if it is still at the revision that the caller saw."""
        if if_revision is not None and if_revision != bucket.revision:
            raise B2Error(409, "conflict", f"bucket is at revision {bucket.revision}")
        changed = replace(bucket, **changes, revision=bucket.revision + 1)
        self._write(changed)
        return changed

    def delete(self, bucket: Bucket) -> None:
        """Delete a bucket, which must be empty."""
        if self._database.row("SELECT 1 FROM file_version WHERE bucket_id = ?", bucket.bucket_id):
            raise bad_request(
                "Cannot delete non-empty bucket", "cannot_delete_non_empty_bucket"
            )  # fmt: skip
        self._database.run("DELETE FROM bucket WHERE bucket_id = ?", bucket.bucket_id)

    def _write(self, bucket: Bucket) -> None:
        self._database.run(
            "INSERT OR REPLACE INTO bucket VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            bucket.bucket_id, bucket.name, bucket.type, json.dumps(bucket.info),
            json.dumps(bucket.cors_rules), json.dumps(bucket.lifecycle_rules),
            json.dumps(bucket.encryption), bucket.revision, json.dumps(bucket.lock),
        )  # fmt: skip


def _bucket(row: sqlite3.Row) -> Bucket:
    return Bucket(
        row["bucket_id"], row["name"], row["type"], json.loads(row["info"]),
        json.loads(row["cors_rules"]), json.loads(row["lifecycle_rules"]),
        json.loads(row["encryption"]), row["revision"], json.loads(row["lock"]),
    )  # fmt: skip
