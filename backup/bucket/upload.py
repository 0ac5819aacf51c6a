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

from b2sdk.v3.exception import BadRequest, ChecksumMismatch, FileNotPresent

from backup.bucket.patience import patiently
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PARTS_LIMIT = 10_000  # B2's own, for one large file
LARGEST_PART = 5_000_000_000  # B2's own
STEADY_PARTS = 9_000  # of one size; those behind grow, so that the limit never binds
GROWTH = 1.012  # from one part to the next
MEBIBYTE = 1 << 20
LARGE_PART = 32 * MEBIBYTE  # two of them are in memory at once, of smaller ones three


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


def check_sha1(expected: str, actual: str) -> None:
    """Raise ChecksumMismatch unless the two SHA-1s are one."""
    if actual != expected:
        raise ChecksumMismatch("sha1", expected, actual)


def put_small(session: Any, bucket_id: str, name: str, data: bytes, content_type: str) -> Any:
    """Upload one small object and return B2's word on it. Raises B2Error, RequestException."""
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()  # B2's own check

    def put() -> Any:
        body = _Body(data) if data else b""  # to requests a stream of no bytes has no known end
        answer = session.upload_file(bucket_id, name, len(data), content_type, sha1, {}, body)
        check_sha1(sha1, answer["contentSha1"])
        return answer

    return patiently("b2_upload_file", f"upload of {name}")(put)


def unfinished_files(session: Any, bucket_id: str, prefix: str) -> Iterator[Any]:
    """Yield B2's word on every unfinished large file below ``prefix``."""
    start = None
    while True:
        page = session.list_unfinished_large_files(bucket_id, start, prefix=prefix)
        yield from page["files"]
        if (start := page["nextFileId"]) is None:
            return


class LargeFile:
    """One large file of a bucket, from its start to its end. Raises B2Error, RequestException."""

    def __init__(self, session: Any, bucket_id: str, name: str, plan: PartPlan) -> None:
        self._session = session
        self._bucket_id = bucket_id
        self._name = name
        self._plan = plan
        self._stopping = threading.Event()
        self._sha1s: list[str] = []
        self.starts = 0  # behind a second one an unfinished file may be left beside the finished

    def upload(self, parts: Iterable[bytearray], told: Callable[[int], None]) -> Any:
        """Upload ``parts``, two or more, and return B2's word on the file.

        ``told`` hears of the bytes of each part that is there.
        """
        file_id = self._patient("b2_start_large_file", "start")(self._start)
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
        return self._patient("b2_finish_large_file", "finish")(self._finish, file_id)

    def _patient(self, call: str, what: str) -> Callable[..., Any]:
        return patiently(call, f"{what} of {self._name}", self._stopping)

    def _start(self) -> str:
        """Start the file, or return the one that a start began whose answer was lost."""
        self.starts += 1
        if self.starts > 1:
            for unfinished in unfinished_files(self._session, self._bucket_id, self._name):
                if unfinished["fileName"] == self._name:
                    return str(unfinished["fileId"])
        started = self._session.start_large_file(
            self._bucket_id, self._name, "application/octet-stream", {}
        )
        return str(started["fileId"])

    def _put(self, file_id: str, number: int, part: bytearray) -> tuple[str, int]:
        sha1 = hashlib.sha1(part, usedforsecurity=False).hexdigest()  # B2's own check
        size = len(part)

        def put() -> None:
            answer = self._session.upload_part(file_id, number, size, sha1, _Body(part))
            check_sha1(sha1, answer["contentSha1"])

        self._patient("b2_upload_part", f"part {number}")(put)
        return sha1, size

    def _finish(self, file_id: str) -> Any:
        try:
            return self._session.finish_large_file(file_id, self._sha1s)
        except (BadRequest, FileNotPresent):
            # So it answers where it finished the file, and only that answer was lost.
            if version := self._finished(file_id):
                return version
            raise

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

    def __init__(self, part: bytes | bytearray) -> None:
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
