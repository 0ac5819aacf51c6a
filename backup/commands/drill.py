"""Prove that backups restore."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from backup.commands.app import CORES, Jobs, Timeout, app, out, parse_moment, read_settings
from backup.deadline import clean_up, limited
from backup.proof.alerts import Alerts
from backup.proof.drill import DrillStopped, run_drill
from backup.proof.report import CopyCheck, DrillResult, drill_table
from backup.registry import load_registry
from backup.scratch.directory import sweep
from backup.scratch.server import server_directory
from backup.scratch.supervisor import sweep_data
from frame.output import AsJson, print_json_text
from frame.progress import progress

JOB = "restore-drill"


@app.command()
@limited
def drill(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Databases; all if none is named.", envvar="NOMAD_META_databases"),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="The newest backups from this time or before it, UTC.", envvar="NOMAD_META_at"
        ),
    ] = None,
    jobs: Jobs = CORES,
    timeout: Timeout = "4h",
    as_json: AsJson = False,
) -> None:
    """Prove that backups come back: restore each and compare.

    The newest backup of each database goes into a throwaway server, where all rows are compared:
    that of a running `backup scratch-server`, as another user. Exit 1 if one of them is not equal;
    the others are drilled all the same. The report, also of a drill that is stopped, goes to
    <prefix>/drills/ in the bucket, and what is not equal to the webhook. A drill of everything also
    reads one monthly copy from end to end, each month the next.
    """
    settings = read_settings()
    server_directory(settings)  # said before a byte is downloaded
    entries = load_registry(settings.registry).select(names or [])
    moment = parse_moment(at)
    alerts = Alerts.of(settings)
    stopped = None
    with alerts.if_it_breaks(JOB, settings.prefix), progress() as advance:
        try:
            report = run_drill(
                settings, entries, jobs, moment, partial(advance, JOB),
                reads_copy=not names and moment is None,
            )  # fmt: skip
        except DrillStopped as drill_stopped:
            stopped, report = drill_stopped, drill_stopped.report
    failed: list[DrillResult | CopyCheck] = [
        each for each in report.databases if each.verdict != "equal"
    ]
    if report.copy_check and not report.copy_check.whole:
        failed.append(report.copy_check)
    if failed:
        findings = [each.model_dump(mode="json") for each in failed]
        with clean_up("alert") if stopped else nullcontext():
            alerts.failed(JOB, settings.prefix, findings)
    else:
        alerts.good(JOB)
    if as_json:
        print_json_text(report.model_dump_json(indent=2))
    else:
        out.print(drill_table(report))
    if stopped:
        raise stopped
    if failed:
        raise typer.Exit(1)


@app.command("sweep")
@limited
def sweep_scratch(
    scratch: Annotated[
        Path,
        typer.Option(
            envvar="BACKUP_SCRATCH",
            exists=True,
            file_okay=False,
            help="The scratch directory, or the one of --to.",
        ),
    ],
    everything: Annotated[
        bool,
        typer.Option("--everything", help="All that is this user's in a scratch server's data."),
    ] = False,
    timeout: Timeout = "10m",
) -> None:
    """Remove the plaintext that killed restores left.

    What is at work stays. It runs after each drill, however that ended; by hand after a restore
    that was killed.
    """
    if everything:
        sweep_data(scratch)
    else:
        sweep(scratch)
