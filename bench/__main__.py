"""Measure Harmattan beside what one would use instead, and write bench/results."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench import (
    clusters,
    dag_runs,
    dumps,
    footprint,
    full,
    gate,
    incremental,
    live,
    machine,
    memory,
    report,
    restores,
    tools,
)
from bench.figures import Section
from bench.race import Setting
from frame.application import Application, exit_codes
from frame.failure import ExitCode
from frame.output import screen
from scripts.repository import HOME, ROOT

app = Application(
    "bench",
    help=__doc__,
    epilog=exit_codes({0: "measured", 1: "ours or its baseline could not be measured"}),
)
console = screen(stderr=True)


class Part(StrEnum):
    """What is measured of ingest."""

    FULL = "full"
    TOOLS = "tools"
    MEMORY = "memory"
    INCREMENTAL = "incremental"


class BackupPart(StrEnum):
    """What is measured of backup."""

    DUMP = "dump"
    RESTORE = "restore"
    MEMORY = "memory"


Measures = Mapping[str, Callable[[Setting], Section]]
_INGEST: Measures = {
    Part.FULL: full.measure,
    Part.TOOLS: tools.measure,
    Part.MEMORY: memory.measure,
    Part.INCREMENTAL: incremental.measure,
}
_BACKUP: Measures = {
    BackupPart.DUMP: dumps.measure,
    BackupPart.RESTORE: restores.measure,
    BackupPart.MEMORY: footprint.measure,
}

Scale = Annotated[
    float,
    typer.Option(min=0.001, help="TPC-H's scale: 1 is 6 M rows of lineitem, 1.5 M of orders."),
]
Rounds = Annotated[int, typer.Option(min=1, help="Runs of each contender; the fastest counts.")]
Results = Annotated[
    Path,
    typer.Option(
        file_okay=False,
        show_default="bench/results",
        help="Folder of the JSON and Markdown.",
    ),
]


@app.command()
def ingest(
    *,
    only: Annotated[
        list[Part] | None,
        typer.Option(help="Measure this part alone; may be given more than once."),
    ] = None,
    scale: Scale = 1,
    rounds: Rounds = 3,
    results: Results = ROOT / "bench" / "results",
) -> None:
    """Measure the ingest engine beside psql and other tools.

    full: a whole copy of lineitem, beside COPY by psql. tools: the same by ingestr, Sling, dlt and
    Singer, each installed into a venv of its own under .local/bench. memory: peak memory at 1 M and
    at 30 M rows (14 GB of disk). incremental: 1% of orders changed, and nothing changed.

    All of it takes about an hour at scale 1 and wants an otherwise idle machine. Both servers are
    made for the run and removed after it.
    """
    _measure(_INGEST, only, scale, rounds, results)


@app.command()
def backup(
    *,
    only: Annotated[
        list[BackupPart] | None,
        typer.Option(help="Measure this part alone; may be given more than once."),
    ] = None,
    scale: Scale = 1,
    rounds: Rounds = 3,
    results: Results = ROOT / "bench" / "results",
) -> None:
    """Measure backups and restores beside PostgreSQL's own programs.

    dump: a backup of a mixed database of 3 GB into a B2 endpoint on loopback, beside the bare
    pipeline and pg_dump | gzip | gpg. restore: back again, beside pg_restore from a plain file.
    memory: peak memory at 1 GB and at 10 GB (26 GB of disk).

    All of it takes about half an hour at scale 1 and wants an otherwise idle machine.
    """
    _measure(_BACKUP, only, scale, rounds, results)


@app.command("dag-runs")
def pipeline(*, rounds: Rounds = 3, results: Results = ROOT / "bench" / "results") -> None:
    """Measure DAG runs of 5 and of 100 tables beside their jobs alone.

    Asks for the platform of `make up`, and takes away what it made there.
    """
    section = dag_runs.measure(rounds)
    report.show(section)
    versions = machine.versions(dag_runs.server_version())
    report.write(results, [section], machine.describe(), versions)
    console.print(f"written: {results / section.subject}.json and {section.subject}.md")


@app.command("gate")
def of_gate(*, rounds: Rounds = 3, results: Results = ROOT / "bench" / "results") -> None:
    """Measure the gate over 500 DAG files, beside Airflow alone.

    Airflow reads them in one process, with no bounds.
    """
    with tempfile.TemporaryDirectory(prefix="harmattan-bench-") as home:
        section = gate.measure_gate(rounds, Path(home))
    report.show(section)
    report.write(results, [section], machine.describe(), machine.versions())
    console.print(f"written: {results / section.subject}.json and {section.subject}.md")
    if any(figure.failed for figure in section.figures):
        raise typer.Exit(ExitCode.FAILED)


@app.command("live")
def of_live(*, rounds: Rounds = 3, results: Results = ROOT / "bench" / "results") -> None:
    """Measure how soon a push is what runs, at 500 DAG files.

    Beside our DAG processor Airflow's own, which takes minutes. Wants root.
    """
    with (
        tempfile.TemporaryDirectory(prefix="harmattan-bench-") as home,
        clusters.started() as servers,
    ):
        Path(home).chmod(0o755)
        section = live.measure_live(rounds, Path(home), servers.warehouse)
        postgresql = str(servers.warehouse.row("SHOW server_version")[0])
    report.show(section)
    report.write(results, [section], machine.describe(), machine.versions(postgresql))
    console.print(f"written: {results / section.subject}.json and {section.subject}.md")


def _measure(
    measures: Measures, only: Sequence[str] | None, scale: float, rounds: int, results: Path
) -> None:
    sections = []
    with (
        tempfile.TemporaryDirectory(prefix="harmattan-bench-") as home,
        clusters.started() as servers,
    ):
        kept = HOME / "bench"
        setting = Setting(servers, rounds, scale, Path(home), kept / "tools", kept / "logs")
        for part in only or measures:
            console.rule(f"{part}")
            section = measures[part](setting)
            sections.append(section)
            report.show(section)
            # After each part: an hour's figures are not lost to the last one's failure.
            postgresql = str(servers.source.row("SHOW server_version")[0])
            report.write(results, sections, machine.describe(), machine.versions(postgresql))
    subject = sections[0].subject
    console.print(f"written: {results / subject}.json and {subject}.md")
    needed = [
        figure
        for section in sections
        for figure in section.figures
        if section.ours(figure) or figure.name.startswith(("psql", "pg_restore", "pipeline"))
    ]
    if any(figure.failed for figure in needed):
        raise typer.Exit(ExitCode.FAILED)


if __name__ == "__main__":
    app.run()
