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

    path = f"{runs[f'ingest_{source}']}/taskInstances/{source}.finish/xcomEntries/return_value"
    told = platform.airflow(path, params={"deserialize": True})["value"]
    loaded = {name.removeprefix(f"raw_{source}."): rows for name, rows in told.items()}
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
    pools = platform.airflow("pools")["pools"]
    assert {pool["name"]: pool["slots"] for pool in pools}.items() >= {
        "source_hr": 2, "source_records": 2, "source_service_desk": 2
    }.items()  # fmt: skip


def test_the_report_is_built_from_the_warehouse(runs: dict[str, str]) -> None:
    assert runs[REPORT]
    with psycopg.connect(databases.superuser("warehouse"), connect_timeout=10) as connection:
        found = connection.execute("SELECT sum(tickets) FROM marts.open_tickets_by_kind").fetchone()
    with psycopg.connect(databases.superuser("service_desk"), connect_timeout=10) as connection:
        open_now = connection.execute(
            "SELECT count(*) FROM tickets WHERE status NOT IN ('resolved', 'closed')"
        ).fetchone()
    assert found == open_now


def test_each_bundle_has_its_queue(platform: Access, runs: dict[str, str]) -> None:
    queues = {
        dag_id: {
            task["queue"] for task in platform.airflow(f"{run}/taskInstances")["task_instances"]
        }
        for dag_id, run in runs.items()
    }
    assert queues == {
        "ingest_hr": {"ingest"},
        "ingest_records": {"ingest"},
        "ingest_service_desk": {"ingest"},
        REPORT: {"analysts"},
    }


@pytest.mark.parametrize(
    ("queue", "dag_id", "task"),
    [("ingest", "ingest_hr", "hr.extract"), ("analysts", REPORT, "open_tickets_by_kind")],
)
def test_a_task_log_is_shown_also_when_its_worker_is_gone(
    platform: Access, runs: dict[str, str], queue: str, dag_id: str, task: str
) -> None:
    before = task_log(platform, runs[dag_id], task)
    assert f"DAG bundles loaded: {'pipelines' if queue == 'ingest' else 'analysts'}" in before
    assert "Could not read" not in before

    job = f"airflow-worker-{queue}"
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
    assert task_log(platform, runs[dag_id], task) == before
