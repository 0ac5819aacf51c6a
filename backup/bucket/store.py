"""The bucket as all else sees it: of what is outside this folder nothing speaks to B2.

b2sdk has no type information, so its values stop being ``Any`` at the folder's edge. What it leaves
to the caller is dealt with here and in the manifest: a failed large file stays unfinished, a large
file has no hash of the whole, a lost answer of a small upload leaves two versions.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from b2sdk.v3.exception import B2Error, Conflict
from requests.exceptions import RequestException

from backup.bucket.download import Download
from backup.bucket.patience import patiently
from backup.bucket.session import new_api, translated
from backup.bucket.upload import LargeFile, put_small, read_parts, unfinished_files
from backup.bucket.versions import StoredObject, first_of_each, stored
from backup.deadline import clean_up
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from backup.bucket.session import Requests
    from backup.bucket.upload import PartPlan, Source
    from backup.settings import B2Key, Settings

LEFTOVERS_SECONDS = 60.0  # that B2 may not cancel what a killed run left, before the backup goes on
CLOCK_SECONDS = 300.0  # that this host's clock may differ from B2's
PAGE = 10_000  # versions that one answer lists: B2's most

log = get_logger(__name__)


class Store:
    """One bucket, seen with the rights of one key.

    ``told`` hears of bytes as they get there: of each part of an upload, each block of a download.
    """

    def __init__(self, api: Any, bucket: Any, http: Requests, told: Callable[[int], None]) -> None:
        self._api = api
        self._session = api.session
        self._bucket = bucket
        self._http = http
        self._told = told
        self._begun: set[str] = set()

    @property
    def clock_ahead(self) -> float | None:
        """By how many seconds this host's clock is ahead of B2's, to about a second.

        None if B2 has not told its time.
        """
        return self._http.ahead

    def may(self, capability: str, name: str = "") -> bool:
        """Tell whether the key has a right, and for an object or folder called ``name``."""
        allowed = self._api.account_info.get_allowed()
        prefix = (allowed.get("namePrefix") or "") if name else ""
        return capability in allowed["capabilities"] and name.startswith(prefix)

    def upload_stream(self, name: str, source: Source, plan: PartPlan) -> StoredObject:
        """Upload ``source`` to its end as the new object ``name``, in flat memory.

        Whatever interrupts it, also an error that ``source`` raises, leaves no object behind, and
        no unfinished large file once :meth:`tidied` or the session ends.
        """
        parts = read_parts(source, plan)
        begun = list(islice(parts, 2))
        if len(begun) < 2:  # noqa: PLR2004 - B2 makes no large file of one part
            small = self.put(name, b"".join(begun), content_type="application/octet-stream")
            self._told(small.size)
            return small
        large = LargeFile(self._session, self._bucket.id_, name, plan)
        self._begun.add(name)
        with translated(f"upload of {name}"):
            version = large.upload(chain(_drained(begun), parts), self._told)
        if large.starts > 1:
            self.cancel_unfinished(name)
        self._begun.discard(name)
        return stored(version)

    @contextmanager
    def tidied(self) -> Iterator[None]:
        """Cancel, behind an error inside, every large file that was begun inside and not finished.

        Enter it before what the uploads read from: so that is closed first, and no session on a
        source waits for B2. It is for errors behind which the session goes on; at its end, also by
        a stop, :func:`open_store` does the same.
        """
        try:
            yield
        except Exception:
            self.cancel_begun()
            raise

    def cancel_begun(self) -> None:
        """Cancel every large file that this session began and did not finish, within a time."""
        names = sorted(self._begun)
        self._begun.clear()
        for name in names:
            with clean_up(f"cancelling {name}"):
                self.cancel_unfinished(name)

    def cancel_unfinished(self, prefix: str) -> None:
        """Cancel all unfinished large files below ``prefix``; B2's refusal is only logged.

        By name and not by id: the answer that held the id may be what was lost.
        """
        try:
            for name, file_id in self._unfinished(prefix):
                cancel = patiently("b2_cancel_large_file", name, seconds=LEFTOVERS_SECONDS)
                cancel(self._session.cancel_large_file, file_id)
                log.info("large file cancelled", object=name)
        except (B2Error, RequestException) as error:
            log.warning("large file not cancelled", object=prefix, error=type(error).__name__)

    def _unfinished(self, prefix: str) -> list[tuple[str, str]]:
        """Return name and id of every unfinished large file below ``prefix``."""

        def unfinished() -> list[tuple[str, str]]:
            files = unfinished_files(self._session, self._bucket.id_, prefix)
            return [(str(each["fileName"]), str(each["fileId"])) for each in files]

        again: Callable[..., list[tuple[str, str]]] = patiently(
            "b2_list_unfinished_large_files", prefix, seconds=LEFTOVERS_SECONDS
        )
        return again(unfinished)

    def put(self, name: str, data: bytes, content_type: str = "application/json") -> StoredObject:
        """Upload a small object, patiently: a manifest is the end of hours of work."""
        with translated(f"upload of {name}"):
            return stored(put_small(self._session, self._bucket.id_, name, data, content_type))

    def copy(self, file_id: str, name: str, size: int) -> None:
        """Copy one version to the object ``name`` inside the bucket; no byte of it comes here.

        What an earlier try has copied stays as it is: a second version would hide it. b2sdk copies
        by parts what is larger than B2 copies in one call.
        """

        def copy() -> None:
            newest = next(iter(self._bucket.list_file_versions(name)), None)
            if newest is None or (newest.action, newest.size) != ("upload", size):
                self._bucket.copy(file_id, name, offset=0, length=size)

        self._begun.add(name)
        with translated(f"copy to {name}"):
            patiently("b2_copy_file", f"copy to {name}")(copy)
        self._begun.discard(name)

    def lifecycle_rules(self) -> tuple[int, Sequence[dict[str, Any]]]:
        """Return the bucket's revision and its lifecycle rules as B2 tells them."""
        bucket = self._fresh("the lifecycle rules")
        return bucket.revision, bucket.lifecycle_rules

    def object_lock(self) -> str:
        """Tell for how long B2 itself refuses to delete what is uploaded: ``compliance, 30 days``.

        ``none`` if it does not, ``unknown`` to a key without the right readBucketRetentions.
        """
        retention = self._fresh("the object lock").default_retention
        if retention.period is None:
            return str(retention.mode.value or "none")
        return f"{retention.mode.value}, {retention.period.duration} {retention.period.unit}"

    def _fresh(self, what: str) -> Any:
        with translated(f"reading {what}"):
            return patiently("b2_list_buckets", what)(self._bucket.get_fresh_state)

    def set_lifecycle_rules(self, rules: Sequence[dict[str, Any]], revision: int) -> None:
        """Replace the bucket's rules, unless it has changed since ``revision``."""

        def update() -> None:
            try:
                self._bucket.update(lifecycle_rules=rules, if_revision_is=revision)
            except Conflict:  # so it is with what a lost answer said, too
                there = self._bucket.get_fresh_state().lifecycle_rules
                if not all(_holds(rule, there) for rule in rules):
                    raise

        with translated("setting the lifecycle rules"):
            patiently("b2_update_bucket", "the lifecycle rules")(update)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the oldest version of every object below ``prefix``, a folder without its slash.

        Names are used once, so a younger version is a retry's twin or somebody's overwriting; a
        hidden object still counts, because the writer's key can hide.
        """
        with translated(f"listing of {prefix}"):
            versions = list(self._versions(f"{prefix}/"))
        yield from first_of_each(versions)

    def _versions(self, prefix: str) -> Iterator[Any]:
        again = patiently("b2_list_file_versions", f"listing of {prefix}")
        start: tuple[Any, Any] = (None, None)
        while True:
            page: Any = again(
                self._session.list_file_versions, self._bucket.id_, *start, PAGE, prefix
            )
            yield from page["files"]
            start = page["nextFileName"], page["nextFileId"]
            if start[0] is None:
                return

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the folders in the folder ``prefix``, without slashes."""

        def listed() -> set[str]:
            below = self._bucket.ls(f"{prefix}/", latest_only=False)
            return {folder for _, folder in below if folder is not None}

        with translated(f"listing of {prefix}"):
            again = patiently("b2_list_file_versions", f"folders of {prefix}")
            found: set[str] = again(listed)
        return tuple(sorted(folder.removeprefix(f"{prefix}/").rstrip("/") for folder in found))

    def get(self, name: str, file_id: str) -> bytes:
        """Return the bytes of a small object."""
        with translated(f"download of {name}"):
            return Download(self._session, name, file_id).whole()

    def stream(self, name: str, file_id: str) -> Generator[bytes]:
        """Yield the bytes of one version in their order. Raises :class:`Failure`."""
        with translated(f"download of {name}"):
            for data in Download(self._session, name, file_id).ranges():
                self._told(len(data))
                yield data


def _holds(rule: dict[str, Any], there: Sequence[dict[str, Any]]) -> bool:
    """Tell whether ``rule`` is ``there``, whichever of its unset numbers B2 leaves out."""
    return any(all(each.get(name) == value for name, value in rule.items()) for each in there)


def _drained(parts: list[bytearray]) -> Iterator[bytearray]:
    while parts:
        yield parts.pop(0)


def _check_clock(store: Store, *, refuse: bool) -> None:
    """Raise :class:`Failure` if this host's clock is far from B2's, by which backups are judged.

    What only reads warns instead: a restore has to go on.
    """
    ahead = store.clock_ahead or 0.0
    if abs(ahead) > CLOCK_SECONDS:
        how = "ahead of" if ahead > 0 else "behind"
        failure = Failure(
            f"clock of this host is {abs(ahead):.0f} s {how} B2's",
            hint="Set it right (NTP): ages, expiry and the order of backups go by it.",
        )
        if refuse:
            raise failure
        log.warning(failure.message, hint=failure.hint)


@contextmanager
def open_store(
    settings: Settings,
    key: B2Key,
    told: Callable[[int], None] = lambda _size: None,
    *,
    any_clock: bool = False,
) -> Iterator[Store]:
    """Authorise with ``key`` and yield the configured bucket; ``told`` is as :class:`Store`'s.

    With ``any_clock`` a host whose clock is far from B2's is only warned of. An error inside leaves
    no unfinished large file of this session, if B2 answers in time.
    """
    api, http = new_api()
    secret = key.key.get_secret_value()
    try:
        with translated(f"authorisation at {settings.b2_realm}"):
            authorise = patiently("b2_authorize_account", f"authorisation at {settings.b2_realm}")
            authorise(api.authorize_account, key.key_id, secret, realm=settings.b2_realm)
        with translated(f"opening bucket {settings.bucket}"):
            bucket: Any = patiently("b2_list_buckets", f"bucket {settings.bucket}")(
                api.get_bucket_by_name, settings.bucket
            )
        store = Store(api, bucket, http, told)
        _check_clock(store, refuse=not any_clock)
        try:
            yield store
        except BaseException:
            store.cancel_begun()
            raise
    finally:
        http.close()
