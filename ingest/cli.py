"""The command ``ingest`` and its verbs."""

from __future__ import annotations

import json
import logging
import sys
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingest import connections, contract, display, run, staging, starter
from ingest.cursor import Interval
from ingest.errors import ContractError, IngestError, Problem, UnknownTableError
from ingest.job import JOBS, Job, Scope

if TYPE_CHECKING:
    from ingest.plan import TablePlan

DONE, FAILED, WRONG_USE = 0, 1, 2

app = typer.Typer(
    name="ingest",
    help="Brings tables of PostgreSQL databases into the warehouse: exact, checked, all or nothing."
    "\n\nConnections come from AIRFLOW_CONN_<ID> in the environment, as URIs or as Airflow's JSON.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its frames show local variables, passwords among them
)

PipelineFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="pipeline file")]
OneTable = Annotated[
    str | None, typer.Option("--table", help="this table only, with or without its schema")
]
FullRefresh = Annotated[
    bool, typer.Option("--full-refresh", help="load whole tables, whatever was loaded before")
]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


@app.callback()
def main() -> None:
    """Send the log to standard error, so that standard output is the result's alone."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )


@app.command()
def check(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="pipeline files")
    ],
    as_json: AsJson = False,
) -> None:
    """Check pipeline files, each by itself and beside the others, without any database."""
    problems: list[Problem] = []
    for file, found in contract.read_all(files):
        if isinstance(found, ContractError):
            problems += found.problems
            if not as_json:
                typer.echo(str(found), err=True)
        elif not as_json:
            typer.echo(f"{file}: sound")
    if as_json:
        typer.echo(json.dumps([{**asdict(each), "file": str(each.file)} for each in problems]))
    raise typer.Exit(FAILED if problems else DONE)


@app.command("run")
def run_file(
    file: PipelineFile,
    table: OneTable = None,
    full_refresh: FullRefresh = False,
    since: Annotated[
        str | None, typer.Option(help="with --until: cursor values from this one on, again")
    ] = None,
    until: Annotated[str | None, typer.Option(help="cursor values before this one")] = None,
    jobs: Annotated[
        int, typer.Option(min=1, max=64, help="sessions to the source beside each other")
    ] = JOBS,
    alert: Annotated[bool, typer.Option("--alert", help="tell the file's webhook")] = False,
    as_json: AsJson = False,
) -> None:
    """Load, check and publish the tables of a pipeline file."""
    if (since is None) is not (until is None):
        raise typer.BadParameter("--since and --until go together")
    interval = Interval(since, until) if since is not None and until is not None else None
    report = run.Report(file.stem, f"manual__{uuid.uuid4()}")
    error: IngestError | None = None
    try:
        job = Job(contract.read(file), file.stem, report.run_id)
        with display.progress(shown=not as_json and sys.stderr.isatty()) as progress:
            scope = Scope(table, full_refresh, interval, jobs, progress)
            run.run(job, scope, alert=alert, report=report)
    except IngestError as failure:
        error = failure
    if as_json:
        typer.echo(_as_json(report, error))
    elif report.loaded:
        display.loaded(report.loaded)
    if error is not None:
        if not as_json:
            typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_USE if isinstance(error, UnknownTableError) else FAILED)


@app.command("plan")
def plan_file(
    file: PipelineFile,
    table: OneTable = None,
    full_refresh: FullRefresh = False,
    as_json: AsJson = False,
) -> None:
    """Tell what a run would do with each table, and why; nothing is changed."""
    job = Job(contract.read(file), file.stem, "plan")
    plans, failed = run.foresee(job, Scope(table, full_refresh))
    if as_json:
        found = {
            "tables": [_plan_as_json(each) for each in plans],
            "failed": {name: error.message for name, error in failed.items()},
        }
        typer.echo(json.dumps(found))
    else:
        display.plans(plans)
        for error in failed.values():
            typer.echo(str(error), err=True)
    raise typer.Exit(FAILED if failed else DONE)


@app.command()
def init(
    connection: Annotated[str, typer.Argument(help="connection id of the source")],
    schema: Annotated[list[str] | None, typer.Option(help="schemas to read")] = None,
    published: Annotated[
        str | None, typer.Option(help="schema of the warehouse; raw_<connection> by default")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="write this file, which must not be there yet")
    ] = None,
) -> None:
    """Write a pipeline file for what a database holds, to be looked over and pushed."""
    text = starter.pipeline_file(
        connections.postgres(connections.from_environment(connection)),
        schemas=schema or ["public"],
        published=published or starter.published_schema(connection),
    )
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        with output.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise typer.BadParameter(f"{output}: expected no such file, found one") from None
    typer.echo(f"{output}: written; look it over, then: ingest check {output}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of pipeline files, for editors that check and complete with it."""
    typer.echo(json.dumps(contract.json_schema(), indent=2))


def entry() -> None:
    """Run the command; an error of ours is a message and an exit code, never a traceback."""
    try:
        app()
    except IngestError as error:
        typer.echo(str(error), err=True)
        sys.exit(WRONG_USE if isinstance(error, UnknownTableError) else FAILED)


def _as_json(report: run.Report, error: IngestError | None) -> str:
    return json.dumps(
        {
            "pipeline": report.pipeline,
            "run_id": report.run_id,
            "tables": [asdict(loaded) for loaded in report.loaded],
            "failed": {name: failure.message for name, failure in report.failed.items()},
            "error": None if error is None else error.message,
            "hint": None if error is None else error.hint,
        }
    )


def _plan_as_json(plan: TablePlan) -> dict[str, object]:
    return {
        "table": str(plan),
        "source": plan.source,
        "load": plan.action,
        "reason": plan.reason,
        "rows": plan.rows,
        "bytes": plan.bytes,
        "format": "binary" if plan.binary else "text",
        "why_text": plan.why_text or None,
        "parts": len(staging.parts(plan, JOBS)),
        "key": list(plan.key),
        "cursor": plan.cursor and plan.cursor.column,
        "where": plan.where or None,
        "deletes": plan.deletes,
        "changes": list(plan.changes),
        "unseen": list(plan.unseen()),
    }
