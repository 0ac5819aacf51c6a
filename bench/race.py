"""Contenders run in turns: A B C, A B C, A B C, each from the same start."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench import data, measure
from bench.figures import Figure
from frame.failure import Failure
from frame.output import screen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bench.clusters import Clusters

console = screen(stderr=True)

_REASON = 300  # characters of it; the end is what tells
_LONGEST = 3600.0  # seconds that one run of any contender may take


@dataclass(frozen=True)
class Setting:
    """What every measurement works with.

    ``scale`` is TPC-H's (1: 6 M rows of lineitem), ``home`` a folder for this run alone. Kept
    between runs: ``tools``, the folder of installed tools, and ``logs``, what commands said last.
    """

    clusters: Clusters
    rounds: int
    scale: float
    home: Path
    tools: Path
    logs: Path

    def load(self, *names: str) -> None:
        """Have the tables ``names`` of TPC-H in the source."""
        from bench import toolbox  # installs nothing before a table is wanted

        generator = toolbox.install(toolbox.GENERATOR, self.tools) / "bin" / "tpchgen-cli"
        data.load(self.clusters, generator, self.scale, self.logs, *names)


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Contender:
    """One way to move ``rows`` rows.

    ``pipe`` gives the commands that are timed. Not timed: ``first`` runs once before all rounds,
    ``prepare`` before and ``check`` after each run, ``clear`` after that. ``check`` returns what
    it saw, and raises Failure where the rows that landed are not those of the source.
    """

    name: str
    title: str
    rows: int
    pipe: Callable[[], measure.Pipe]
    first: Callable[[], measure.Pipe] | None = None
    prepare: Callable[[], None] = _nothing
    check: Callable[[], dict[str, Any]] = dict
    clear: Callable[[], None] = _nothing
    environment: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    cwd: Path | None = None


def race(
    contenders: list[Contender], setting: Setting, before_round: Callable[[], None] = _nothing
) -> list[Figure]:
    """Run ``contenders`` in turns, ``setting.rounds`` times, and return their figures.

    One that fails is left out from then on; its figure says why.
    """
    figures = [Figure(one.name, one.title, one.rows) for one in contenders]
    for contender, figure in zip(contenders, figures, strict=True):
        if contender.first is not None:
            _guarded(figure, setting, lambda one=contender: _first(one, setting))  # type: ignore[misc]
    for number in range(setting.rounds):
        before_round()
        for contender, figure in zip(contenders, figures, strict=True):
            if figure.failed or (contender.once and number):
                continue
            _guarded(
                figure,
                setting,
                lambda one=contender, seen=figure: _turn(one, seen, setting),  # type: ignore[misc]
            )
            if not figure.failed:
                console.print(
                    f"  round {number + 1} of {1 if contender.once else setting.rounds}:"
                    f" {contender.title}: {figure.seconds[-1]:.2f} s"
                )
    return figures


def once(contender: Contender, setting: Setting) -> None:
    """Run ``contender`` once more, whatever it takes."""
    _run(contender, contender.pipe(), setting)


def load_now() -> float:
    """Return the machine's one-minute load, and say so where the machine is not idle."""
    found = os.getloadavg()[0]
    if found > 0.5 * (os.cpu_count() or 1):
        console.print(f"[yellow]the machine is not idle:[/] load {found:.1f}, figures will be poor")
    return found


def _first(contender: Contender, setting: Setting) -> None:
    if contender.first is not None:
        console.print(f"  first load: {contender.title}")
        _run(contender, contender.first(), setting)


def _turn(contender: Contender, figure: Figure, setting: Setting) -> None:
    contender.prepare()
    try:
        pipe = contender.pipe()
        setting.clusters.checkpoint()
        sample = _run(contender, pipe, setting)
        figure.detail.update(contender.check())
    finally:
        contender.clear()
    figure.seconds.append(round(sample.seconds, 3))
    figure.peak_mb = max(figure.peak_mb, round(sample.peak_mb, 1))


def _run(contender: Contender, pipe: measure.Pipe, setting: Setting) -> measure.Sample:
    return measure.run(
        pipe,
        environment={**setting.clusters.environment, **contender.environment},
        log=setting.logs / f"{contender.name}.log",
        timeout=_LONGEST,
        cwd=contender.cwd,
    )


def _guarded(figure: Figure, setting: Setting, act: Callable[[], None]) -> None:
    try:
        act()
    except Failure as error:
        # What is kept names no folder of this machine, and no colours of a tool's terminal.
        said = re.sub(r"\x1b\[[0-9;]*m", "", error.message).replace(str(setting.home), "…")
        figure.failed = " ".join(said.split())[-_REASON:]
        console.print(f"[red]✗[/] {figure.title}: {figure.failed}", markup=True)
