from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from frame.failure import Failure
from scripts import deploy, jobs
from scripts.cluster import connect
from scripts.health import health
from scripts.repository import ROOT
from tests.conftest import free_port

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

LOCAL = ROOT / "nomad/vars/local.hcl"


def test_jobs_are_run_once_each_and_what_others_wait_for_first() -> None:
    order = [each.id for each in jobs.platform()]
    assert len(order) == len(set(order))
    for first, then in (
        ("redis", "airflow-scheduler"),
        ("dag-mirror", "airflow-dag-processor-analysts"),
        ("airflow-migrate", "airflow-webserver"),
        ("airflow-webserver", "airflow-worker-ingest"),
    ):
        assert order.index(first) < order.index(then)
    assert not set(order) & {each.id for each in jobs.stand_ins()}


def test_all_that_is_in_the_registry_has_a_backup_job() -> None:
    backups = {each.id: each.variables for each in jobs.platform() if each.id.startswith("backup-")}
    paths = {
        "hr": "backup/databases/hr",
        "records": "backup/databases/records",
        "service_desk": "backup/databases/service_desk",
        "airflow": "backup/databases/airflow",
        "warehouse": "backup/databases/warehouse",
        "postgres_globals": "backup/servers/postgres",
        "nomad": None,
        "vault": None,
    }
    of_their_own = {"backup-coverage", "backup-monthly"}
    assert set(backups) == {f"backup-{name}" for name in paths} | of_their_own
    for name, path in paths.items():
        variables = backups[f"backup-{name}"]
        assert variables.get("database_path") == path
        assert name in (variables.get("database"), variables.get("snapshot"))


def test_an_unknown_job_is_told_with_those_that_are_there(
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = command("python", "-m", "scripts.deploy", f"--var-file={LOCAL}", "redis", "reddis")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "error: there is no job reddis\n" in done.stderr
    for each in jobs.platform():
        assert each.id in done.stderr
    assert "Traceback" not in done.stderr


def test_what_nomad_refuses_is_told_in_nomads_words() -> None:
    deployment = jobs.job("redis", redis_port="0")
    with pytest.raises(Failure, match="A port is a number from 1 to 65535") as caught:
        deploy.run(deployment, [LOCAL], {"NOMAD_ADDR": "http://127.0.0.1:1"})
    assert caught.value.message.startswith("Nomad refused redis:")
    assert "nomad/jobs/redis.nomad.hcl" in caught.value.hint
    # One file of variables serves all jobs: that it sets others too is no news.
    assert "was set but was not found in known variables" not in caught.value.message


def test_a_nomad_that_does_not_answer_is_one_clear_error(
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = command(
        "python", "-m", "scripts.deploy", f"--var-file={ROOT}/nomad/vars/production.hcl", "redis",
        NOMAD_ADDR=f"http://127.0.0.1:{free_port()}",
    )  # fmt: skip
    assert done.returncode == 1
    assert "connection refused" in done.stderr
    assert done.stderr.count("HINT:") == 1
    assert "Traceback" not in done.stderr


def test_a_file_of_variables_is_needed(
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = command("python", "-m", "scripts.deploy")
    assert done.returncode == 2
    assert "--var-file" in done.stderr


@pytest.fixture
def answers() -> Iterator[dict[str, Any]]:
    """What a server answers to each path of Nomad's API; ``client`` is the client of it."""
    found: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/v1/")
            body = json.dumps(found.get(path)).encode()
            self.send_response(200 if path in found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        found["client"] = connect(address, None)
        yield found
        server.shutdown()
        thread.join(5)


def allocation(name: str, *, wanted: str = "run", status: str = "running") -> dict[str, Any]:
    return {"ID": name, "JobVersion": 0, "DesiredStatus": wanted, "ClientStatus": status}


@pytest.mark.parametrize(
    ("allocations", "state", "well"),
    [
        ([], "0/1 healthy", False),
        ([allocation("a")], "1/1 healthy", True),
        ([allocation("a"), allocation("b")], "2/2 healthy", True),
        ([allocation("a"), allocation("b", status="pending")], "1/2 healthy", False),
        ([allocation("a"), allocation("b", wanted="stop", status="complete")], "1/1 healthy", True),
        ([allocation("a"), allocation("sick")], "1/2 healthy", False),
    ],
)
def test_a_system_job_is_well_when_each_of_its_nodes_is(
    answers: dict[str, Any], allocations: list[dict[str, Any]], state: str, well: object
) -> None:
    answers["job/logs"] = {
        "Stop": False, "Type": "system", "Version": 0, "TaskGroups": [{"Count": 1}]
    }  # fmt: skip
    answers["job/logs/allocations"] = allocations
    answers["job/logs/deployment"] = None
    for each in allocations:
        passes = "failure" if each["ID"] == "sick" else "success"
        answers[f"client/allocation/{each['ID']}/checks"] = {"check": {"Status": passes}}
    found = health(answers["client"], "logs")
    assert (found.state, found.well) == (state, well)


@pytest.mark.parametrize(
    ("launches", "failed", "well"),
    [
        ({}, {}, True),
        ({"sync/periodic-1": "running"}, {}, True),
        ({"sync/periodic-1": "dead"}, {"fetch": False, "judge": False}, True),
        ({"sync/periodic-1": "dead"}, {"fetch": True}, False),
        ({"sync/periodic-1": "dead"}, {"fetch": False, "judge": True}, True),
        ({"sync/periodic-9": "running", "sync/periodic-8": "dead"}, {"publish": True}, False),
    ],
)
def test_a_periodic_job_is_as_well_as_its_last_launch(
    answers: dict[str, Any], launches: dict[str, str], failed: dict[str, bool], well: object
) -> None:
    answers["job/sync"] = {"Stop": False, "Periodic": {"Specs": ["*/5 * * * *"]}}
    answers["jobs?prefix=sync%2Fperiodic-"] = [
        {"ID": name, "Status": status} for name, status in launches.items()
    ]
    for name in launches:
        states = {task: {"Failed": each} for task, each in failed.items()}
        answers[f"job/{name}/allocations"] = [{**allocation("a"), "TaskStates": states}]
    assert health(answers["client"], "sync").well is well


def test_a_deployment_does_not_wait_for_a_launch_that_failed(answers: dict[str, Any]) -> None:
    answers["job/drill"] = {"Stop": False, "Periodic": {"Specs": ["0 6 1 * *"]}}
    answers["jobs?prefix=drill%2Fperiodic-"] = [{"ID": "drill/periodic-1", "Status": "dead"}]
    states = {"drill": {"Failed": True}}
    answers["job/drill/periodic-1/allocations"] = [{**allocation("a"), "TaskStates": states}]
    assert not health(answers["client"], "drill").well
    deploy.wait(answers["client"], ["drill"], timeout=1)
