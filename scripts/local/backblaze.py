"""The bucket of the local B2 endpoint and its application keys, each with no more than it needs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from b2sdk.v3 import B2Api, Bucket, InMemoryAccountInfo
from b2sdk.v3.exception import NonExistentBucket

from scripts.local.home import ADDRESS, ENVIRONMENT, PORTS, kept

if TYPE_CHECKING:
    from collections.abc import Mapping

REALM = f"http://{ADDRESS}:{PORTS['the B2 endpoint'][0]}"
BUCKET = "harmattan-local"
KEYS: Mapping[str, tuple[list[str], str]] = {
    "writer": (["listBuckets", "listFiles", "writeFiles"], f"{ENVIRONMENT}/daily/"),
    "drill": (["listBuckets", "listFiles", "readFiles", "readBucketRetentions"], f"{ENVIRONMENT}/"),
    # A key has one prefix, and this one reads below daily/ what it writes below monthly/.
    "copier": (["listBuckets", "listFiles", "readFiles", "writeFiles"], f"{ENVIRONMENT}/"),
    "drill-results": (["listBuckets", "listFiles", "writeFiles"], f"{ENVIRONMENT}/drills/"),
}


def key_file(name: str) -> str:
    """Return what a key is kept as, which changes with its rights: a platform gets a new one."""
    capabilities, prefix = KEYS[name]
    rights = hashlib.sha256(f"{sorted(capabilities)} {prefix}".encode()).hexdigest()[:8]
    return f"b2-{name}-{rights}"


def _api() -> B2Api:
    api = B2Api(InMemoryAccountInfo())
    master = kept("b2-master")
    api.authorize_account(
        application_key_id=master["key_id"], application_key=master["key"], realm=REALM
    )
    return api


def bucket() -> Bucket:
    """Return the bucket, made if it is not there."""
    api = _api()
    try:
        return api.get_bucket_by_name(BUCKET)
    except NonExistentBucket:
        return api.create_bucket(BUCKET, "allPrivate")


def bucket_keys() -> dict[str, dict[str, str]]:
    """Return the application keys by name, ``{"key_id", "key"}`` each, made the first time."""
    keys = {}
    for name, (capabilities, prefix) in KEYS.items():

        def make(
            name: str = name, capabilities: list[str] = capabilities, prefix: str = prefix
        ) -> dict[str, str]:
            api, key_name = _api(), f"harmattan-{name}"
            for before in [each for each in api.list_keys() if each.key_name == key_name]:
                api.delete_key_by_id(before.id_)  # of other rights, or of a Vault that is gone
            key = api.create_key(
                capabilities, key_name, bucket_ids=[bucket().id_], name_prefix=prefix
            )
            return {"key_id": key.id_, "key": key.application_key}

        keys[name] = kept(key_file(name), make)
    return keys
