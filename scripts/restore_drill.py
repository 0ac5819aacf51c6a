#!.venv/bin/python
"""Hold a restore drill now: of everything, of some databases, or of a date, and show its report.

The newest backup of each is restored into a throwaway PostgreSQL, and its rows are held against the
digests in the manifest that was written with the dump. It is the monthly job's twin,
restore-drill-now, which waits to be dispatched.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from backup.report import drill_table
from scripts import access, launches
from scripts.console import OperatorError, command, console, step
from scripts.status import newest_report

app = typer.Typer(add_completion=False, help=__doc__)


@app.command(epilog="Exit codes: 0 every database was restored equal, 1 one was not, 2 wrong use.")
def main(
    names: Annotated[
        list[str] | None, typer.Argument(help="Databases, by their names; all if none.")
    ] = None,
    *,
    at: Annotated[
        str, typer.Option(help="The newest backups from this time or before it, UTC.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the drill.")] = 3600,
) -> None:
    """Hold a drill on the platform of NOMAD_ADDR, or on this machine's."""

    def work() -> None:
        platform = access.from_environment()
        before = newest_report(platform)
        with step("hold a restore drill"):
            meta = {"databases": " ".join(names or []), "at": at}
            child = launches.dispatch(platform, "restore-drill-now", meta)
            failed: OperatorError | None = None
            try:
                launches.finish(platform, child, timeout=timeout)
            except OperatorError as error:
                failed = error  # a drill that found something fails, and has a report
        report = newest_report(platform)
        if report is None or report == before:
            raise failed or OperatorError(
                "the drill kept no report", f"Read its log: nomad alloc logs -job {child}"
            )
        if as_json:
            print(json.dumps(report.model_dump(mode="json"), indent=2))
        else:
            console.print(drill_table(report))
        if not report.passed:
            sys.exit(1)

    command(work)


if __name__ == "__main__":
    app()
