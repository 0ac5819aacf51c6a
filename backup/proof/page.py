"""The drill's report as one HTML page that needs nothing else, for people who would rather look."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from backup.proof.report import FARTHEST, PROMISE_SECONDS, human_age, human_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup.proof.report import DrillReport
    from backup.restoration.timings import Timings

WIDTH, HEIGHT = 880, 320  # of the chart, in its own units
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 36
# Seconds: from the shortest restore that is told apart to twice the promise, as logarithms.
LEAST, MOST = 0.1, 2 * PROMISE_SECONDS
TICKS = ((0.1, "0.1 s"), (1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"))
# Told apart by people who do not see all colours (Okabe and Ito), and three more.
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999",
    "#6f4fc3", "#8b5e3c", "#b3a100",
)  # fmt: skip
# What a restore's time goes into, as Timings has it.
STEPS = (
    ("download", "download and decrypt", "#0072b2"), ("schema", "schema", "#cc79a7"),
    ("data", "rows", "#e69f00"), ("indexes", "indexes and keys", "#009e73"),
    ("analyse", "ANALYZE", "#56b4e9"), ("other", "other", "#999999"),
)  # fmt: skip
ROUND = 10  # a shorter time is told with a decimal


@dataclass(frozen=True)
class Dot:
    """One restore in the chart; ``title`` is shown under the pointer."""

    x: float
    y: float
    well: bool
    title: str


@dataclass(frozen=True)
class Line:
    """The restores of one database, oldest first."""

    database: str
    colour: str
    dots: tuple[Dot, ...]

    @property
    def points(self) -> str:
        """The dots as SVG joins them."""
        return " ".join(f"{dot.x:.1f},{dot.y:.1f}" for dot in self.dots)


@dataclass(frozen=True)
class Piece:
    """One step's share of a restore, in percent; ``title`` is shown under the pointer."""

    share: float
    colour: str
    title: str


def page(report: DrillReport, earlier: Sequence[DrillReport]) -> str:
    """Return the page of ``report``, with ``earlier`` drills, oldest first, in its chart."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"bytes": human_bytes, "age": human_age, "seconds": human_seconds}
    drills = [*earlier, report]
    return environment.get_template("report.html.j2").render(
        report=report,
        drills=drills,
        lines=_lines(drills),
        steps=STEPS,
        pieces=_pieces,
        farthest=FARTHEST,
        ticks=[(_height(seconds), text) for seconds, text in TICKS],
        promise=_height(PROMISE_SECONDS),
        dates=_dates(drills),
        frame={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT,
               "top": TOP, "bottom": HEIGHT - BOTTOM},
        share=lambda seconds: min(100.0, 100 * seconds / PROMISE_SECONDS),
    )  # fmt: skip


def _pieces(timings: Timings) -> list[Piece]:
    return [
        Piece(100 * seconds / timings.total, colour, f"{text}: {human_seconds(seconds)}")
        for step, text, colour in STEPS
        if (seconds := getattr(timings, step)) > 0
    ]


def human_seconds(seconds: float) -> str:
    """Return a time as people tell it."""
    if seconds < ROUND:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _height(seconds: float) -> float:
    share = math.log(max(seconds, LEAST) / LEAST) / math.log(MOST / LEAST)
    return HEIGHT - BOTTOM - min(share, 1) * (HEIGHT - BOTTOM - TOP)


def _across(place: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / count


def _lines(drills: Sequence[DrillReport]) -> list[Line]:
    names = sorted({result.database for drill in drills for result in drill.databases})
    return [
        Line(name, COLOURS[number % len(COLOURS)], tuple(_dots(drills, name)))
        for number, name in enumerate(names)
    ]


def _dots(drills: Sequence[DrillReport], database: str) -> list[Dot]:
    return [
        Dot(
            _across(place, len(drills)),
            _height(result.restore_seconds),
            result.verdict == "equal",
            f"{database}, {drill.started:%Y-%m-%d}: {result.verdict},"
            f" {human_seconds(result.restore_seconds)}, {human_bytes(result.source_bytes)}",
        )
        for place, drill in enumerate(drills)
        for result in drill.databases
        if result.database == database and result.restore_seconds is not None
    ]


def _dates(drills: Sequence[DrillReport]) -> list[tuple[float, str]]:
    """Return where the dates stand: of all drills, or of some where they would overlap."""
    step = -(-len(drills) // 8)
    return [
        (_across(place, len(drills)), f"{drill.started:%Y-%m-%d}")
        for place, drill in enumerate(drills)
        if (len(drills) - 1 - place) % step == 0
    ]
