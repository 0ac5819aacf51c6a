"""One attempt at a backup after another, until one comes about in nobody's way."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, TypeVar

import tenacity

from backup.deadline import left
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

    Work = TypeVar("Work")

# Of the command's time: as long as it has not gone by, a backup gives way to whoever waits for it.
# Then a backup comes before another's patience.
SHARE_TO_GIVE_WAY = 0.5
LONGEST_PAUSE = 30.0  # seconds between two attempts
SHORT_PAUSE = 1.0  # seconds at most, after what was by chance
EARLY_ENDS = 3  # of the dump, with the same words: they are not by chance
CHANGES = 5  # of definitions: beside somebody who always changes some a backup is to come as well

log = get_logger(__name__)


class Disturbed(Failure):
    """The attempt ended because of somebody else at the source; another one may do better."""


class Overtaken(Disturbed):
    """Somebody came for a table between two of our locks on it. It was by chance: soon again."""


class EndedEarly(Disturbed):
    """The dump ended because something changed below it, as a standby does - or it can never be."""


class Changed(Disturbed):
    """Definitions changed while they were read. It was by chance: soon again."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Attempt:
    """One attempt. ``name`` is in the names of its sessions, so that they are told from others.

    ``starts_over`` tells whether it ends where definitions changed, or else goes on and tells it.
    """

    name: str
    gives_way: Callable[[], bool]
    starts_over: Callable[[], bool] = _never


class Attempts:
    """The attempts of one backup, within what the command has left of its time."""

    def __init__(self) -> None:
        self._limit = left()
        self._early_ends = 0
        self._last_words = ""
        self._changes = 0

    def make(self, work: Callable[[Attempt], Work]) -> Work:
        """Return what the first undisturbed ``work`` returns.

        Raises the last :class:`Disturbed` if the next attempt would begin too late.
        """
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._is_worth_another),
            wait=_pause,
            stop=tenacity.stop_before_delay(self._limit),
            before_sleep=_tell,
            reraise=True,
        )
        return attempts(lambda: work(self._next()))

    def _next(self) -> Attempt:
        return Attempt(secrets.token_hex(4), self._gives_way, self._starts_over)

    def _starts_over(self) -> bool:
        return self._changes < CHANGES and self._gives_way()

    def _gives_way(self) -> bool:
        now = left()
        return now == inf or now > self._limit * (1 - SHARE_TO_GIVE_WAY)

    def _is_worth_another(self, error: BaseException) -> bool:
        self._changes += isinstance(error, Changed)
        if isinstance(error, EndedEarly):
            again = error.message == self._last_words
            self._early_ends = self._early_ends + 1 if again else 1
            self._last_words = error.message
            return self._early_ends < EARLY_ENDS
        self._early_ends = 0
        return isinstance(error, Disturbed)


def _pause(state: RetryCallState) -> float:
    """Return the seconds until the next attempt: growing by chance."""
    error = state.outcome and state.outcome.exception()
    if isinstance(error, Overtaken | Changed):
        return random.uniform(0, SHORT_PAUSE)  # noqa: S311 - no secret
    return tenacity.wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE)(state)


def _tell(state: RetryCallState) -> None:
    error = state.outcome and state.outcome.exception()
    log.warning(
        "trying again",
        what="backup",
        attempt=state.attempt_number,
        seconds=round(state.upcoming_sleep, 1),
        error=getattr(error, "message", ""),
    )
