"""What somebody else knows, asked for now and then and kept while they do not answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

T = TypeVar("T")

RETRY_SECONDS = 15.0
"""After which one who did not answer is asked again: each try may take its whole bound."""


@dataclass(frozen=True)
class Known(Generic[T]):
    """The last answer, None before the first, and when it came; why there is no newer one."""

    value: T | None = None
    at: datetime | None = None
    failure: Failure | None = None


class Remembered(Generic[T]):
    """The answer of ``ask``, which has a bound of its own and raises Failure.

    It is asked by one thread at a time and at most every ``seconds``; meanwhile the others have
    what came last.
    """

    def __init__(self, ask: Callable[[T | None], T], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._known: Known[T] = Known()
        self._due = 0.0
        self._asking = Lock()

    def get(self) -> Known[T]:
        """Return what is known now; the first caller waits for the first answer."""
        if time.monotonic() < self._due:
            return self._known
        if self._asking.acquire(blocking=self._known.at is None and self._known.failure is None):
            try:
                if time.monotonic() >= self._due:
                    self._renew()
            finally:
                self._asking.release()
        return self._known

    def _renew(self) -> None:
        try:
            value = self._ask(self._known.value)
        except Failure as failure:
            log.warning("the page Delivery has no newer answer", error=failure.message)
            self._known = replace(self._known, failure=failure)
            self._due = time.monotonic() + RETRY_SECONDS
        else:
            self._known = Known(value, datetime.now(UTC))
            self._due = time.monotonic() + self._seconds
