"""The command of Nomad's jobs ``ingest-<source>``: one run, as the meta of its dispatch asks.

The pipeline file is that of the commit that is live in the DAG mirror, read as data; connections
are in a file that the job's template rendered. The last line on standard output says as JSON how it
ended.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, StringConstraints

from frame.application import definitions, epilog, exit_codes
from frame.failure import MEANINGS, ExitCode, Failure, Stopped, WrongUse
from frame.git import MEBIBYTE, GitError, fetched
from frame.output import print_json_text
from frame.settings import Settings
from ingest import contract, run
from ingest.cursor import Interval, tick_before
from ingest.errors import ContractError, DataError
from ingest.job import Job, Scope
from ingest.rendered import Rendered, remove
from ingest.report import Report
from ingest.rules import Duration  # noqa: TC001 - pydantic reads it

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from types import FrameType

    from ingest.contract import Pipeline

LIVE = "refs/heads/live"
MOST_BYTES = 16 * 1024  # of the last line: Airflow keeps it in its database
_REASON = 500  # characters of why one table failed
_FETCH_SECONDS = 60.0
_FETCH_BYTES = 16 * MEBIBYTE  # all pipeline files of one commit, packed
_FILE_BYTES = MEBIBYTE


def _split(text: object) -> object:
    return tuple(map(str.strip, text.split(","))) if isinstance(text, str) else text


Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=250)]


class Asked(Settings):
    """What a dispatch asks for."""

    PREFIX = "NOMAD_META_"
    HINT: ClassVar[str] = (
        "Give them when the job is dispatched: nomad job dispatch -meta pipeline=NAME -meta"
        " run_id=ID JOB; `ingest job --help` explains each."
    )

    pipeline: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$",
        description="name of the pipeline: its file without .yaml",
    )
    run_id: Line = Field(
        description="the run's name in ops; a further try has the same, and leaves what was"
        " published"
    )
    commit: str | None = Field(
        default=None,
        pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$",
        description="commit of the mirror's pipelines (default: the one that is live)",
    )
    full_refresh: bool = Field(
        default=False, description="true: load whole tables, whatever was loaded before"
    )
    tables: Annotated[tuple[Line, ...], BeforeValidator(_split)] = Field(
        default=(), description="tables, with commas between them (default: all of the file)"
    )
    interval_start: Line | None = Field(
        default=None, description="load cursor values from this one on again; with interval_end"
    )
    interval_end: Line | None = Field(
        default=None,
        description="and before this one; alone it is a time, and the interval begins with the"
        " schedule's tick before it",
    )
    tries_left: int = Field(
        default=0,
        ge=0,
        description="how often the run is tried again; nobody is alerted of what may pass before",
    )
    log_url: str = Field(
        default="",
        pattern=r"^https?://[^\s\x00-\x1f\x7f]+$",
        max_length=2000,
        description="address of the run's log, for alerts",
    )

    def scope(self, schedule: str) -> Scope:
        """Return what of the pipeline is to be loaded. Raises WrongUse."""
        since, until = self.interval_start, self.interval_end
        if until is None:
            if since is not None:
                raise WrongUse("interval_start needs interval_end", "Give both, or neither.")
            return Scope(self.tables, self.full_refresh)
        return Scope(
            self.tables, self.full_refresh, Interval(since or tick_before(until, schedule), until)
        )


class Place(Settings):
    """What the job's specification says of where it runs."""

    PREFIX = "HARMATTAN_"

    source: str = Field(min_length=1, description="connection id of the source that the job is for")
    mirror: str = Field(pattern=r"^\w+://\S+$", description="URL of the DAG mirror")
    git_config: Path | None = Field(
        default=None, description="file of git's configuration that logs in at the mirror"
    )
    connections: Path = Field(
        description="file of the connections, as JSON; it is removed when it has been read"
    )
    timeout: Duration = Field(description="the longest that a run may take, such as 12h")


EPILOG = epilog(
    definitions("What the dispatch gives", Asked.explained()),
    definitions("What the job gives", Place.explained()),
    exit_codes({ExitCode.PASSES: MEANINGS[ExitCode.PASSES]}),
)


def job() -> None:
    """Run the pipeline that a dispatch of a Nomad job asks for.

    The last line on standard output is a JSON object: pipeline, run_id, status (success, failed or
    stopped), rows of each published table, and why others failed; assets are the published schema
    and its tables, as Airflow calls them.
    """
    place = Place.from_environment(os.environ)
    with ExitStack() as secrets:
        secrets.callback(remove, place.connections, place.git_config)
        _run(Asked.from_environment(os.environ), place, secrets)


def _run(asked: Asked, place: Place, secrets: ExitStack) -> None:
    """Do it, and close the ``secrets`` once they are read."""
    report, status, error, schema = Report(asked.pipeline, asked.run_id), "failed", None, ""
    try:
        connections, pipeline = Rendered(place.connections), _pipeline(place, asked)
        secrets.close()
        schema, scope = pipeline.published_schema, asked.scope(pipeline.schedule)
        work = Job(pipeline, asked.pipeline, asked.run_id, connections.resolve)
        with _bounded(work, place.timeout, asked.log_url):
            run.run(
                work,
                scope,
                alert=True,
                log_url=asked.log_url,
                again=asked.tries_left > 0,
                report=report,
            )
        status = "success"
    except Failure as failure:
        error = failure
        if report.passes(failure):
            failure.exit_code = ExitCode.PASSES
        raise
    except Stopped:
        status = "stopped"
        raise
    finally:
        print_json_text(summary(report, status, error, schema))


class _TimeOver(Stopped):
    """The run's time is over."""


@contextmanager
def _bounded(work: Job, limit: timedelta, log_url: str) -> Iterator[None]:
    """End a run that takes longer than ``limit``; ops and the webhook hear of it.

    Raises Failure.
    """

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise _TimeOver("its time is over")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit.total_seconds())
    try:
        yield
    except _TimeOver:
        from ingest import alerts  # what it needs takes a tenth of a second

        late = Failure(
            f"pipeline {work.name}: expected a run of {limit} at most, found it still going",
            "Its log says what it was doing: find who holds the table, or raise ingest_timeout.",
        )
        with suppress(Failure), closing(work.connect()) as target:
            run.stop(work, target, "extract", late)
        alerts.failed(work, late, None, step="extract", log_url=log_url)
        raise late from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _pipeline(place: Place, asked: Asked) -> Pipeline:
    """Return the pipeline of the mirror's commit, which reads the job's source. Raises Failure."""
    found = _read(place, asked)
    if found.source != place.source:
        raise WrongUse(
            f"pipeline {asked.pipeline}: expected the source {place.source}, which this job may"
            f" read, found {found.source}",
            f"Dispatch the job ingest-{found.source} for it.",
        )
    return found


def _read(place: Place, asked: Asked) -> Pipeline:
    path = f"pipelines/{asked.pipeline}.yaml"
    wanted = asked.commit or LIVE
    url = f"{place.mirror}/pipelines.git"
    try:
        with fetched(
            url, wanted, seconds=_FETCH_SECONDS, most=_FETCH_BYTES, config=place.git_config
        ) as (git, commit):
            if not git.run("ls-tree", "-z", commit, "--", path):
                raise WrongUse(
                    f"pipeline {asked.pipeline}: expected {path} in commit {commit[:12]} of the"
                    " mirror, found no such file",
                    "Look at what is live: the analysts' last push may not have passed the gate.",
                )
            text = git.run("cat-file", "blob", f"{commit}:{path}", most=_FILE_BYTES)
    except GitError as error:
        if "not our ref" in error.said:
            raise WrongUse(
                f"commit {wanted}: expected one that the mirror has, found it unknown there",
                "Leave it out for the one that is live.",
            ) from None
        raise
    with TemporaryDirectory() as folder:
        file = Path(folder, f"{asked.pipeline}.yaml")
        file.write_bytes(text)
        try:
            return contract.read(file)
        except ContractError as broken:
            faults = (replace(each, file=Path(path)) for each in broken.problems)
            raise ContractError(tuple(faults)) from None


def summary(report: Report, status: str, error: Failure | None, schema: str) -> str:
    """Return how a run ended as one line of JSON, at most MOST_BYTES, without any value of a row.

    Where the tables take more, ``counts`` stands in place of them. ``schema`` is the published one.
    """
    rows = report.earlier | {each.table: each.rows for each in report.loaded}
    changed = {each.table: each.rows for each in report.loaded}
    if changed:
        changed[schema] = sum(changed.values())
    said: dict[str, Any] = {
        "pipeline": report.pipeline,
        "run_id": report.run_id,
        "status": status,
        "rows": rows,
        "failed": {table: _brief(each) for table, each in report.failed.items()},
        "assets": {
            name: {"rows": count, "run_id": report.run_id} for name, count in changed.items()
        },
    }
    if error is not None and not report.failed:
        said["error"] = _brief(error)
    if len(json.dumps(said)) > MOST_BYTES:
        counts = {"tables": len(rows), "rows": sum(rows.values()), "failed": len(report.failed)}
        said |= {"rows": {}, "failed": {}, "counts": counts}
        del said["assets"]
    return json.dumps(said)


def _brief(error: Failure) -> str:
    text = error.brief if isinstance(error, DataError) else error.message
    return text if len(text) <= _REASON else f"{text[: _REASON - 1]}…"
