"""What passes between a kind of backup and what is the same for all kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from backup.loading.load import Slow
    from backup.pipeline import Stage
    from backup.restoration.timings import Timings
    from frame.failure import Failure


def _nothing() -> None:
    return None


def _as_it_is(error: Failure, _plain_size: int) -> Failure:
    return error


@dataclass(frozen=True)
class Origin:
    """One thing that is ready to be dumped.

    ``stage`` writes the plain dump, the beginning of which ``look`` sees in a thread of its own. As
    soon as it runs, ``begin`` does what goes on beside it, and returns how many bytes to expect.
    ``check`` raises while it is read if something beside it went wrong, ``finish`` when it is at
    its end, and then the source is let go; ``facts`` is what the manifest says of it. ``explain``
    returns the cause of an error behind which so many plain bytes came, or the error as it is.
    """

    stage: Stage
    facts: Callable[[], dict[str, Any]]
    begin: Callable[[], int] = field(default=int)
    check: Callable[[], None] = field(default=_nothing)
    finish: Callable[[], None] = field(default=_nothing)
    explain: Callable[[Failure, int], Failure] = field(default=_as_it_is)
    look: Callable[[IO[bytes]], None] | None = None


@dataclass(frozen=True)
class Proof:
    """A restore: its seconds, the bytes that it brought back, and what is not as it was.

    ``seconds`` are held against the promise. ``timings`` says what of them a database's restore
    took for which step, ``slowest`` which objects took longest.
    """

    seconds: float
    size: int
    differences: tuple[str, ...]
    timings: Timings | None = None
    slowest: tuple[Slow, ...] = ()
