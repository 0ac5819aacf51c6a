"""The first ingest: what is in the warehouse is what is in the sources, and who did it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from scripts.health.observing import health
from scripts.local import databases
from standins.school.mutate import mutate
from tests.e2e.contents import contents
from tests.e2e.rounds import ended, task_log, trigger, wait_until

if TYPE_CHECKING:
    from scripts.access import Access

REPORT = "school_report"


@pytest.fixture(scope="module")
def runs(platform: Access) -> dict[str, str]:
    """Runs of every pipeline, after a school day, and of the report, as paths of the REST API."""
    for source in databases.SOURCES:
        with psycopg.connect(databases.owner(source).uri, connect_timeout=10) as connection:
            mutate(connection, source, 1)
    pipelines = {f"ingest_{source}": "" for source in databases.SOURCES}
    started = {dag_id: trigger(platform, dag_id) for dag_id in pipelines}
    for run in started.values():
        assert ended(platform, run) == "success", run
    started[REPORT] = trigger(platform, REPORT)
    assert ended(platform, started[REPORT]) == "success"
    return started


@pytest.mark.parametrize("source", databases.SOURCES)
def test_the_warehouse_holds_what_the_source_holds(
    platform: Access, runs: dict[str, str], source: str
) -> None:
    there = contents(source, "public")
    assert sum(rows for rows, _ in there.values()) > 1000
    assert contents("warehouse", f"raw_{source}") == there

    path = f"{runs[f'ingest_{source}']}/taskInstances/load/xcomEntries/return_value"
    told = platform.airflow(path, params={"deserialize": True})["value"]
    loaded = {name.removeprefix(f"raw_{source}."): rows for name, rows in told["rows"].items()}
    assert loaded == {name: rows for name, (rows, _) in there.items()}


def test_the_warehouse_tells_how_each_table_was_loaded(
    platform: Access, runs: dict[str, str]
) -> None:
    run_id = runs["ingest_records"].rpartition("/")[2]
    with psycopg.connect(databases.superuser("warehouse"), connect_timeout=10) as connection:
        tables = connection.execute(
            'SELECT "table", load, status, rows_read < rows FROM ops.tables'
            " WHERE (pipeline, run_id) = ('records', %s) AND load <> 'full' ORDER BY 1",
            [run_id],
        ).fetchall()
        checks = connection.execute(
            "SELECT bool_and(passed), count(*) > 0 FROM ops.checks WHERE run_id = %s", [run_id]
        ).fetchall()
        ended_well = connection.execute(
            "SELECT status FROM ops.runs WHERE (pipeline, run_id) = ('records', %s)", [run_id]
        ).fetchall()
    assert tables == [
        ("raw_records.enrolments", "incremental", "published", True),
        ("raw_records.results", "incremental", "published", True),
    ]
    assert checks == [(True, True)]
    assert ended_well == [("success",)]


def test_the_report_is_built_from_the_warehouse(runs: dict[str, str]) -> None:
    assert runs[REPORT]
    with psycopg.connect(databases.superuser("warehouse"), connect_timeout=10) as connection:
        found = connection.execute("SELECT sum(tickets) FROM marts.open_tickets_by_kind").fetchone()
    with psycopg.connect(databases.superuser("service_desk"), connect_timeout=10) as connection:
        open_now = connection.execute(
            "SELECT count(*) FROM tickets WHERE status NOT IN ('resolved', 'closed')"
        ).fetchone()
    assert found == open_now


def test_a_pipeline_is_one_task_that_no_worker_runs(platform: Access, runs: dict[str, str]) -> None:
    for source in databases.SOURCES:
        (task,) = platform.airflow(f"{runs[f'ingest_{source}']}/taskInstances")["task_instances"]
        assert (task["task_id"], task["state"], task["try_number"]) == ("load", "success", 1)
        said = task_log(platform, runs[f"ingest_{source}"], "load")
        for table in contents(source, "public"):
            for verb in ("staged", "audited", "published"):
                assert f"{verb} raw_{source}.{table}: " in said
        assert f"ingest-{source}/dispatch-" in said
        assert "DAG bundles loaded" not in said, "that is what a worker says"


def test_a_published_table_is_an_asset_with_its_rows_and_run(
    platform: Access, runs: dict[str, str]
) -> None:
    run_id = runs["ingest_records"].rpartition("/")[2]
    assets = platform.airflow("assets", params={"name_pattern": "raw_records.results"})["assets"]
    (asset,) = [each for each in assets if each["name"] == "raw_records.results"]
    events = platform.airflow(
        "assets/events", params={"asset_id": asset["id"], "source_run_id": run_id}
    )["asset_events"]
    rows, _ = contents("records", "public")["results"]
    assert [event["extra"]["rows"] for event in events] == [rows]
    assert events[0]["extra"]["run_id"] == run_id


def test_whoever_triggers_a_run_says_which_tables(platform: Access, runs: dict[str, str]) -> None:
    asked = {"tables": ["public.tickets"], "full_refresh": True}
    run = trigger(platform, "ingest_service_desk", **asked)
    assert ended(platform, run) == "success"
    path = f"{run}/taskInstances/load/xcomEntries/return_value"
    told = platform.airflow(path, params={"deserialize": True})["value"]
    assert list(told["rows"]) == ["raw_service_desk.tickets"]
    assert "full refresh asked for" in task_log(platform, run, "load")


def test_a_task_log_is_shown_also_when_its_worker_is_gone(
    platform: Access, runs: dict[str, str]
) -> None:
    task = "open_tickets_by_kind"
    before = task_log(platform, runs[REPORT], task)
    assert "DAG bundles loaded: analysts" in before
    assert "Could not read" not in before

    job = "airflow-worker-analysts"
    running = [
        each["ID"]
        for each in platform.nomad.job.get_allocations(job)
        if each["ClientStatus"] == "running"
    ]
    for allocation in running:
        platform.nomad.allocation.stop_allocation(allocation)

    def replaced() -> bool:
        states = {
            each["ID"]: each["ClientStatus"] for each in platform.nomad.job.get_allocations(job)
        }
        gone = all(states.get(each) != "running" for each in running)
        return gone and health(platform.nomad, job).well

    wait_until(replaced, f"{job} in a new allocation", 240)
    assert task_log(platform, runs[REPORT], task) == before
