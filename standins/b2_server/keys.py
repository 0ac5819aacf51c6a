"""Application keys: the master key from the credentials file, and those made with it."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import unauthorized

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from .database import Database

CAPABILITIES = (
    "listKeys",
    "writeKeys",
    "deleteKeys",
    "listBuckets",
    "listAllBucketNames",
    "readBuckets",
    "writeBuckets",
    "deleteBuckets",
    "readBucketEncryption",
    "writeBucketEncryption",
    "readBucketRetentions",
    "writeBucketRetentions",
    "readFileRetentions",
    "writeFileRetentions",
    "readFileLegalHolds",
    "writeFileLegalHolds",
    "readBucketReplications",
    "writeBucketReplications",
    "bypassGovernance",
    "listFiles",
    "readFiles",
    "shareFiles",
    "writeFiles",
    "deleteFiles",
    "readBucketNotifications",
    "writeBucketNotifications",
)


def _hash(secret: str) -> str:
    # The secrets are long and random, so one round of a plain hash keeps them.
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True)
class Key:
    """An application key and what it may do; ``bucket_ids`` None: every bucket."""

    key_id: str
    secret_hash: str
    name: str
    capabilities: tuple[str, ...]
    bucket_ids: tuple[str, ...] | None = None
    name_prefix: str | None = None
    expires_ms: int | None = None

    def require(
        self, capability: str, *, bucket_id: str | None = None, name: str | None = None
    ) -> None:
        """Raise unless the key may do this, in this bucket, to this file (or prefix)."""
        if capability not in self.capabilities:
            raise unauthorized()
        if self.bucket_ids is not None and bucket_id not in self.bucket_ids:
            raise unauthorized()
        if self.name_prefix and name is not None and not name.startswith(self.name_prefix):
            raise unauthorized()

    def may(self, capability: str) -> bool:
        """Return whether the key has a capability."""
        return capability in self.capabilities


@dataclass(frozen=True)
class Master:
    """The account and its first key, as the credentials file gives them."""

    account_id: str
    key_id: str
    secret_hash: str

    @classmethod
    def of(cls, account_id: str, key_id: str, secret: str) -> Master:
        """Return the master key without its secret."""
        return cls(account_id, key_id, _hash(secret))

    def key(self) -> Key:
        """Return it as a key that may do everything."""
        return Key(self.key_id, self.secret_hash, "master", CAPABILITIES)


class Keys:
    """The keys of the account."""

    def __init__(self, database: Database, master: Master) -> None:
        self._database, self._master = database, master

    def find(self, key_id: str) -> Key | None:
        """Return a key; the account's id stands for the master key, as with B2."""
        if key_id in (self._master.key_id, self._master.account_id):
            return self._master.key()
        row = self._database.row("SELECT * FROM application_key WHERE key_id = ?", key_id)
        return None if row is None else _key(row)

    def proven(self, key_id: str, secret: str, now_ms: int) -> Key:
        """Return the key whose secret the caller knows."""
        key = self.find(key_id)
        if key is None or not hmac.compare_digest(key.secret_hash, _hash(secret)):
            raise unauthorized("The applicationKeyId and/or the applicationKey are wrong.")
        if key.expires_ms is not None and key.expires_ms <= now_ms:
            raise unauthorized("The applicationKeyId has expired.")
        return key

    def create(
        self,
        name: str,
        capabilities: list[str],
        bucket_ids: list[str] | None,
        name_prefix: str | None,
        expires_ms: int | None,
    ) -> tuple[Key, str]:
        """Make a key and return it with its secret, which is kept nowhere."""
        count = int(self._database.setting("keys_made") or 0) + 1
        secret = "K005" + secrets.token_urlsafe(20)
        key = Key(
            f"005{self._master.account_id}{count:010d}", _hash(secret), name, tuple(capabilities),
            None if bucket_ids is None else tuple(bucket_ids), name_prefix, expires_ms,
        )  # fmt: skip
        with self._database.transaction():
            self._database.set_setting("keys_made", str(count))
            self._database.run(
                "INSERT INTO application_key VALUES (?, ?, ?, ?, ?, ?, ?)",
                key.key_id, key.secret_hash, name, json.dumps(capabilities),
                None if bucket_ids is None else json.dumps(bucket_ids), name_prefix, expires_ms,
            )  # fmt: skip
        return key, secret

    def all(self, start: str) -> Iterator[Key]:
        """Yield the keys that were made, from ``start`` on, in the order of their ids."""
        for row in self._database.rows(
            "SELECT * FROM application_key WHERE key_id >= ? ORDER BY key_id", start
        ):
            yield _key(row)

    def delete(self, key_id: str) -> None:
        """Delete a key, and so all tokens that came from it."""
        self._database.run("DELETE FROM application_key WHERE key_id = ?", key_id)


def _key(row: sqlite3.Row) -> Key:
    buckets = row["bucket_ids"]
    return Key(
        row["key_id"], row["secret_hash"], row["name"], tuple(json.loads(row["capabilities"])),
        None if buckets is None else tuple(json.loads(buckets)),
        row["name_prefix"], row["expires_ms"],
    )  # fmt: skip
