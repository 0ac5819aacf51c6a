"""The command ``ingest``."""

from __future__ import annotations

import json
import logging
import sys
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import structlog
import typer

from ingest import contract, run
from ingest.errors import IngestError, UnknownTableError

DONE, FAILED, WRONG_USE = 0, 1, 2

app = typer.Typer(
    name="ingest",
    help="Brings tables of PostgreSQL databases into the warehouse.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its frames show local variables, passwords among them
)

PipelineFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="pipeline file")]


@app.callback()
def main() -> None:
    """Send the log to standard error, so that standard output is the result's alone."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@app.command()
def check(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="pipeline files")
    ],
) -> None:
    """Check pipeline files, without any database."""
    broken = 0
    for file in files:
        try:
            contract.read(file)
        except IngestError as error:
            broken += 1
            typer.echo(str(error), err=True)
        else:
            typer.echo(f"{file}: sound")
    raise typer.Exit(FAILED if broken else DONE)


@app.command("run")
def run_file(
    file: PipelineFile,
    table: Annotated[str | None, typer.Option(help="load this table only")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Load and publish the tables of a pipeline file.

    Connections come from AIRFLOW_CONN_<ID> in the environment.
    """
    report = run.Report(file.stem, f"manual__{uuid.uuid4()}")
    error: IngestError | None = None
    try:
        pipeline = contract.read(file)
        run.run(pipeline, name=file.stem, run_id=report.run_id, only=table, report=report)
    except IngestError as failure:
        error = failure
    if as_json:
        typer.echo(_as_json(report, error))
    else:
        for loaded in report.loaded:
            typer.echo(f"{loaded.table}: {loaded.rows} rows in {loaded.seconds} s")
    if error is not None:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_USE if isinstance(error, UnknownTableError) else FAILED)


@app.command()
def schema() -> None:
    """Print the JSON Schema of pipeline files."""
    typer.echo(json.dumps(contract.json_schema(), indent=2))


def _as_json(report: run.Report, error: IngestError | None) -> str:
    return json.dumps(
        {
            "pipeline": report.pipeline,
            "run_id": report.run_id,
            "tables": [asdict(loaded) for loaded in report.loaded],
            "failed": {name: failure.message for name, failure in report.failed.items()},
            "error": None if error is None else error.message,
        }
    )


if __name__ == "__main__":
    app()
