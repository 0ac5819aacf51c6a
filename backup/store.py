"""The bucket: the only module that speaks to B2.

b2sdk has no type information, so its values stop being ``Any`` at this module's edge. What it
leaves to the caller (facts: a failed large file stays unfinished, a large file has no hash of the
whole, a lost answer of a small upload leaves two versions) is dealt with here and in the manifest.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog
import tenacity
from b2sdk.v3 import B2Api, InMemoryAccountInfo
from b2sdk.v3.exception import B2Error
from requests.exceptions import RequestException

from backup.deadline import Stopped, time_limit
from backup.errors import BackupError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backup.settings import B2Key, Settings

PARTS_LIMIT = 10_000  # B2's own, for one large file
MARGIN_PERCENT = (
    125  # a stream may outgrow the database's size: incompressible bytea, dumped as hex
)
MEBIBYTE = 1 << 20
BUFFERS_BELOW = 32 * MEBIBYTE
CANCEL_SECONDS = 60  # so that a dead network does not hold a job that already failed
READ_BYTES = 1 << 20

log = structlog.get_logger()


class Source(Protocol):
    """Something that can be read once, and raises instead of ending early."""

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, ``b""`` at the end."""


@dataclass(frozen=True)
class PartPlan:
    """Bytes of each part, and how many parts are in memory at once."""

    part_size: int
    buffers: int

    @property
    def capacity(self) -> int:
        """The longest stream that fits into one large file."""
        return self.part_size * PARTS_LIMIT


@dataclass(frozen=True)
class StoredObject:
    """One version of one object in the bucket; ``uploaded`` in milliseconds since 1970."""

    name: str
    file_id: str
    size: int
    uploaded: int


def part_size(expected_size: int, minimum: int) -> int:
    """Return bytes a part so that ``expected_size`` and a quarter more fits into 10,000 parts."""
    needed = -(-expected_size * MARGIN_PERCENT // (100 * PARTS_LIMIT))
    whole = -(-needed // MEBIBYTE) * MEBIBYTE
    return max(minimum, whole)


def plan_parts(expected_size: int, minimum: int) -> PartPlan:
    """Return the plan for a stream of about ``expected_size`` bytes.

    b2sdk takes about 1.5 times part size times buffers. Three buffers of up to 32 MiB, then two:
    under 200 MB in all for databases up to 300 GB; beyond that completeness outranks memory.
    """
    size = part_size(expected_size, minimum)
    return PartPlan(size, 3 if size < BUFFERS_BELOW else 2)


def _b2_error(doing: str, error: Exception) -> BackupError:
    told = " ".join(str(error).split())[-300:]
    return BackupError(
        f"{doing} failed: {type(error).__name__}: {told}",
        hint="Look at the B2 key's rights and expiry, the bucket's name and the way to the realm.",
    )


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except (B2Error, RequestException) as error:
        raise _b2_error(doing, error) from error


class Store:
    """One bucket, seen with the rights of one key."""

    def __init__(self, api: Any, bucket: Any) -> None:
        self._api = api
        self._bucket = bucket

    def may_write(self, name: str) -> bool:
        """Tell whether the key can upload an object called ``name``."""
        allowed = self._api.account_info.get_allowed()
        prefix = allowed.get("namePrefix") or ""
        return "writeFiles" in allowed["capabilities"] and name.startswith(prefix)

    def upload_stream(self, name: str, source: Source, plan: PartPlan) -> StoredObject:
        """Upload ``source`` to its end as the new object ``name``, in flat memory.

        Whatever interrupts it, also an error that ``source`` raises, leaves no object behind and
        no unfinished large file either, if the network lets it be cancelled.
        """
        try:
            with _translated(f"upload of {name}"):
                version = self._bucket.upload_unbound_stream(
                    source,
                    name,
                    content_type="application/octet-stream",
                    recommended_upload_part_size=plan.part_size,
                    buffers_count=plan.buffers,
                    read_size=READ_BYTES,
                )
        except BaseException:
            self._cancel(name)
            raise
        return _stored(version)

    def _cancel(self, name: str) -> None:
        """Cancel all unfinished large files called ``name``; never hide the error that led here.

        By name and not by id: the answer that held the id may be what was lost.
        """
        try:
            with time_limit(CANCEL_SECONDS):
                for unfinished in self._bucket.list_unfinished_large_files(prefix=name):
                    if unfinished.file_name == name:
                        self._api.cancel_large_file(unfinished.file_id)
                        log.info("large file cancelled", object=name)
        except (B2Error, RequestException, Stopped) as error:
            log.warning("large file not cancelled", object=name, error=type(error).__name__)

    def put(self, name: str, data: bytes) -> StoredObject:
        """Upload a small object, patiently: a manifest is the end of hours of work."""
        patient = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((B2Error, RequestException)),
            wait=tenacity.wait_random_exponential(multiplier=1, max=20),
            stop=tenacity.stop_after_attempt(6),
            reraise=True,
        )
        with _translated(f"upload of {name}"):
            version = patient(
                self._bucket.upload_bytes, data, name, content_type="application/json"
            )
        return _stored(version)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the oldest version of every object below ``prefix``, a folder without its slash.

        Names are used once, so a younger version is a retry's twin or somebody's overwriting; a
        hidden object still counts, because the writer's key can hide.
        """
        with _translated(f"listing of {prefix}"):
            oldest: dict[str, StoredObject] = {}
            for version, _ in self._bucket.ls(f"{prefix}/", latest_only=False, recursive=True):
                if version.action == "upload":
                    found = _stored(version)
                    known = oldest.get(found.name)
                    if known is None or found.uploaded < known.uploaded:
                        oldest[found.name] = found
        yield from oldest.values()

    def get(self, name: str, file_id: str) -> bytes:
        """Return the bytes of a small object."""
        with _translated(f"download of {name}"):
            response = self._api.download_file_by_id(file_id)
            collected = _Collected()
            response.save(collected, allow_seeking=False)
        return bytes(collected.data)

    def download(self, name: str, file_id: str, path: Path) -> tuple[int, str]:
        """Download one version to ``path`` and return its size and SHA-256 as read from there."""
        with _translated(f"download of {name}"):
            self._api.download_file_by_id(file_id).save_to(path)
        with path.open("rb") as downloaded:
            digest = hashlib.file_digest(downloaded, "sha256").hexdigest()
        return path.stat().st_size, digest


class _Collected:
    """A sink in memory for :meth:`Store.get`."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)

    def seekable(self) -> bool:
        return False


def _stored(version: Any) -> StoredObject:
    return StoredObject(
        str(version.file_name),
        str(version.id_),
        int(version.size),
        int(version.upload_timestamp),
    )


@contextmanager
def open_store(settings: Settings, key: B2Key) -> Iterator[Store]:
    """Authorise with ``key`` and yield the configured bucket."""
    api = B2Api(InMemoryAccountInfo())
    try:
        with _translated(f"authorisation at {settings.b2_realm}"):
            api.authorize_account(key.key_id, key.key.get_secret_value(), realm=settings.b2_realm)
        with _translated(f"opening bucket {settings.bucket}"):
            bucket = api.get_bucket_by_name(settings.bucket)
        yield Store(api, bucket)
    finally:
        api.session.raw_api.b2_http.session.close()
