"""Which of B2's errors another try may mend, and the patience with which it is tried."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

import tenacity
from b2sdk.v3.exception import (
    B2ConnectionError,
    B2RequestTimeout,
    BadRequest,
    BadUploadUrl,
    BrokenPipe,
    ChecksumMismatch,
    ConnectionReset,
    InvalidAuthToken,
    RequestTimeout,
    ServiceError,
    TooManyRequests,
    TruncatedOutput,
    UnknownError,
    UnknownHost,
)
from requests.exceptions import RequestException
from tenacity.stop import stop_base

from backup.waits import waiting_for
from frame import certificate
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

    from backup.waits import Wait

PATIENCE = 45 * 60.0  # seconds that one call is tried again and again
FIRST_WAIT = 0.5  # seconds at most behind the first try; twice that behind the second, and so on
LONGEST_WAIT = 300.0  # seconds, also if the server asks for more
SAME_TRIES = 5  # of bytes that are wrong in the same way each time: so they are in the bucket

# What another try may mend. All else (rights, caps, names) would only be refused again.
TRANSIENT = (
    B2ConnectionError, B2RequestTimeout, BadUploadUrl, BrokenPipe, ChecksumMismatch,
    ConnectionReset, InvalidAuthToken, RequestTimeout, ServiceError,
    TooManyRequests, TruncatedOutput, UnknownHost, RequestException,
)  # fmt: skip
# Two more that B2 says in words, behind a 400: what came was damaged on its way; and an upload that
# ended here goes on there, so the next try needs an address and a token of its own, which it has.
DAMAGED_ON_ITS_WAY = "sha1"
ENDED_HERE_ALONE = "upload using auth token"

T = TypeVar("T")

log = get_logger(__name__)


def is_transient(error: BaseException) -> bool:
    """Tell whether another try may end better."""
    words = str(error)
    if ENDED_HERE_ALONE in words.lower():
        return True
    if isinstance(error, UnknownError):  # to b2sdk, an answer that broke off
        context = error.__context__
        return isinstance(context, RequestException) and is_transient(context)
    if isinstance(error, BadRequest):
        return DAMAGED_ON_ITS_WAY in words.lower()
    if isinstance(error, ValueError):  # a URL that is none
        return False
    return isinstance(error, TRANSIENT) and not certificate.fault(error)


def _wait(state: RetryCallState) -> float:
    """Return the seconds until the next try: growing by chance, or what the server asks for."""
    error = state.outcome and state.outcome.exception()
    asked = getattr(error, "retry_after_seconds", None) or 0
    backoff = tenacity.wait_random_exponential(multiplier=FIRST_WAIT, max=60)(state)
    return min(max(backoff, asked), LONGEST_WAIT)


class _SameBytes(stop_base):
    """Stops once the same wrong bytes came so often that no way there can be at fault."""

    def __init__(self) -> None:
        self._last = ""
        self._count = 0

    def __call__(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        words = ""
        if isinstance(error, (TruncatedOutput, ChecksumMismatch)):  # what came, or how much of it
            words = repr((type(error), vars(error)))
        self._count = self._count + 1 if words == self._last else 1
        self._last = words
        return bool(words) and self._count >= SAME_TRIES


def patiently(
    call: str, what: str, stopping: threading.Event | None = None, *, seconds: float | None = None
) -> Callable[..., T]:
    """Return what calls a function again while its error is transient, and logs each time.

    ``call`` is B2's name of it, which an error of the command's limit shows; ``stopping`` ends it
    from another thread. It gives up after 45 minutes, or ``seconds``, with the last error.
    """
    stopping = stopping or threading.Event()

    def told(wait: Wait) -> Callable[[RetryCallState], None]:
        def tell(state: RetryCallState) -> None:
            error = state.outcome and state.outcome.exception()
            wait.tries = state.attempt_number + 1
            wait.failure = type(error).__name__
            log.warning(
                "trying again",
                call=call,
                what=what,
                attempt=state.attempt_number,
                seconds=round(state.upcoming_sleep, 1),
                error=type(error).__name__,
            )

        return tell

    def again(function: Callable[..., T], *arguments: object, **named: object) -> T:
        with waiting_for("B2", call, tries=1) as wait:
            retrying = tenacity.Retrying(
                retry=tenacity.retry_if_exception(is_transient),
                wait=_wait,
                stop=tenacity.stop_any(
                    tenacity.stop_after_delay(PATIENCE if seconds is None else seconds),
                    tenacity.stop_when_event_set(stopping),
                    _SameBytes(),
                ),
                sleep=tenacity.sleep_using_event(stopping),
                before_sleep=told(wait),
                reraise=True,
            )
            return retrying(function, *arguments, **named)

    return again
