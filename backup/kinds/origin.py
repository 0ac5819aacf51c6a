"""What passes between a kind of backup and what is the same for all kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from backup.pipeline import Stage


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Origin:
    """One thing that is ready to be dumped.

    ``stage`` writes the plain dump. ``size`` is what it is expected to be, in bytes. ``check``
    raises while it is read if something beside it went wrong, ``finish`` when it is at its end;
    ``facts`` is what the manifest then says of it. ``locked``: nobody else dumps it meanwhile.
    """

    stage: Stage
    size: int
    facts: Callable[[], dict[str, Any]]
    locked: bool = True
    check: Callable[[], None] = field(default=_nothing)
    finish: Callable[[], object] = field(default=_nothing)


@dataclass(frozen=True)
class Proof:
    """A restore: its seconds, the bytes that it brought back, and what is not as it was."""

    seconds: float
    size: int
    differences: tuple[str, ...]
