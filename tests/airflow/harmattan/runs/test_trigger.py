"""Tasks that run at a real Nomad, by Airflow's own scheduler and triggerer, without a worker."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from harmattan.runs.trigger import NomadJobTrigger, Try
from tests.airflow.harmattan.runs.cluster import JOB, until
from tests.airflow.harmattan.runs.test_client import work
from tests.airflow.harmattan.runs.test_operator import connection
from tests.airflow.harmattan.runs.world import new_token

if TYPE_CHECKING:
    from harmattan.runs.client import Nomad
    from tests.airflow.harmattan.runs.world import World

SUMMARY = {"rows": {"staff": 3}, "assets": {"raw.staff": {"rows": 3, "run": "x"}}}
PARTLY = {"assets": {"raw.pay": {"rows": 1}}, "failed": {"staff": "its checks"}}
ENDS = "echo line 1; sleep 4; echo line 2; echo '{\"a\": 1}'"
LONG = "echo line 1; sleep 300"
# What begins at once: a name, its DAG and its script.
SCRIPTS = {
    "good": ("once", f"echo line 1; echo line 2 >&2; printf 'line 3\\n%s' '{json.dumps(SUMMARY)}'"),
    "wrong use": ("twice", "echo line; exit 2"),
    "lasting": ("twice", "echo line; exit 1"),
    "passing": ("twice", "echo line; exit 75"),
    "killed": ("twice", "echo line; kill -9 $$"),
    "partly": ("twice", f"echo '{json.dumps(PARTLY)}'; exit 1"),
    "no such job": ("unknown", "true"),
    "live": ("once", "for i in $(seq 12); do echo line $i; sleep 1; done"),
    "overdue": ("short", LONG),
    "marked": ("once", LONG),
    "cleared": ("once", LONG),
    "stopped in Nomad": ("twice", LONG),
    "burst": ("once", "seq -f 'line %g of a run that ends at once' 1000"),
}


def printed(airflow: World, run_id: str) -> list[str]:
    """Return what the job's task wrote, by the task's log."""
    return [event["event"] for event in airflow.lines(run_id) if event["event"].startswith("line")]


def returned(airflow: World, run_id: str) -> Any:
    """Return the task's own XCom, as JSON of the database."""
    query = "SELECT value FROM xcom WHERE run_id = %s AND key = 'return_value'"
    return [value for (value,) in airflow.rows(query, run_id)]


def changed(airflow: World, run_id: str) -> list[tuple[Any, ...]]:
    """Return the assets that the run changed, with what is said of them."""
    return airflow.rows(
        "SELECT name, asset_event.extra FROM asset_event JOIN asset ON asset.id = asset_id"
        " WHERE source_run_id = %s ORDER BY name", run_id,
    )  # fmt: skip


def running(airflow: World, run_id: str, number: int = 1) -> str:
    """Return the task's run at Nomad of that number, when it has written something."""
    until(lambda: len(airflow.children(run_id)) >= number)
    until(lambda: len(printed(airflow, run_id)) >= number)
    return str(airflow.children(run_id)[number - 1]["ID"])


def stopped(airflow: World, child: str) -> bool:
    """Return whether a run was stopped, and has ended."""
    answer = airflow.cluster.api("GET", f"job/{child}", namespace="runs").json()
    return answer["Status"] == "dead" and bool(answer["Stop"])


@pytest.fixture(scope="module")
def runs(airflow: World) -> dict[str, str]:
    """The ids of runs of SCRIPTS, which have ended."""
    ids = {name: airflow.run(dag_id, script) for name, (dag_id, script) in SCRIPTS.items()}
    running(airflow, ids["marked"])
    airflow.ask("fail", ids["marked"])
    running(airflow, ids["cleared"])
    airflow.ask("clear", ids["cleared"])
    child = running(airflow, ids["stopped in Nomad"])
    airflow.cluster.api("DELETE", f"job/{child}", namespace="runs").raise_for_status()
    running(airflow, ids["cleared"], 2)
    airflow.ask("fail", ids["cleared"])
    for run_id in ids.values():
        airflow.ended(run_id)
    return ids


def test_a_task_is_its_run_at_nomad(airflow: World, runs: dict[str, str]) -> None:
    """Its lines are the task's log, its summary the task's XCom."""
    assert airflow.state(runs["good"]) == ("success", 1)
    assert sorted(printed(airflow, runs["good"])) == ["line 1", "line 2", "line 3"]
    assert returned(airflow, runs["good"]) == [SUMMARY]
    assert len(airflow.children(runs["good"])) == 1


def test_no_worker_is_started(airflow: World, runs: dict[str, str]) -> None:
    pids = airflow.rows("SELECT DISTINCT pid FROM task_instance WHERE task_id = 'run'")
    assert pids == [(None,)]
    callbacks = airflow.rows("SELECT count(*) FROM callback")
    assert callbacks == [(0,)], "the DAG processor would parse a file for nothing"


def test_the_assets_that_changed_have_events_and_start_dags(
    airflow: World, runs: dict[str, str]
) -> None:
    assert changed(airflow, runs["good"]) == [("raw.staff", {"rows": 3, "run": "x"})]
    # A job that names none has changed all of its task's.
    assert changed(airflow, runs["live"]) == [("raw.pay", {}), ("raw.staff", {})]
    query = "SELECT 1 FROM dag_run WHERE dag_id = 'after' AND state = 'success'"
    until(lambda: airflow.rows(query))


def test_the_assets_that_changed_have_events_though_others_failed(
    airflow: World, runs: dict[str, str]
) -> None:
    assert airflow.state(runs["partly"]) == ("failed", 1)
    assert changed(airflow, runs["partly"]) == [("raw.pay", {"rows": 1})]
    assert returned(airflow, runs["partly"]) == []


@pytest.mark.parametrize(
    ("name", "tries", "said"),
    [
        ("wrong use", 1, "was used wrongly (exit code 2)"),
        ("lasting", 1, "failed for good (exit code 1)"),
        ("passing", 2, "failed, and asks for another try (exit code 75)"),
        ("killed", 2, "was killed"),
        ("stopped in Nomad", 1, "was stopped in Nomad"),
    ],
)
def test_only_what_may_pass_is_tried_again(
    airflow: World, runs: dict[str, str], name: str, tries: int, said: str
) -> None:
    assert airflow.state(runs[name]) == ("failed", tries)
    assert len(airflow.children(runs[name])) == tries
    assert any(said in event["event"] for event in airflow.lines(runs[name]))


def test_a_run_knows_how_often_it_is_tried_again(airflow: World, runs: dict[str, str]) -> None:
    """Its templates mean in a triggerer what they mean in a worker."""
    first, second = (each["Meta"] for each in airflow.children(runs["passing"]))
    assert (first["tries_left"], second["tries_left"]) == ("1", "0")
    assert first["run_id"] == second["run_id"] == runs["passing"]
    assert second["log_url"].startswith("http") and "try_number=2" in second["log_url"]


def test_a_job_that_is_not_there_fails_at_once(airflow: World, runs: dict[str, str]) -> None:
    assert airflow.state(runs["no such job"]) == ("failed", 1)
    said = "job nowhere: expected it in Nomad's namespace runs, found none\nHINT: "
    assert any(e["event"].startswith(said) for e in airflow.lines(runs["no such job"]))


def test_lines_come_in_order_and_while_the_run_goes_on(
    airflow: World, runs: dict[str, str]
) -> None:
    events = [each for each in airflow.lines(runs["live"]) if each["event"].startswith("line")]
    assert [each["event"] for each in events] == [f"line {number}" for number in range(1, 13)]
    times = [datetime.fromisoformat(each["timestamp"]) for each in events]
    assert (times[-1] - times[0]).total_seconds() > 2


def test_no_line_is_lost_when_a_run_ends_at_once(airflow: World, runs: dict[str, str]) -> None:
    wanted = [f"line {number} of a run that ends at once" for number in range(1, 1001)]
    assert printed(airflow, runs["burst"]) == wanted


def test_marking_a_task_stops_its_run(airflow: World, runs: dict[str, str]) -> None:
    (child,) = airflow.children(runs["marked"])
    assert stopped(airflow, child["ID"])


def test_clearing_a_task_stops_its_run_and_makes_another(
    airflow: World, runs: dict[str, str]
) -> None:
    first, second = airflow.children(runs["cleared"])
    assert stopped(airflow, first["ID"])
    until(lambda: stopped(airflow, second["ID"]))


def test_a_try_that_is_stopped_leaves_the_next_ones_run_alone(
    airflow: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow may stop the one while the other has begun: both look for the task's runs."""
    monkeypatch.setenv("AIRFLOW_CONN_NOMAD_RUNS", connection(airflow.cluster))
    tries = [Try("dag", "run", "task", -1, number, f"id {number}") for number in (1, 2)]

    async def begin(nomad: Nomad) -> list[str]:
        meta = {"script": "sleep 60", "name": "none of Airflow's"}
        return [(await nomad.dispatch(JOB, meta, key=t.key, prefix=t.prefix))[0] for t in tries]

    ours, next_ones = work(airflow.cluster, begin)
    asyncio.run(NomadJobTrigger(JOB, {}, "nomad_runs", asdict(tries[0])).on_kill())
    assert stopped(airflow, ours)
    assert not stopped(airflow, next_ones)
    asyncio.run(NomadJobTrigger(JOB, {}, "nomad_runs", asdict(tries[1])).on_kill())
    assert stopped(airflow, next_ones)


def test_a_task_whose_time_is_over_stops_its_run(airflow: World, runs: dict[str, str]) -> None:
    assert airflow.state(runs["overdue"]) == ("failed", 1)
    (child,) = airflow.children(runs["overdue"])
    assert stopped(airflow, child["ID"])
    said = "expected it to end before the task's time was over"
    assert any(said in each["event"] for each in airflow.lines(runs["overdue"]))


@pytest.fixture(scope="module")
def survivors(airflow: World, runs: dict[str, str], tmp_path_factory: Any) -> dict[str, str]:
    """Runs that lost their triggerer, and one that lost a leader, its Nomad and its token, too."""
    enough = tmp_path_factory.mktemp("enough") / "file"
    count = f"until [ -e {enough} ]; do i=$((i+1)); echo line $i; sleep 0.5; done; echo line last"
    ids = {
        "goes on": airflow.run("twice", count),
        "ends meanwhile": airflow.run("twice", ENDS),
        "is cleared meanwhile": airflow.run("once", LONG),
    }
    for run_id in ids.values():
        running(airflow, run_id)
    until(lambda: len(printed(airflow, ids["goes on"])) >= 5)
    airflow.kill("triggerer")
    airflow.ask("clear", ids["is cleared meanwhile"])
    assert airflow.children(ids["is cleared meanwhile"])[0]["Status"] == "running"
    until(lambda: airflow.children(ids["ends meanwhile"])[0]["Status"] == "dead")
    airflow.start_triggerer()
    running(airflow, ids["is cleared meanwhile"], 2)
    airflow.ask("fail", ids["is cleared meanwhile"])
    for lose in (airflow.cluster.servers.kill_leader, airflow.cluster.servers.restart):
        lose()
        before = len(printed(airflow, ids["goes on"]))
        until(lambda before=before: len(printed(airflow, ids["goes on"])) > before + 2)
    renew(airflow)
    before = len(printed(airflow, ids["goes on"]))
    until(lambda: len(printed(airflow, ids["goes on"])) > before + 2)
    enough.touch()
    for run_id in ids.values():
        airflow.ended(run_id)
    return ids


def renew(airflow: World) -> None:
    """Give the triggerer another token, and end the one that it has."""
    asked = airflow.cluster.api
    own = asked("GET", "acl/token/self", token=airflow.token_file.read_text()).json()
    airflow.token_file.write_text(new_token(airflow.cluster))
    asked("DELETE", f"acl/token/{own['AccessorID']}").raise_for_status()


def test_a_lost_triggerer_leader_nomad_or_token_makes_no_second_run_and_loses_no_line(
    airflow: World, survivors: dict[str, str]
) -> None:
    run_id = survivors["goes on"]
    assert airflow.state(run_id) == ("success", 1)
    assert len(airflow.children(run_id)) == 1
    lines = printed(airflow, run_id)
    once = sorted(set(lines), key=lines.index)
    assert once == [*(f"line {number}" for number in range(1, len(once))), "line last"]
    # What was shown and not yet noted when the triggerer was killed: one look's lines.
    assert len(lines) - len(once) <= 4


def test_a_run_that_ended_while_no_triggerer_was_there_is_found(
    airflow: World, survivors: dict[str, str]
) -> None:
    run_id = survivors["ends meanwhile"]
    assert airflow.state(run_id) == ("success", 1)
    assert len(airflow.children(run_id)) == 1
    assert returned(airflow, run_id) == [{"a": 1}]
    # What was shown and not yet noted when the triggerer was killed is shown twice.
    assert list(dict.fromkeys(printed(airflow, run_id))) == ["line 1", "line 2"]


def test_a_task_cleared_while_no_triggerer_was_there_has_one_run(
    airflow: World, survivors: dict[str, str]
) -> None:
    """The earlier try's run is stopped before the next begins."""
    first, second = airflow.children(survivors["is cleared meanwhile"])
    assert stopped(airflow, first["ID"])
    ends = [
        airflow.cluster.api("GET", f"job/{each['ID']}/allocations", namespace="runs").json()[0]
        for each in (first, second)
    ]
    assert ends[0]["TaskStates"]["main"]["FinishedAt"] < ends[1]["TaskStates"]["main"]["StartedAt"]


def test_no_token_is_in_a_log_or_the_metadata_database(
    airflow: World, survivors: dict[str, str]
) -> None:
    tokens = airflow.cluster.token, airflow.token_file.read_text()
    tables = airflow.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [row for (t,) in tables for (row,) in airflow.rows(f'SELECT t::text FROM "{t}" t')]
    assert rows
    logs = [log.read_text() for log in airflow.home.rglob("*.log")]
    assert logs
    assert not [text for text in rows + logs for token in tokens if token in text]
