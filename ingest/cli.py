"""The command ``ingest`` and its verbs."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic_core import to_jsonable_python as jsonable

from frame.application import Application, exit_codes
from frame.failure import ExitCode, Failure, WrongUse
from frame.output import AsJson, print_failure, print_json
from frame.progress import progress
from ingest import connections, contract, display, nomad, run, staging, starter, status, trial
from ingest.cursor import Interval
from ingest.errors import ContractError, Problem
from ingest.job import Job, Scope
from ingest.limits import MOST_JOBS
from ingest.report import Report
from ingest.shapes import NO_TABLES
from ingest.words import PipelineFile, SomeTables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.plan import TablePlan

app = Application(
    "ingest",
    help="Bring tables of PostgreSQL databases into the warehouse: exact, checked, all or nothing."
    "\n\nA connection comes from AIRFLOW_CONN_<ID> in the environment, as a URI or as Airflow's "
    "JSON.",
    epilog=exit_codes(
        {
            ExitCode.FAILED: "failed: what was not published is as it was",
            ExitCode.NOTHING_TO_DO: "publish: nothing waits for it",
        }
    ),
)

FullRefresh = Annotated[
    bool, typer.Option("--full-refresh", help="Load whole tables, whatever was loaded before.")
]


@app.command()
def check(
    files: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="Pipeline files."),
    ],
    as_json: AsJson = False,
) -> None:
    """Check pipeline files, without any database.

    Each is checked by itself and beside the others.
    """
    problems: list[Problem] = []
    for file, found in contract.read_all(files):
        if isinstance(found, ContractError):
            problems += found.problems
        elif not as_json:
            typer.echo(f"{file}: sound")
    if as_json:
        print_json([{**asdict(each), "file": str(each.file)} for each in problems])
    else:
        for problem in problems:
            typer.echo(str(problem), err=True)
    if problems:
        broken = len({problem.file for problem in problems})
        raise Failure(
            f"{broken} of {len(files)} pipeline files cannot be used",
            "Mend each line above; `ingest schema` prints the format.",
        )


@app.command("run")
def run_file(
    file: PipelineFile,
    table: SomeTables = None,
    full_refresh: FullRefresh = False,
    since: Annotated[
        str | None, typer.Option(help="Load cursor values from this one on again; needs --until.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Load cursor values before this one again; needs --since.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_JOBS, help="Parallel sessions to the source (default: the file's)."
        ),
    ] = None,
    alert: Annotated[
        bool, typer.Option("--alert", help="Post a failure to the webhook of the file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Load, check and publish the tables of a pipeline file."""
    if (since is None) is not (until is None):
        raise WrongUse("--since and --until go together", "Give both, or neither.")
    interval = Interval(since, until) if since is not None and until is not None else None
    report = Report(file.stem, f"manual__{uuid.uuid4()}")
    error: Failure | None = None
    try:
        job = Job(contract.read(file), file.stem, report.run_id)
        with progress() as advance:
            scope = Scope(tuple(table or ()), full_refresh, interval, jobs, advance)
            run.run(job, scope, alert=alert, report=report)
    except Failure as failure:
        error = failure
    _show(report, error, as_json=as_json)


@app.command("publish")
def publish_file(file: PipelineFile, table: SomeTables = None, as_json: AsJson = False) -> None:
    """Publish what earlier runs had to leave in staging.

    That is what was checked, while others held the published table. The source is not read.
    """
    report = Report(file.stem, f"manual__{uuid.uuid4()}")
    error: Failure | None = None
    try:
        run.publish(Job(contract.read(file), file.stem, report.run_id), tuple(table or ()), report)
    except Failure as failure:
        error = failure
    _show(report, error, as_json=as_json)


@app.command()
def clean(
    file: PipelineFile,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what `ingest publish` would publish.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what is left over in staging, and say what it was.

    A copy that waits for `ingest publish` stays. Published tables are not touched.
    """
    removed = run.clean(Job(contract.read(file), file.stem, "clean"), everything=everything)
    if as_json:
        print_json([{**asdict(each), "since": each.since.isoformat()} for each in removed])
    else:
        display.removed(removed)


@app.command("status")
def status_of(file: PipelineFile, as_json: AsJson = False) -> None:
    """Show how the last run went, and what is published of each table."""
    job = Job(contract.read(file), file.stem, "status")
    with closing(job.connect()) as warehouse:
        run_found = status.last_run(warehouse, job.name)
        found = status.tables(warehouse, job.pipeline, job.name)
    if as_json:
        shown = {"run": run_found and asdict(run_found), "tables": [asdict(each) for each in found]}
        print_json(jsonable(shown))
    else:
        display.status(job.name, run_found, found)


@app.command()
def reset(file: PipelineFile, table: SomeTables = None) -> None:
    """Forget what the next run starts from.

    It then loads whole tables again. Published tables stay as they are until then. A table with
    load: append keeps its rows; it gets those of the source that it does not have.
    """
    job = Job(contract.read(file), file.stem, "reset")
    with job.warehouse() as warehouse:
        done = status.reset(warehouse, job.pipeline, job.name, tuple(table or ()))
    for name, appends in done:
        typer.echo(f"{name}: {'reads all rows again' if appends else 'is loaded whole'} next time")
    if not done:
        raise Failure(
            f"pipeline {job.name}: expected tables that it published, found none of that name",
            "`ingest status FILE` shows them.",
            exit_code=ExitCode.NOTHING_TO_DO,
        )


@app.command("plan")
def plan_file(
    file: PipelineFile,
    table: SomeTables = None,
    full_refresh: FullRefresh = False,
    as_json: AsJson = False,
) -> None:
    """Show what a run would do with each table.

    It says why, too; nothing is changed.
    """
    job = Job(contract.read(file), file.stem, "plan")
    due = run.foresee(job, Scope(tuple(table or ()), full_refresh))
    if as_json:
        found = {
            "tables": [_plan_as_json(each, job.pipeline.limits.jobs) for each in due.plans],
            "failed": _errors(due.failed),
            "left_out": {str(each): NO_TABLES[each.kind] for each in due.left_out},
        }
        print_json(found)
    else:
        display.plans(due.plans, due.left_out)
    for error in due.failed.values():
        print_failure(error)
    if due.failed:
        raise typer.Exit(ExitCode.FAILED)


app.command("try")(trial.try_file)


@app.command()
def init(
    connection: Annotated[str, typer.Argument(help="Connection id of the source.")],
    schema: Annotated[
        list[str] | None, typer.Option(help="Schema to read; may be given several times.")
    ] = None,
    published: Annotated[
        str | None, typer.Option(help="Schema of the warehouse (default: raw_CONNECTION).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write this file, which must not be there yet.")
    ] = None,
) -> None:
    """Write a pipeline file for what a database holds."""
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
        raise WrongUse(
            f"{output} is there already", "Name another file, or remove this one."
        ) from None
    except OSError as error:
        raise WrongUse(
            f"{output} cannot be written: {error.strerror}", "Name a file in a folder of yours."
        ) from None
    typer.echo(f"{output}: written; look it over, then: ingest check {output}")


app.command("job", epilog=nomad.EPILOG)(nomad.job)


@app.command()
def schema() -> None:
    """Print the JSON Schema of pipeline files, for editors."""
    print_json(contract.json_schema())


def _show(report: Report, error: Failure | None, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(report, error))
    elif report.loaded:
        display.loaded(report.loaded)
    if error is not None:
        raise error


def _as_json(report: Report, error: Failure | None) -> dict[str, object]:
    return {
        "pipeline": report.pipeline,
        "run_id": report.run_id,
        "tables": [asdict(loaded) for loaded in report.loaded],
        "failed": _errors(report.failed),
        "error": None if error is None else error.message,
        "hint": None if error is None else error.hint,
    }


def _errors(failed: Mapping[str, Failure]) -> dict[str, dict[str, str]]:
    return {name: {"error": each.message, "hint": each.hint} for name, each in failed.items()}


def _plan_as_json(plan: TablePlan, jobs: int) -> dict[str, object]:
    source, read = plan.source, plan.read
    return {
        "table": str(plan),
        "source": str(source),
        "load": read.load,
        "reason": read.reason,
        "rows": source.rows,
        "bytes": source.bytes,
        "format": read.format,
        "why_text": read.why_text or None,
        "parts": len(staging.parts(plan, jobs)),
        "key": list(plan.target.key),
        "cursor": read.cursor and read.cursor.column,
        "where": read.condition and read.condition.as_string(),
        "deletes": plan.target.deletes,
        "changes": list(plan.changes.describe()),
        "unseen": list(read.unseen),
    }
