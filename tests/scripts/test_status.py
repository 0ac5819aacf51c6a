from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import requests
from rich.console import Console

from frame.failure import Failure, WrongUse
from frame.output import screen
from scripts import access, dags, delivered, status
from scripts.access import Access
from scripts.cluster import NomadError
from scripts.repository import ROOT
from scripts.row import Row
from scripts.status import Status
from tests.conftest import free_port
from tests.http_server import Answer, http_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.http_server import HttpServer

SECTIONS = [
    "vault",
    "jobs",
    "airflow",
    "pipelines",
    "marts",
    "delivery",
    "backups",
    "drill",
    "limits",
    "secrets",
]


def nowhere(tmp_path: Path) -> Access:
    """Return the access to a platform of which no part answers."""
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "b2.json").write_text('{"key_id": "id", "key": "key"}')
    return Access(
        {
            "NOMAD_ADDR": f"http://{address}",
            "NOMAD_TOKEN": "none",
            "VAULT_ADDR": f"http://{address}",
            "AIRFLOW_URL": f"http://{address}",
            "AIRFLOW_USERNAME": "admin",
            "AIRFLOW_PASSWORD": "a-password",
            "DAG_MIRROR_URL": f"git://{address}",
            "BACKUP_SECRETS_DIR": str(tmp_path),
            "BACKUP_B2_REALM": f"http://{address}",
            "BACKUP_BUCKET": "harmattan-test",
            "BACKUP_PREFIX": "test",
        },
    )


@pytest.fixture
def airflow() -> Iterator[HttpServer]:
    """Gives a token to whoever logs in."""
    with http_server(Answer(body={})) as served:
        served.answer(Answer(body={"access_token": "t"}), path="/auth/token")
        yield served


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"null", b'"x"', b"<html>", b"", b'{"scheduler": 1}']
)
@pytest.mark.parametrize("part", [dags.airflow, dags.pipelines, dags.marts])
def test_an_answer_that_makes_no_sense_is_a_row_and_no_exception(
    airflow: HttpServer, part: Callable[[Access], list[Row]], body: bytes, tmp_path: Path
) -> None:
    """A proxy, a half-started webserver, another version: `make status` tells what it sees."""
    airflow.answer(Answer(body=body))
    platform = Access({**nowhere(tmp_path).values, "AIRFLOW_URL": airflow.url})
    rows = status.ask(part, platform)
    assert not (rows and all(row.well for row in rows))


@pytest.mark.parametrize(
    ("body", "well"), [(b'{"sealed": false}', True), (b'{"sealed": true}', False)]
)
def test_a_sealed_vault_is_not_well(
    airflow: HttpServer, body: bytes, well: object, tmp_path: Path
) -> None:
    airflow.answer(Answer(body=body))
    platform = Access({**nowhere(tmp_path).values, "VAULT_ADDR": airflow.url})
    (row,) = status.vault(platform)
    assert row.well is well


def test_airflows_health_is_read_from_the_answers_body(airflow: HttpServer, tmp_path: Path) -> None:
    airflow.answer(
        Answer(
            body={
                "metadatabase": {"status": "healthy"},
                "scheduler": {"status": "unhealthy"},
                "triggerer": {"status": None},
            }
        ),
        path="/api/v2/monitor/health",
    )
    airflow.answer(Answer(body={"total_entries": 0, "task_instances": []}))
    platform = Access({**nowhere(tmp_path).values, "AIRFLOW_URL": airflow.url})
    assert dags.airflow(platform) == [
        Row("metadatabase", "healthy", well=True),
        Row("scheduler", "unhealthy", well=False),
        Row("triggerer", "None", well=False),
    ]


def paused(dag_id: str) -> dict[str, object]:
    return {"dag_id": dag_id, "is_paused": True, "timetable_summary": "0 2 * * *"}


def test_a_paused_pipeline_is_not_well_and_a_paused_dag_of_the_analysts_is(
    airflow: HttpServer, tmp_path: Path
) -> None:
    both = [paused("ingest_hr"), paused("report")]
    airflow.answer(Answer(body={"dags": both, "total_entries": 2, "import_errors": []}))
    platform = Access({**nowhere(tmp_path).values, "AIRFLOW_URL": airflow.url})
    assert dags.pipelines(platform) == [
        Row("ingest_hr", "paused", well=False),
        Row("report", "paused", well=True),
    ]


@pytest.mark.parametrize(("minutes", "well"), [(2, True), (12, False)])
def test_tasks_that_are_queued_for_long_are_not_well(
    airflow: HttpServer, tmp_path: Path, minutes: int, well: object
) -> None:
    since = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
    waiting = {"total_entries": 3, "task_instances": [{"queued_when": since}]}
    airflow.answer(Answer(body={}), path="/api/v2/monitor/health")
    path = "/api/v2/dags/~/dagRuns/~/taskInstances"
    airflow.answer(Answer(body=waiting), path=f"{path}?state=queued&limit=100&order_by=run_after")
    (row,) = dags.airflow(Access({**nowhere(tmp_path).values, "AIRFLOW_URL": airflow.url}))
    assert (row.state, row.well) == (f"3, the first for {minutes} min", well)


def test_every_page_that_a_red_line_names_is_there() -> None:
    for page in status.PAGES.values():
        file, _, anchor = page.partition("#")
        titles = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        assert anchor in anchors, page


@pytest.mark.parametrize(
    ("answer", "state", "well"),
    [
        (Answer(404), "the analysts have none", True),
        (Answer(body={"is_stale": True}), "the analysts have none", True),
        (Answer(body={"is_stale": False, "dag_runs": []}), "never published", False),
        (3, "published 3 h ago", True),
        (27, "published 27 h ago", False),
    ],
)
def test_marts_are_as_old_as_the_newest_run_that_published_them(
    airflow: HttpServer, tmp_path: Path, answer: Answer | int, state: str, well: object
) -> None:
    if isinstance(answer, int):
        ended = datetime.now(UTC) - timedelta(hours=answer)
        answer = Answer(body={"is_stale": False, "dag_runs": [{"end_date": ended.isoformat()}]})
    airflow.answer(answer)
    platform = Access({**nowhere(tmp_path).values, "AIRFLOW_URL": airflow.url})
    (row,) = dags.marts(platform)
    assert (row.name, row.state, row.well) == ("models", state, well)
    assert ("state=success" in airflow.requests[-1].path) == ("publish" in state)


def test_each_job_is_asked_for_in_its_namespace(airflow: HttpServer, tmp_path: Path) -> None:
    airflow.answer(Answer(404))
    nomad = {
        "NOMAD_ADDR": airflow.url,
        "NOMAD_NAMESPACE": "a",
        "NOMAD_RUNS_NAMESPACE": "a-runs",
    }
    rows = status.jobs(Access({**nowhere(tmp_path).values, **nomad}))
    assert {row.name: row.state for row in rows if row.name.startswith("ingest-")} == {
        "ingest-hr": "absent",
        "ingest-records": "absent",
        "ingest-service_desk": "absent",
    }
    for request in airflow.requests:
        launched = "/job/ingest-" in request.path or "/job/container-" in request.path
        asked = "a-runs" if launched else "a"
        assert request.path.endswith(f"namespace={asked}")


ERRORS = [
    requests.ConnectionError("refused"),
    requests.exceptions.JSONDecodeError("no JSON", "", 0),
    subprocess.TimeoutExpired(["git"], 20),
    FileNotFoundError("git"),
    KeyError("status"),
    ValueError("not a number"),
    TypeError("list indices must be integers"),
    Failure("there is no secret", "Run `make up` first."),
    NomadError(requests.Response()),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_of_a_part_is_its_row(error: Exception, tmp_path: Path) -> None:
    def jobs(_: Access) -> list[Row]:
        raise error

    (row,) = status.ask(jobs, nowhere(tmp_path))
    assert (row.name, row.well) == ("jobs", False)
    assert row.state.startswith("no answer: ")


def test_an_interrupt_is_not_taken_for_an_answer(tmp_path: Path) -> None:
    def jobs(_: Access) -> list[Row]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        status.ask(jobs, nowhere(tmp_path))


@pytest.mark.parametrize(
    ("sections", "well"),
    [
        ({"jobs": [Row("a", "running", well=True)]}, True),
        ({"jobs": [Row("a", "running", well=True), Row("b", "dead", well=False)]}, False),
        ({"jobs": [Row("a", "running", well=True)], "drill": []}, False),
        ({"jobs": [Row("a", "x", well=True)], "drill": [Row("b", "x", well=False)]}, False),
    ],
)
def test_all_is_well_when_every_row_is_and_no_section_is_empty(
    sections: dict[str, list[Row]], well: object
) -> None:
    assert Status(sections).well is well


def test_the_json_is_for_programs() -> None:
    found = Status({"backups": [Row("hr", "1.0 MB, 2 h old", well=True, details={"bytes": 1})]})
    assert json.loads(json.dumps(found.to_json())) == {
        "well": True,
        "backups": [
            {
                "name": "hr",
                "state": "1.0 MB, 2 h old",
                "well": True,
                "details": {"bytes": 1},
                "page": "",
            }
        ],
    }


def test_a_table_can_show_what_other_programs_say(capsys: pytest.CaptureFixture[str]) -> None:
    words = "no answer: [/opt/venv] HTTPConnectionPool(host='x') [Errno 111]"
    screen().print(status.picture(Status({"jobs": [Row("jobs", words, well=False)]})))
    shown = " ".join(capsys.readouterr().out.split())
    assert "[/opt/venv]" in shown
    assert "[Errno 111]" in shown


def shown_on(found: Status, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=80, height=height, legacy_windows=False)
    console.print(status.fitting(found, console))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_what_is_watched_fits_its_terminal_with_what_is_not_well_first() -> None:
    well = [Row(f"job-{number}", "1/1 healthy", well=True) for number in range(30)]
    red = Row("redis", "0/1 healthy" + " because of something" * 9, well=False, page="docs/x.md")
    found = Status({"vault": [Row("vault", "unsealed", well=True)], "jobs": [*well, red]})
    whole = shown_on(found, 100)
    assert [line for line in whole if "job-7" in line]
    lines = shown_on(found, 24)
    assert lines[0].startswith("✗ jobs: redis: 0/1 healthy because")
    assert [line.strip() for line in lines[1:]] == [
        "✓ vault: 1 of 1 are well", "✗ jobs: 30 of 31 are well"
    ]  # fmt: skip
    many = Status({"jobs": [replace(red, name=f"job-{number}") for number in range(40)]})
    lines = shown_on(many, 24)
    assert len(lines) == 24
    assert lines[0].startswith("✗ jobs: job-0: ")
    assert lines[-1].startswith("and 18 lines more")


def launch(minutes: float, group: str, status: str) -> dict[str, object]:
    submitted = (datetime.now(UTC) - timedelta(minutes=minutes)).timestamp() * 1e9
    return {
        "SubmitTime": int(submitted),
        "Status": status,
        "JobSummary": {"Summary": {"dag-sync": {"Complete": 0, "Failed": 0, group: 1}}},
    }


@pytest.mark.parametrize(
    ("launches", "state", "well"),
    [
        ([(7, "Complete", "dead"), (2, "Complete", "dead")], "last good sync 2 min ago", True),
        # One that failed or still runs is no good one, however new it is.
        ([(12, "Complete", "dead"), (2, "Failed", "dead")], "last good sync 12 min ago", False),
        ([(12, "Complete", "dead"), (1, "Complete", "running")], "12 min ago", False),
        ([(2, "Failed", "dead")], "no sync is known that ended well", False),
        ([], "no sync is known that ended well", False),
    ],
)
def test_the_last_good_sync_has_an_age(
    airflow: HttpServer,
    launches: list[tuple[float, str, str]],
    state: str,
    well: object,
    tmp_path: Path,
) -> None:
    airflow.answer(Answer(body=[launch(*each) for each in launches]))
    row, *bundles = delivered.delivery(
        Access({**nowhere(tmp_path).values, "NOMAD_ADDR": airflow.url})
    )
    assert row.state.endswith(state)
    assert row.well is well
    assert airflow.requests[0].path == "/v1/jobs?prefix=dag-sync%2Fperiodic-&namespace=default"
    assert [(each.name, each.well) for each in bundles] == [
        ("pipelines", False),
        ("analysts", False),
    ]


@pytest.mark.slow
def test_watching_looks_again_until_it_is_stopped(tmp_path: Path) -> None:
    """On a usual terminal, where all tables do not fit: every red row is there."""
    size = {"TERM": "xterm", "LINES": "24", "COLUMNS": "80"}
    environment = {"PATH": os.environ["PATH"], **size, **nowhere(tmp_path).values}
    (tmp_path / "b2.json").unlink()  # nobody waits for B2
    ours, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "scripts.status", "--watch"],
        cwd=ROOT, env=environment, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE,
        text=True,
    ) as watching:  # fmt: skip
        os.close(terminal)
        shown, deadline = b"", time.monotonic() + 60
        while shown.count(b"drill: 0 of 1") < 2 and time.monotonic() < deadline:
            if select.select([ours], [], [], 1)[0]:
                shown += os.read(ours, 1 << 16)
        watching.terminate()
        _, said = watching.communicate(timeout=30)
    os.close(ours)
    assert all(f"{name}: no answer: ".encode() in shown for name in SECTIONS), shown
    assert watching.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_platform_that_does_not_answer_is_told_part_by_part(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = command("python", "-m", "scripts.status", "--json", **nowhere(tmp_path).values)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["well", *SECTIONS]
    assert found["well"] is False
    for name in SECTIONS:
        assert found[name], name
        for row in found[name]:
            assert set(row) == {"name", "state", "well", "details", "page"}
            assert row["well"] is False
    for name in SECTIONS:
        (row,) = found[name]
        assert row["name"] == name
        assert row["state"].startswith("no answer: ")
    assert "a-password" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_environment_that_is_half_described_is_told_whole(
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = command("python", "-m", "scripts.status", NOMAD_ADDR="http://127.0.0.1:1")
    assert done.returncode == 2
    for name in set(access.NAMES) - {"NOMAD_ADDR"}:
        assert f"{name} (" in done.stderr
    assert "HINT:" in done.stderr


def test_a_machine_without_a_platform_says_so() -> None:
    with pytest.raises(WrongUse, match="no platform on this machine") as caught:
        access.from_environment()
    assert "make up" in caught.value.hint
