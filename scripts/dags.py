"""How Airflow, its DAGs and what the models published are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import requests

from backup.proof.report import human_age
from scripts.row import Row
from scripts.schedules import overdue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scripts.access import Access

MODELS = "models"  # the DAG of the template
PUBLISHED = timedelta(hours=26)  # as young as marts are: they are built every morning
QUEUED = timedelta(minutes=10)  # longer than the workers of a school need to be free
INGEST = "ingest_"  # what the id of a pipeline's DAG begins with
PAGE = 100  # DAGs an answer of Airflow's API; it gives no more


def airflow(platform: Access) -> list[Row]:
    """Return Airflow's own parts, by the body of an answer that is always 200, and its queue."""
    found = platform.airflow("monitor/health")
    rows = [
        Row(name, str(part["status"]), well=part["status"] == "healthy")
        for name, part in found.items()
    ]
    waiting = platform.airflow(
        "dags/~/dagRuns/~/taskInstances",
        params={"state": "queued", "limit": PAGE, "order_by": "run_after"},
    )
    queued = [each["queued_when"] for each in waiting["task_instances"] if each["queued_when"]]
    if queued:
        since = min(map(datetime.fromisoformat, queued))
        age = (datetime.now(UTC) - since).total_seconds()
        state = f"{waiting['total_entries']}, the first for {human_age(age)}"
        rows.append(Row("queued tasks", state, age < QUEUED.total_seconds(), {"age_seconds": age}))
    return rows


def pipelines(platform: Access) -> list[Row]:
    """Return each DAG with the state and the rows of its newest run."""
    rows = [_of_dag(platform, dag) for dag in _dags(platform)]
    errors = platform.airflow("importErrors", params={"limit": 100})["import_errors"]
    return rows + [Row(error["filename"], "does not import", well=False) for error in errors]


def _of_dag(platform: Access, dag: Mapping[str, Any]) -> Row:
    dag_id, schedule = dag["dag_id"], dag["timetable_summary"]
    if dag["is_paused"]:
        # What analysts pause of their own is theirs; a pipeline's tables grow old.
        return Row(dag_id, "paused", well=not dag_id.startswith(INGEST))
    newest = {"limit": 1, "order_by": "-run_after"}
    runs = platform.airflow(f"dags/{dag_id}/dagRuns", params=newest)["dag_runs"]
    if not runs:
        # One without a schedule runs when somebody wants it to.
        return Row(dag_id, "never ran", well=schedule is None)
    run, state = runs[0], runs[0]["state"]
    details = {"run": run["dag_run_id"], "ended": run["end_date"]}
    if late := overdue(schedule, run, datetime.now(UTC)):
        return Row(dag_id, late, well=False, details=details)
    if state == "success" and dag_id.startswith(INGEST):
        details |= _rows_loaded(platform, dag_id, run["dag_run_id"])
    return Row(dag_id, state, state in {"success", "running", "queued"}, details)


def marts(platform: Access) -> list[Row]:
    """Return how old what the dashboards show is: when the models last ran well.

    Failed models keep the marts that were there, so the newest run that ended well counts.
    """
    try:
        there = not platform.airflow(f"dags/{MODELS}")["is_stale"]
    except requests.HTTPError as error:
        if error.response.status_code != requests.codes.not_found:
            raise
        there = False
    if not there:
        return [Row(MODELS, "the analysts have none", well=True)]
    newest = {"state": "success", "limit": 1, "order_by": "-end_date"}
    runs = platform.airflow(f"dags/{MODELS}/dagRuns", params=newest)["dag_runs"]
    if not runs:
        return [Row(MODELS, "never published", well=False)]
    age = (datetime.now(UTC) - datetime.fromisoformat(runs[0]["end_date"])).total_seconds()
    well = age < PUBLISHED.total_seconds()
    return [Row(MODELS, f"published {human_age(age)} ago", well, {"age_seconds": age})]


def _dags(platform: Access) -> Iterator[dict[str, Any]]:
    seen = 0
    while True:
        page = {"limit": PAGE, "offset": seen, "order_by": "dag_id", "exclude_stale": True}
        found = platform.airflow("dags", params=page)
        yield from found["dags"]
        seen += len(found["dags"])
        if not found["dags"] or seen >= found["total_entries"]:
            return


def _rows_loaded(platform: Access, dag_id: str, run_id: str) -> dict[str, int]:
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/load/xcomEntries/return_value"
    try:
        value = platform.airflow(path, params={"deserialize": True})["value"]
    except requests.HTTPError as error:
        if error.response.status_code == requests.codes.not_found:
            return {}  # a run of an older release
        raise
    summary = value if isinstance(value, dict) else json.loads(value)
    counts = summary.get("counts") or {"rows": sum(map(int, summary["rows"].values()))}
    return {"rows": int(counts["rows"])}
