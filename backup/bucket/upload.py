"""The upload of one stream as one large file: parts that grow, each with a patience of its own.

b2sdk's own upload of a stream has parts of one size, gives up on a part after five tries without
a pause, and leaves an unfinished file behind. Its session, which knows tokens and addresses, is
used; the rest is here.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import tenacity
from b2sdk.v3.exception import (
    B2ConnectionError,
    B2RequestTimeout,
    BadRequest,
    BadUploadUrl,
    BrokenPipe,
    ChecksumMismatch,
    ConnectionReset,
    FileNotPresent,
    InvalidAuthToken,
    MaxRetriesExceeded,
    PartSha1Mismatch,
    RequestTimeout,
    ServiceError,
    TooManyRequests,
    TruncatedOutput,
    UnknownError,
    UnknownHost,
)
from requests.exceptions import RequestException

from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tenacity import RetryCallState

PARTS_LIMIT = 10_000  # B2's own, for one large file
LARGEST_PART = 5_000_000_000  # B2's own
STEADY_PARTS = 9_000  # of one size; those behind grow, so that the limit never binds
GROWTH = 1.012  # from one part to the next
MEBIBYTE = 1 << 20
LARGE_PART = 32 * MEBIBYTE  # two of them are in memory at once, of smaller ones three
PATIENCE = 45 * 60.0  # seconds that one call is tried again and again
LONGEST_WAIT = 300.0  # seconds, also if the server asks for more

# What another try may mend. All else (rights, caps, names) would only be refused again.
TRANSIENT = (
    B2ConnectionError, B2RequestTimeout, BadUploadUrl, BrokenPipe, ChecksumMismatch,
    ConnectionReset, InvalidAuthToken, PartSha1Mismatch, RequestTimeout, ServiceError,
    TooManyRequests, TruncatedOutput, UnknownHost, RequestException,
)  # fmt: skip

log = get_logger(__name__)


class Source(Protocol):
    """Something that can be read once, and raises instead of ending early."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of ``buffer`` and return the bytes that are new, 0 at the end."""


@dataclass(frozen=True)
class PartPlan:
    """Bytes of the first part, and how many parts are in memory at once."""

    first: int
    buffers: int

    def size(self, number: int) -> int:
        """Return the bytes of part ``number``, counted from 1. Raises Failure behind 10,000."""
        if number > PARTS_LIMIT:
            raise Failure(
                f"dump is longer than the {self.capacity} bytes that {PARTS_LIMIT} parts hold",
                hint="Raise expected_size of the database in the registry and run again.",
            )
        grown = self.first * GROWTH ** max(0, number - STEADY_PARTS)
        return int(min(grown, LARGEST_PART))

    @property
    def capacity(self) -> int:
        """The longest stream that fits into one large file, in bytes."""
        return sum(self.size(number) for number in range(1, PARTS_LIMIT + 1))


def plan_parts(expected_size: int, minimum: int) -> PartPlan:
    """Return the plan for a stream of about ``expected_size`` bytes, in parts of ``minimum`` bytes.

    The expected bytes and a tenth more, as bytes that do not compress make a dump a little longer
    than its database, fit into the steady parts; ten times as much into all of them. Memory is
    parts times buffers: 124 MB for 500 GB.
    """
    needed = -(-expected_size * 11 // (10 * STEADY_PARTS))
    first = max(minimum, -(-needed // MEBIBYTE) * MEBIBYTE)
    return PartPlan(first, 2 if first >= LARGE_PART else 3)


def is_transient(error: BaseException) -> bool:
    """Tell whether another try may end better."""
    if isinstance(error, MaxRetriesExceeded):  # b2sdk's own tries of a small file, without a pause
        return all(map(is_transient, error.exception_info_list))
    if isinstance(error, UnknownError):  # to b2sdk, an answer that broke off
        return isinstance(error.__context__, RequestException)
    if isinstance(error, BadRequest):  # what arrived was damaged on its way
        return "sha1" in str(error).lower()
    return isinstance(error, TRANSIENT)


def _wait(state: RetryCallState) -> float:
    """Return the seconds until the next try: growing by chance, or what the server asks for."""
    error = state.outcome and state.outcome.exception()
    asked = getattr(error, "retry_after_seconds", None) or 0
    backoff = tenacity.wait_random_exponential(multiplier=0.5, max=60)(state)
    return min(max(backoff, asked), LONGEST_WAIT)


def patiently(what: str, stopping: threading.Event | None = None) -> tenacity.Retrying:
    """Return what calls a function again while its error is transient, and logs each time."""
    stopping = stopping or threading.Event()

    def told(state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        log.warning(
            "trying again",
            what=what,
            attempt=state.attempt_number,
            seconds=round(state.upcoming_sleep, 1),
            error=type(error).__name__,
        )

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=_wait,
        stop=tenacity.stop_after_delay(PATIENCE) | tenacity.stop_when_event_set(stopping),
        sleep=tenacity.sleep_using_event(stopping),
        before_sleep=told,
        reraise=True,
    )


class LargeFile:
    """One large file of a bucket, from its start to its end. Raises B2Error, RequestException."""

    def __init__(self, session: Any, bucket_id: str, name: str, plan: PartPlan) -> None:
        self._session = session
        self._bucket_id = bucket_id
        self._name = name
        self._plan = plan
        self._stopping = threading.Event()
        self._sha1s: list[str] = []

    def upload(self, parts: Iterable[bytearray], told: Callable[[int], None]) -> Any:
        """Upload ``parts``, two or more, and return B2's word on the file.

        ``told`` hears of the bytes of each part that is there.
        """
        started = self._patient("start")(
            self._session.start_large_file,
            self._bucket_id,
            self._name,
            "application/octet-stream",
            {},
        )
        file_id = started["fileId"]
        pending: deque[Future[tuple[str, int]]] = deque()

        def settle() -> None:
            sha1, size = pending.popleft().result()
            self._sha1s.append(sha1)
            told(size)

        pool = ThreadPoolExecutor(self._plan.buffers - 1, thread_name_prefix="part")
        try:
            for number, part in enumerate(parts, start=1):
                while len(pending) > self._plan.buffers - 2:  # beside `part` and the next one
                    settle()
                pending.append(pool.submit(self._put, file_id, number, part))
                del part  # its memory is free as soon as it is up
            while pending:
                settle()
        except BaseException:
            self._stopping.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return self._finish(file_id)

    def _patient(self, what: str) -> tenacity.Retrying:
        return patiently(f"{what} of {self._name}", self._stopping)

    def _put(self, file_id: str, number: int, part: bytearray) -> tuple[str, int]:
        sha1 = hashlib.sha1(part, usedforsecurity=False).hexdigest()  # B2's own check
        size = len(part)

        def put() -> None:
            answer = self._session.upload_part(file_id, number, size, sha1, _Body(part))
            if answer["contentSha1"] != sha1:
                raise ChecksumMismatch("sha1", sha1, answer["contentSha1"])

        self._patient(f"part {number}")(put)
        return sha1, size

    def _finish(self, file_id: str) -> Any:
        def finish() -> Any:
            try:
                return self._session.finish_large_file(file_id, self._sha1s)
            except (BadRequest, FileNotPresent):
                # So it answers where it finished the file, and only that answer was lost.
                if found := self._finished(file_id):
                    return found
                raise

        return self._patient("finish")(finish)

    def _finished(self, file_id: str) -> Any:
        listed = self._session.list_file_versions(
            self._bucket_id, start_file_name=self._name, max_file_count=10, prefix=self._name
        )
        return next(
            (
                version
                for version in listed["files"]
                if (version["fileId"], version["action"]) == (file_id, "upload")
            ),
            None,
        )


class _Body:
    """A part as requests sends it, from its beginning at every try, in blocks of its own size.

    http.client would send a file in blocks of 16 kB, a call and a packet each.
    """

    def __init__(self, part: bytearray) -> None:
        self._part = part

    def __len__(self) -> int:
        return len(self._part)

    def __iter__(self) -> Any:
        with memoryview(self._part) as view:
            for start in range(0, len(view), MEBIBYTE):
                yield view[start : start + MEBIBYTE]

    def seek(self, position: int) -> None:
        """Do nothing: each iteration starts at the beginning, which is all that b2sdk asks for."""


class Paced:
    """A source that gives at most ``rate`` bytes a second, however long it stood still before."""

    def __init__(self, source: Source, rate: int) -> None:
        self._source = source
        self._rate = rate
        self._due = time.monotonic()

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of ``buffer`` and return how far, once it is time for that much."""
        count = self._source.readinto(buffer[: max(1, self._rate // 4)])
        now = time.monotonic()
        self._due = max(self._due, now) + count / self._rate
        time.sleep(self._due - now)
        return count


def read_parts(source: Source, plan: PartPlan) -> Iterator[bytearray]:
    """Return the parts of ``source``; none is held on to once the next is asked for."""
    numbers = count(1)
    return iter(lambda: _read_part(source, plan.size(next(numbers))), bytearray())


def _read_part(source: Source, size: int) -> bytearray:
    part, filled = bytearray(size), 0
    with memoryview(part) as view:
        while filled < size:
            with view[filled:] as rest:
                new = source.readinto(rest)
            if not new:
                break
            filled += new
    del part[filled:]
    return part
