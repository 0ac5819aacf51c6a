#!.venv/bin/python
"""Hold a restore drill now: of everything, of some databases, or of a date, and show its report.

The newest backup of each is restored into a throwaway PostgreSQL, and its rows are held against the
digests in the manifest that was written with the dump. It is the monthly job's twin,
restore-drill-now, which waits to be dispatched.
"""

from __future__ import annotations

from typing import Annotated

import typer

from backup.proof.report import drill_table
from frame.application import Application, definitions, epilog, exit_codes
from frame.failure import ExitCode, Failure
from frame.output import AsJson, print_json, screen
from frame.progress import step
from scripts import access, launches
from scripts.proofs import newest_report

console = screen(stderr=True)

app = Application("scripts/restore_drill.py")


@app.command(
    epilog=epilog(
        definitions("Environment, for another platform than this machine's", access.VARIABLES),
        exit_codes({0: "every database was restored equal", 1: "one was not"}),
    )
)
def main(
    names: Annotated[
        list[str] | None, typer.Argument(help="Databases, by their names; all if none.")
    ] = None,
    *,
    at: Annotated[
        str, typer.Option(help="The newest backups from this time or before it, UTC.")
    ] = "",
    as_json: AsJson = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the drill.")] = 3600,
) -> None:
    """Hold a drill on the platform of NOMAD_ADDR, or on this machine's."""
    platform = access.from_environment()
    before = newest_report(platform)
    with step("hold a restore drill"):
        meta = {"databases": " ".join(names or []), "at": at}
        child = launches.dispatch(platform, "restore-drill-now", meta)
        failed: Failure | None = None
        try:
            launches.finish(platform, child, timeout=timeout)
        except Failure as error:
            failed = error  # a drill that found something fails, and has a report
    report = newest_report(platform)
    if report is None or report == before:
        raise failed or Failure(
            "the drill kept no report", f"Read its log: nomad alloc logs -job {child}"
        )
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        console.print(drill_table(report))
    if not report.passed:
        raise typer.Exit(ExitCode.FAILED)


if __name__ == "__main__":
    app.run()
