"""The bucket: the only module that speaks to B2.

b2sdk has no type information, so its values stop being ``Any`` at this module's edge. What it
leaves to the caller (facts: a failed large file stays unfinished, a large file has no hash of the
whole, a lost answer of a small upload leaves two versions) is dealt with here and in the manifest.
"""

from __future__ import annotations

import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from threading import Event
from typing import TYPE_CHECKING, Any

from b2sdk.v3 import B2Api, InMemoryAccountInfo
from b2sdk.v3.exception import B2Error, TruncatedOutput
from requests.exceptions import RequestException

from backup.bucket.upload import MEBIBYTE, LargeFile, patiently, read_parts
from backup.deadline import time_limit
from frame.failure import Failure, Stopped
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from backup.bucket.upload import PartPlan, Source
    from backup.settings import B2Key, Settings

# A download's requests, so many at once: one alone is slow where the way is long.
_RANGE, _RANGES = 4 * MEBIBYTE, 8
CANCEL_SECONDS = 60  # so that a dead network does not hold a job that already failed

LARGE = "none"  # what B2 tells as the SHA-1 of a large file

log = get_logger(__name__)


@dataclass(frozen=True)
class StoredObject:
    """One version of one object in the bucket; times are in milliseconds since 1970.

    ``hidden`` is when something newer of that name came before it: a mark, or another object.
    ``sha1`` is B2's own, which a large file has not; ``twins`` are the ids of what lost answers had
    uploaded once more.
    """

    name: str
    file_id: str
    size: int
    uploaded: int
    hidden: int | None = None
    sha1: str | None = None
    twins: tuple[str, ...] = ()

    @property
    def uploaded_at(self) -> datetime:
        """When B2 took it, by B2's own clock."""
        return datetime.fromtimestamp(self.uploaded / 1000, UTC)


def _b2_error(doing: str, error: Exception) -> Failure:
    told = " ".join(str(error).split())[-300:]
    return Failure(
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
    """One bucket, seen with the rights of one key.

    ``told`` hears of bytes as they get there: of each part of an upload, each block of a download.
    """

    def __init__(self, api: Any, bucket: Any, streams: Any, told: Callable[[int], None]) -> None:
        """Use ``api``, and for ranges of a stream the session ``streams``."""
        self._api = api
        self._bucket = bucket
        self._streams = streams
        self._told = told

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
        parts = read_parts(source, plan)
        begun = list(islice(parts, 2))
        if len(begun) < 2:  # noqa: PLR2004 - B2 makes no large file of one part
            stored = self.put(name, b"".join(begun), content_type="application/octet-stream")
            self._told(stored.size)
            return stored
        large = LargeFile(self._api.session, self._bucket.id_, name, plan)
        try:
            with _translated(f"upload of {name}"):
                version = large.upload(chain(_drained(begun), parts), self._told)
        except BaseException:
            self.cancel_unfinished(name)
            raise
        return StoredObject(
            name, version["fileId"], version["contentLength"], version["uploadTimestamp"]
        )

    def cancel_unfinished(self, prefix: str) -> None:
        """Cancel all unfinished large files below ``prefix``; never hide an error that led here.

        By name and not by id: the answer that held the id may be what was lost.
        """
        try:
            with time_limit(CANCEL_SECONDS):
                for unfinished in self._bucket.list_unfinished_large_files(prefix=prefix):
                    self._api.cancel_large_file(unfinished.file_id)
                    log.info("large file cancelled", object=unfinished.file_name)
        except (B2Error, RequestException, Stopped) as error:
            log.warning("large file not cancelled", object=prefix, error=type(error).__name__)

    def put(self, name: str, data: bytes, content_type: str = "application/json") -> StoredObject:
        """Upload a small object, patiently: a manifest is the end of hours of work."""
        with _translated(f"upload of {name}"):
            version = patiently(f"upload of {name}")(
                self._bucket.upload_bytes, data, name, content_type=content_type
            )
        return _stored(version)

    def copy(self, file_id: str, name: str, size: int) -> None:
        """Copy one version to the object ``name`` inside the bucket; no byte of it comes here.

        What an earlier try has copied stays as it is: a second version would hide it. b2sdk copies
        by parts what is larger than B2 copies in one call.
        """

        def copy() -> None:
            newest = next(iter(self._bucket.list_file_versions(name)), None)
            if newest is None or (newest.action, newest.size) != ("upload", size):
                self._bucket.copy(file_id, name, offset=0, length=size)

        with _translated(f"copy to {name}"):
            patiently(f"copy to {name}")(copy)

    def lifecycle_rules(self) -> tuple[int, Sequence[dict[str, Any]]]:
        """Return the bucket's revision and its lifecycle rules as B2 tells them."""
        with _translated("reading the lifecycle rules"):
            fresh = self._bucket.get_fresh_state()
        return fresh.revision, fresh.lifecycle_rules

    def object_lock(self) -> str:
        """Tell for how long B2 itself refuses to delete what is uploaded: ``compliance, 30 days``.

        ``none`` if it does not, ``unknown`` to a key without the right readBucketRetentions.
        """
        with _translated("reading the object lock"):
            retention = self._bucket.get_fresh_state().default_retention
        if retention.period is None:
            return str(retention.mode.value or "none")
        return f"{retention.mode.value}, {retention.period.duration} {retention.period.unit}"

    def set_lifecycle_rules(self, rules: Sequence[dict[str, Any]], revision: int) -> None:
        """Replace the bucket's rules, unless it has changed since ``revision``."""
        with _translated("setting the lifecycle rules"):
            self._bucket.update(lifecycle_rules=rules, if_revision_is=revision)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the oldest version of every object below ``prefix``, a folder without its slash.

        Names are used once, so a younger version is a retry's twin or somebody's overwriting; a
        hidden object still counts, because the writer's key can hide.
        """
        versions: dict[str, list[Any]] = {}
        with _translated(f"listing of {prefix}"):
            for version, _ in self._bucket.ls(f"{prefix}/", latest_only=False, recursive=True):
                if version.action in ("upload", "hide"):
                    versions.setdefault(version.file_name, []).append(version)
        for of_name in versions.values():
            uploads = [version for version in of_name if version.action == "upload"]
            if uploads:
                first = min(uploads, key=lambda version: int(version.upload_timestamp))
                yield _stored(first, of_name)

    def get(self, name: str, file_id: str) -> bytes:
        """Return the bytes of a small object."""
        with _translated(f"download of {name}"):
            collected = io.BytesIO()
            self._api.download_file_by_id(file_id).save(collected, allow_seeking=False)
        return collected.getvalue()

    def stream(self, name: str, file_id: str) -> Generator[bytes]:
        """Yield the bytes of one version in their order, requested in ranges beside each other.

        Each range has a patience of its own. Raises :class:`Failure`.
        """
        session, stopping = self._streams, Event()
        url = session.get_download_url_by_id(file_id)
        pending: deque[Future[bytes]] = deque()
        pool = ThreadPoolExecutor(_RANGES, thread_name_prefix="range")

        def get(start: int, size: int) -> bytes:
            with session.download_file_from_url(url, (start, start + size - 1)) as answer:
                data = b"".join(answer.iter_content(size))
            if len(data) != size:
                raise TruncatedOutput(len(data), size)
            return data

        try:
            with _translated(f"download of {name}"):
                size = patiently(f"size of {name}")(self._api.get_file_info, file_id).size
                for start in range(0, size, _RANGE):
                    if len(pending) == _RANGES:
                        yield self._settled(pending.popleft())
                    again = patiently(f"byte {start} of {name}", stopping)
                    pending.append(pool.submit(again, get, start, min(_RANGE, size - start)))
                while pending:
                    yield self._settled(pending.popleft())
        finally:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _settled(self, pending: Future[bytes]) -> bytes:
        data = pending.result()
        self._told(len(data))
        return data


def _drained(parts: list[bytearray]) -> Iterator[bytearray]:
    while parts:
        yield parts.pop(0)


def _stored(version: Any, others: Sequence[Any] = ()) -> StoredObject:
    later = [
        int(other.upload_timestamp)
        for other in others
        if int(other.upload_timestamp) > int(version.upload_timestamp)
        and not _is_twin(version, other)
    ]
    return StoredObject(
        str(version.file_name),
        str(version.id_),
        int(version.size),
        int(version.upload_timestamp),
        min(later, default=None),
        None if version.content_sha1 in (None, LARGE) else str(version.content_sha1),
        tuple(
            str(other.id_)
            for other in others
            if other.id_ != version.id_ and _is_twin(version, other)
        ),
    )


def _is_twin(version: Any, other: Any) -> bool:
    """Tell whether a lost answer had ``version`` uploaded once more."""
    sha1 = version.content_sha1
    return bool(other.action == "upload" and other.content_sha1 == sha1 and sha1 != LARGE)


@contextmanager
def open_store(
    settings: Settings, key: B2Key, told: Callable[[int], None] = lambda _size: None
) -> Iterator[Store]:
    """Authorise with ``key`` and yield the configured bucket; ``told`` is as :class:`Store`'s."""
    account = InMemoryAccountInfo()
    api, streams = B2Api(account), B2Api(account).session
    # b2sdk's own 20 tries sleep where nothing wakes them; of a stream's ranges each is patient.
    http = streams.raw_api.b2_http
    http.get_content = partial(http.get_content, try_count=1)
    try:
        with _translated(f"authorisation at {settings.b2_realm}"):
            api.authorize_account(key.key_id, key.key.get_secret_value(), realm=settings.b2_realm)
        with _translated(f"opening bucket {settings.bucket}"):
            bucket = api.get_bucket_by_name(settings.bucket)
        yield Store(api, bucket, streams, told)
    finally:
        api.session.raw_api.b2_http.session.close()
        http.session.close()
