"""Makes pipeline files into DAGs: Airflow schedules, waits and tries again, `ingest` does the work.

Parsing reads the files and nothing else: no connection, no secret, no database.
"""

from __future__ import annotations

import logging
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
from airflow.sdk import (
    DAG,
    Asset,
    CronTriggerTimetable,
    TaskGroup,
    TriggerRule,
    conf,
    get_current_context,
    literal,
    task,
    task_group,
)
from airflow.sdk.exceptions import AirflowFailException
from pydantic import TypeAdapter

from frame.failure import Failure
from harmattan import connections
from ingest import alerts, contract, release, run, warehouse
from ingest.cursor import Interval
from ingest.errors import (
    BusyError,
    CheckFailedError,
    ConflictError,
    ContractError,
    RunFailedError,
    SchemaChangedError,
    from_postgres,
)
from ingest.job import Job, Scope
from ingest.journal import Fault
from ingest.staging import Staged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from ingest.contract import Pipeline
    from ingest.errors import Problem

log = logging.getLogger(__name__)

# Airflow asks for some date in the past; without catch-up no run is made up for it.
_START = datetime(2026, 1, 1, tzinfo=UTC)
# 30 s passes over a failover, and the growing delays over a restart of the database or the
# cluster; nobody waits at night, but a run should be over before the school's day begins.
_PATIENT: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
}
# A full load of every table of a school takes minutes; beyond this something hangs.
_EXTRACT_TIMEOUT = timedelta(hours=4)
# An audit is one pass over a table, and publishing, but for its wait, a rename or a merge.
_STEP_TIMEOUT = timedelta(hours=1)
# Trying again does not mend these: the data or the file must change, or hours were not enough.
_LASTING = (BusyError, CheckFailedError, ContractError, SchemaChangedError)

# Between tasks, as JSON; it holds names, counts and cursor values.
_STAGED = TypeAdapter(Staged)

_MAIL = """\
<p>Pipeline <b>{name}</b> (owner: {owner}) failed.</p>
<pre>{{{{ exception | e }}}}</pre>
<p>Run {{{{ run_id | e }}}}: <a href="{{{{ ti.log_url | e }}}}">its log</a>.</p>
"""


def published(schema: str) -> Asset:
    """Return the asset of a pipeline's schema: DAGs scheduled by it run when it has published."""
    return Asset(name=schema, uri=f"harmattan://warehouse/{schema}")


def pipeline_dag(file: Path) -> DAG:
    """Return the DAG ``ingest_<file stem>`` of one pipeline file; raise ContractError."""
    return _dag(contract.read(file), file.stem)


def _dag(pipeline: Pipeline, name: str) -> DAG:
    with DAG(
        dag_id=f"ingest_{name}",
        description=f"{pipeline.source} into {pipeline.published_schema}",
        schedule=CronTriggerTimetable(pipeline.schedule, timezone="UTC"),
        start_date=_START,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags={"ingest", pipeline.source},
        default_args={"owner": pipeline.owner},
    ) as dag:
        _group(pipeline, name)
    return dag


def pipeline_group(file: Path) -> TaskGroup:
    """Return the task group ``<file stem>`` of one pipeline file, for the DAG around it.

    ``extract`` holds the source's snapshot and loads the tables beside each other into staging;
    ``audit`` and ``publish`` follow for each table by itself; ``finish`` writes down how the run
    went, tells the webhook, and fails if a table did. Raises ContractError.
    """
    return _group(contract.read(file), file.stem)


def _group(pipeline: Pipeline, name: str) -> TaskGroup:
    def job() -> Job:
        run_id = str(get_current_context()["run_id"])
        return Job(pipeline, name, run_id, connections.resolve)

    whole = pipeline.publish.tables == "together"
    step = {**_PATIENT, "execution_timeout": _STEP_TIMEOUT}
    last = {**step, "execution_timeout": _STEP_TIMEOUT + pipeline.publish.wait}

    # How many runs may read one source at once is the size of its pool.
    @task(
        pool=f"source_{pipeline.source}",
        execution_timeout=_EXTRACT_TIMEOUT,
        show_return_value_in_logs=False,
        **_PATIENT,
    )
    def extract() -> list[dict[str, Any]]:
        """Copy what is due of every table into staging."""
        context, work = get_current_context(), job()
        with _told(), work.warehouse() as target:
            try:
                staged, failed = run.stage(work, target, _scope(pipeline, context))
            except Failure as error:
                run.stop(work, target, "extract", error, ended=False)
                raise
        passing = [error for error in failed.values() if not isinstance(error, _LASTING)]
        if failed and (not staged or whole or (passing and _again(context["ti"]))):
            with _told():
                raise next(iter(passing or failed.values()))
        return [_STAGED.dump_python(each, mode="json") for each in staged]

    @task(map_index_template="{{ table }}", **step)
    def audit(staged: dict[str, Any]) -> None:
        """Hold the staged table against its checks."""
        found, work = _staged(staged), job()
        with _told(), work.warehouse() as target:
            try:
                run.audit(work, target, found)
            except ConflictError as error:  # publish takes the table again
                log.warning("%s", error.message)

    @task(map_index_template="{{ table }}", **last)
    def publish(staged: dict[str, Any]) -> int:
        """Put the table in front of readers; return its rows."""
        found = _staged(staged)
        return _publish(job(), [found], found)

    @task(task_id="publish", **last)
    def publish_together(staged: list[dict[str, Any]]) -> int:
        """Put all tables in front of readers in one transaction; return their rows."""
        return _publish(job(), [_STAGED.validate_python(each) for each in staged])

    @task(
        trigger_rule=TriggerRule.ALL_DONE,
        outlets=[published(pipeline.published_schema)],
        on_failure_callback=_mail(pipeline, name),
        **step,
    )
    def finish() -> dict[str, int]:
        """Tell how the run went; return the rows of each table."""
        return _finish(job(), get_current_context()["ti"], name)

    @task_group
    def table(staged: dict[str, Any]) -> None:
        """One table, after it was staged."""
        audit(staged) >> publish(staged)

    with TaskGroup(group_id=name) as group:
        staged = extract()
        if whole:
            audit.expand(staged=staged) >> publish_together(staged) >> finish()  # type: ignore[arg-type]
        else:
            table.expand(staged=staged) >> finish()
    return group


def pipeline_dags(folder: Path) -> dict[str, DAG]:
    """Return the DAG of every ``*.yaml`` in ``folder``, by its id.

    Raises one ContractError with the faults of all broken files. A file that fails to import
    stops all of its DAGs in Airflow, so this is for a folder that ``ingest check`` has passed;
    to keep pipelines apart, write one DAG file a pipeline and call :func:`pipeline_dag` there.
    """
    dags: dict[str, DAG] = {}
    problems: list[Problem] = []
    for file, found in contract.read_all(sorted(folder.glob("*.yaml"))):
        if isinstance(found, ContractError):
            problems += found.problems
        else:
            dag = _dag(found, file.stem)
            dags[dag.dag_id] = dag
    if problems:
        raise ContractError(tuple(problems))
    return dags


def _staged(value: dict[str, Any]) -> Staged:
    staged = _STAGED.validate_python(value)
    get_current_context()["table"] = str(staged)  # type: ignore[typeddict-unknown-key]
    return staged


def _publish(work: Job, tables: list[Staged], alone: Staged | None = None) -> int:
    """Publish tables in one transaction; return their rows.

    If a backfill, or a run by hand, got in between, all are staged again, or the one ``alone``.
    """
    scope = _scope(work.pipeline, get_current_context())
    with _told(), work.warehouse() as target:
        try:
            loaded = release.together(work, target, tables)
        except ConflictError as error:
            log.warning("%s", error.message)
            loaded = run.take_again(work, target, scope, alone)
    return sum(each.rows for each in loaded)


@contextmanager
def _told() -> Iterator[None]:
    """Keep Airflow from trying again what trying again does not mend."""
    try:
        yield
    except _LASTING as error:
        raise AirflowFailException(str(error)) from error


def _scope(pipeline: Pipeline, context: Mapping[str, Any]) -> Scope:
    """Return what is due; of a backfill, from the schedule's tick before this run's to this one."""
    from croniter import croniter

    dag_run, moment = context["dag_run"], context.get("logical_date")
    if dag_run.run_type != "backfill" or moment is None:
        return Scope()
    before = croniter(pipeline.schedule, moment).get_prev(datetime)
    return Scope(interval=Interval(before.isoformat(), moment.isoformat()))


def _again(ti: RuntimeTaskInstanceProtocol) -> bool:
    """Return whether Airflow tries the task again if this try fails."""
    return ti.try_number <= (ti.max_tries or 0)


def _finish(work: Job, ti: RuntimeTaskInstanceProtocol, group: str) -> dict[str, int]:
    """Write how the run ended, alert if it must be, and raise if something failed."""
    failed = _failed_task(ti, group)
    try:
        with closing(work.connect()) as target:
            # A task that did not get far may have left no ops to write into.
            warehouse.prepare(target, work.pipeline)
            recovered = run.finish(work, target)
            fault, rows = work.journal(target).fault(), work.journal(target).published_rows()
            if failed and fault is None:
                silent = RunFailedError(
                    f"task {failed[0]}: expected its result or its error in ops, found neither",
                    hint="Its log has more: it may have run out of time or of memory.",
                )
                step = failed[0].rpartition(".")[2]
                run.stop(work, target, step, silent)
                fault = Fault(step, None, silent.message, silent.hint)
    except (Failure, psycopg.Error) as away:
        if _again(ti):
            raise
        if isinstance(away, psycopg.Error):
            away = from_postgres(away, side="warehouse", table="ops.runs")
        failed = failed or (f"{group}.finish", -1)
        fault = Fault(failed[0].rpartition(".")[2], None, away.message, away.hint)
    if fault is None:
        if recovered:
            alerts.recovered(work, log_url=_log_url(ti, (f"{group}.finish", -1)))
        return rows
    where = _task_of(work, ti, group, fault.step, fault.table) or failed
    error = RunFailedError(fault.error, hint=fault.hint or "Its log has more.")
    log_url = _log_url(ti, where or (f"{group}.finish", -1))
    alerts.failed(work, error, fault.table, step=fault.step, log_url=log_url)
    raise AirflowFailException(str(error))


def _failed_task(ti: RuntimeTaskInstanceProtocol, group: str) -> tuple[str, int] | None:
    """Return id and map index of the first task of this run that failed, None if none did."""
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    for step in ("extract", "audit", "table.audit", "table.publish", "publish"):
        task_id = f"{group}.{step}"
        for name, state in states.items():
            if state == "failed" and (name == task_id or name.startswith(f"{task_id}_")):
                place = name.removeprefix(task_id).removeprefix("_")
                return task_id, int(place) if place else -1
    return None


def _task_of(
    work: Job, ti: RuntimeTaskInstanceProtocol, group: str, step: str, table: str | None
) -> tuple[str, int] | None:
    """Return id and map index of the task that took ``table`` through ``step``, if one did."""
    if step in {"plan", "extract"}:
        return f"{group}.extract", -1
    inside = f"{group}.table"
    if work.pipeline.publish.tables == "together":
        if step == "publish":
            return f"{group}.publish", -1
        inside = group
    staged = ti.xcom_pull(task_ids=f"{group}.extract") if table else None
    tables = [str(_STAGED.validate_python(each)) for each in staged or ()]
    return (f"{inside}.{step}", tables.index(table)) if table in tables else None


def _log_url(ti: RuntimeTaskInstanceProtocol, where: tuple[str, int]) -> str:
    base = conf.get("api", "base_url", fallback="http://localhost:8080/").rstrip("/")
    task_id, place = where
    url = f"{base}/dags/{ti.dag_id}/runs/{quote(ti.run_id, safe='')}/tasks/{task_id}"
    return url if place < 0 else f"{url}/mapped/{place}"


def _mail(pipeline: Pipeline, name: str) -> list[Any]:
    """Return Airflow's notifier for those who want a mail; it uses the connection smtp_default.

    It renders what it is given as a template, which could ask for any connection: the addresses
    are analysts' text, so they are given as they are.
    """
    if not pipeline.email:
        return []
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    return [
        SmtpNotifier(
            to=literal(list(pipeline.email)),
            from_email=None,  # that of the connection
            subject=f"Pipeline {name} failed",
            html_content=_MAIL.format(name=name, owner=pipeline.owner),
        )
    ]
