"""What a measurement gives: figures of contenders, targets, and sections that hold both."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

OURS = "ingest"
Counted = Literal["rows", "bytes"]


@dataclass
class Figure:
    """One contender: rows (or bytes) moved a run, wall seconds of each, its clients' peak memory.

    ``peak_mb`` is the highest of all runs. ``failed`` says why there is no (further) run.
    ``detail`` is what else was seen, such as how many columns kept their type.
    """

    name: str
    title: str
    rows: int
    seconds: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    failed: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> float | None:
        """Return the least of the wall seconds, ``None`` if it failed."""
        return min(self.seconds) if self.seconds and not self.failed else None

    @property
    def rate(self) -> float | None:
        """Return rows (or bytes) a second of the best run."""
        return self.rows / self.best if self.best else None


@dataclass(frozen=True)
class Target:
    """A number that is wanted: ``found`` at least ``wanted``, or at most."""

    text: str
    wanted: float
    found: float | None
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Return whether it was measured and reached."""
        if self.found is None:
            return False
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted


@dataclass
class Section:
    """One measurement, all of it from one run: ``about`` says what was done, for a reader.

    ``subject`` is what is measured, ingest or backup, and the name of its main figure.
    """

    name: str
    title: str
    about: str
    figures: list[Figure]
    targets: list[Target]
    load_before: float  # the machine's one-minute load
    load_after: float = field(default_factory=lambda: os.getloadavg()[0])
    measured_at: str = field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds")
    )
    subject: str = OURS
    counted: Counted = "rows"
    servers: str = "with its default settings, both servers and all clients"  # of PostgreSQL

    def ours(self, figure: Figure) -> bool:
        """Return whether it is of what is under test."""
        return figure.name == self.subject or figure.name.startswith(f"{self.subject}-")

    def figure(self, name: str) -> Figure:
        """Return the figure of the contender ``name``."""
        return find(self.figures, name)

    def times_ours(self, figure: Figure) -> float | None:
        """Return how many times as many rows a second ours moves, ``None`` for ours itself."""
        if self.ours(figure):
            return None
        return ratio(find(self.figures, self.subject), figure)


def find(figures: list[Figure], name: str) -> Figure:
    """Return the figure of the contender ``name``; raises KeyError."""
    for figure in figures:
        if figure.name == name:
            return figure
    raise KeyError(name)


def ratio(ours: Figure, other: Figure) -> float | None:
    """Return the rate of ``ours`` over that of ``other``, ``None`` if one has none."""
    return ours.rate / other.rate if ours.rate and other.rate else None
