"""Makes a dbt project into a DAG: built beside what readers see, tested, then published.

One task, with a line a model in its log: a task of Airflow costs more than a second before its
work, and the school's whole project takes twelve (docs/decisions/0041).
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from airflow.sdk import (
    DAG,
    AssetAny,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    conf,
    get_current_context,
    task,
)
from airflow.sdk.exceptions import AirflowFailException

from frame.failure import Failure
from harmattan import connections
from harmattan.pipelines import published as asset_of
from ingest import alerts
from ingest.connections import postgres, warehouse
from ingest.errors import from_postgres
from transform import build, journal, results
from transform.errors import BuildError, UnsoundError
from transform.publish import publish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.sdk.types import RuntimeTaskInstanceProtocol
    from psycopg import Connection

    from ingest.connections import Address

log = logging.getLogger(__name__)

# Where the image holds dbt, in an environment of its own.
_DBT = Path(os.environ.get("HARMATTAN_DBT", "/opt/dbt/bin/dbt"))
_TIMEOUT = timedelta(seconds=build.LIMIT * 2)  # dbt's own limit, twice: it writes the page, too
_SHOWN = 5  # faults in an alert; the log has them all


def models_dag(
    project: Path,
    *,
    after: Sequence[str],
    schedule: str = "0 4 * * *",
    owner: str,
    alert: str | None = None,
    connection: str = "warehouse",
) -> DAG:
    """Return the DAG ``models`` of the dbt project in the folder ``project``.

    It runs by the cron expression ``schedule`` (UTC), and whenever a pipeline has published one of
    the schemas ``after``. ``alert`` is the connection id of a webhook that hears of failed runs and
    of the recovery; ``connection`` that of the warehouse.
    """
    with DAG(
        dag_id="models",
        description=f"dbt models of {project.name}, tested, then published",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable(schedule, timezone="UTC"),
            assets=AssetAny(*(asset_of(schema) for schema in after)),
        ),
        # Without a start date the first run is a pipeline's, not this morning's of an empty house.
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags={"models"},
        default_args={"owner": owner},
    ) as dag:
        # A database that was away is back after a minute or two, and of a warehouse that is filled
        # for the first time the other pipelines publish by then. A test that fails is not tried
        # again.
        @task(
            retries=4,
            retry_delay=timedelta(seconds=15),
            retry_exponential_backoff=2.0,
            execution_timeout=_TIMEOUT,
            show_return_value_in_logs=False,
        )
        def run() -> list[str]:
            """Build, test and publish; return the names of the marts that were published."""
            ti = get_current_context()["ti"]
            last_try = ti.try_number > (ti.max_tries or 0)
            try:
                address = postgres(connections.resolve(connection))
                done, recovered = _run(
                    project, address, _artefacts(ti), after=after, last_try=last_try
                )
                if get_current_context()["dag_run"].run_type != "asset_triggered":
                    _document(project, address, _artefacts(ti))
            except Failure as error:
                lasting = isinstance(error, UnsoundError) and not error.may_pass
                if lasting or last_try:
                    _alert(ti, "failed", alert, owner, reason=str(error))
                if lasting:
                    raise AirflowFailException(str(error)) from None
                raise
            if recovered:
                _alert(ti, "recovered", alert, owner, reason=None)
            return done

        run()
    return dag


def _run(
    folder: Path, address: Address, artefacts: Path, *, after: Sequence[str], last_try: bool
) -> tuple[list[str], bool]:
    """Return what was published, and whether the run before had failed. Raises Failure.

    A try that failed and is made again leaves no word in the journal: it is not how the run ended.
    """
    project, database = build.Project(folder, _DBT, artefacts), build.Database(address.parameters)
    try:
        with _warehouse(address) as connection:
            build.expect_loaded(connection, after)
            build.clear(connection)
            loads = journal.loads(connection, after)
        manifest, run_results = build.build(project, database, say=log.info)
    except BuildError:
        if last_try:
            with _warehouse(address) as connection:
                journal.write_failure(connection)
        raise
    found = results.marts(manifest, run_results)
    for fault in dict.fromkeys(fault for mart in found for fault in mart.faults):
        log.error("%s, %s", fault, fault.message)
    sound = [mart.name for mart in found if not mart.faults]
    with _warehouse(address) as connection:
        if journal.loads(connection, after) != loads and not last_try:
            raise UnsoundError(
                "the warehouse: expected the same rows for all models, found that a pipeline"
                " published while they were built",
                "They are built again in a moment.",
                may_pass=True,
            )
        refused = publish(connection, sound)
        faults = [str(error) for error in refused.values()]
        faults += dict.fromkeys(str(fault) for mart in found for fault in mart.faults)
        may_pass = bool(refused) or results.may_pass(run_results)
        failed_before = False
        if last_try or not (faults and may_pass):
            failed_before = journal.write(connection, found, refused)
    if faults:
        kept = sorted({*refused, *(mart.name for mart in found if mart.faults)})
        more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise UnsoundError(
            f"marts {', '.join(kept)}: expected them to pass, found {'; '.join(faults[:_SHOWN])}"
            f"{more}",
            "Readers keep the former rows of these; mend the model, its test or the data.",
            may_pass=may_pass,
        )
    return sound, failed_before


def _document(folder: Path, address: Address, artefacts: Path) -> None:
    """Write the page of documentation, every morning and when somebody asks for a run.

    It takes as long as the models themselves, and loads change nothing in it.
    """
    try:
        project = build.Project(folder, _DBT, artefacts)
        log.info("documentation: %s", build.document(project, build.Database(address.parameters)))
    except BuildError as error:  # it never fails the data
        log.warning("%s", error)


@contextmanager
def _warehouse(address: Address) -> Iterator[Connection[Any]]:
    with warehouse(address, purpose="harmattan models") as connection:
        try:
            yield connection
        except psycopg.Error as error:
            raise from_postgres(error, side="warehouse", table=f"marts.{journal.TABLE}") from error


def _artefacts(ti: RuntimeTaskInstanceProtocol) -> Path:
    """Return the folder of this run's manifest, results, compiled SQL and page, beside its logs."""
    logs = Path(conf.get("logging", "base_log_folder"))
    return logs / f"dag_id={ti.dag_id}" / f"run_id={ti.run_id}" / "artefacts"


def _alert(
    ti: RuntimeTaskInstanceProtocol, status: str, alert: str | None, owner: str, **facts: Any
) -> None:
    if alert is None:
        return
    body = {
        "status": status,
        "models": ti.dag_id,
        "owner": owner,
        "run_id": ti.run_id,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "log_url": ti.log_url,
        **facts,
    }
    alerts.deliver(alert, connections.resolve, body)
