"""The download of one version: in ranges, several at once, each with a patience of its own."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any

from b2sdk.v3.exception import B2ConnectionError, ChecksumMismatch, TruncatedOutput
from requests.exceptions import RequestException

from backup.bucket.patience import SAME_TRIES, patiently
from backup.bucket.upload import MEBIBYTE, check_sha1
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Generator

LARGEST_SMALL = 16 * MEBIBYTE  # of a manifest: that of 300,000 objects
# So many requests at once: one alone is slow where the way is long.
RANGE, RANGES = 4 * MEBIBYTE, 8
_SHA1_LENGTH = 40  # in hexadecimal; what B2 says of a large file is no SHA-1
DAMAGED = "Use another backup, and look who or what changed this object."


class Damaged(Failure):
    """What B2 gives is not what it says it has."""


class Download:
    """One version of one object. Raises B2Error, RequestException, and :class:`Failure`."""

    def __init__(self, session: Any, name: str, file_id: str) -> None:
        """Use b2sdk's ``session``."""
        self._session = session
        self._name = name
        self._url = session.get_download_url_by_id(file_id)
        self._file_id = file_id
        self._stopping = Event()

    def whole(self) -> bytes:
        """Return the bytes of a small object in one request.

        Raises :class:`Damaged` for one that is no manifest or report: it may be a stranger's.
        """
        return self._patient(f"all of {self._name}", None)

    def ranges(self) -> Generator[bytes]:
        """Yield the bytes in their order, requested in ranges beside each other."""
        about = patiently("b2_get_file_info", f"size of {self._name}", self._stopping)
        info: Any = about(self._session.get_file_info_by_id, self._file_id)
        size = int(info["contentLength"])
        pending: deque[Future[bytes]] = deque()
        pool = ThreadPoolExecutor(RANGES, thread_name_prefix="range")
        try:
            for start in range(0, size, RANGE):
                if len(pending) == RANGES:
                    yield pending.popleft().result()
                bounds = (start, min(start + RANGE, size) - 1)
                what = f"byte {start} of {self._name}"
                pending.append(pool.submit(self._patient, what, bounds))
            while pending:
                yield pending.popleft().result()
        finally:
            self._stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _patient(self, what: str, bounds: tuple[int, int] | None) -> bytes:
        try:
            again = patiently("b2_download_file_by_id", what, self._stopping)
            data: bytes = again(self._get, bounds)
        except TruncatedOutput as error:
            came = f"{error.bytes_read} of {error.file_size} bytes came for {what}"
            raise Damaged(
                f"object {self._name} is shorter than B2 says: {came}, {SAME_TRIES} times", DAMAGED
            ) from error
        except ChecksumMismatch as error:
            raise Damaged(
                f"object {self._name} has SHA-1 {error.actual} where B2 says {error.expected}, "
                f"{SAME_TRIES} times",
                DAMAGED,
            ) from error
        return data

    def _get(self, bounds: tuple[int, int] | None) -> bytes:
        with self._session.download_file_from_url(self._url, bounds) as answer:
            sha1 = answer.headers.get("X-Bz-Content-Sha1")
            if sha1 is None:
                raise B2ConnectionError("the answer is not one of B2's")
            told = int(answer.headers["Content-Length"])
            if bounds is None and told > LARGEST_SMALL:
                answer.close()
                raise Damaged(
                    f"object {self._name} has {told} bytes, {LARGEST_SMALL} at most are read",
                    hint="No job makes one that large; find out who put it there.",
                )
            size = told if bounds is None else bounds[1] - bounds[0] + 1
            try:
                data = b"".join(answer.iter_content(MEBIBYTE))
            except RequestException as error:
                if (read := _read_before(error)) is None:
                    raise
                raise TruncatedOutput(read, size) from error
        if len(data) != size:
            raise TruncatedOutput(len(data), size)
        if bounds is None and len(sha1) == _SHA1_LENGTH:
            check_sha1(sha1, hashlib.sha1(data, usedforsecurity=False).hexdigest())
        return data


def _read_before(error: RequestException) -> int | None:
    """Return how many bytes came before the other side ended, in order, what it had not sent."""
    causes = [cause for argument in error.args for cause in getattr(argument, "args", ())]
    partial = [cause.partial for cause in causes if hasattr(cause, "partial")]
    return next((read for read in partial if isinstance(read, int)), None)
