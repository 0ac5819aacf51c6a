from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from harmattan import health
from tests.airflow.harmattan.runs.cluster import until
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The columns that the query reads, as airflow/jobs/job.py of Airflow 3.3 declares them.
JOB = """
CREATE TABLE job (
  id serial PRIMARY KEY, job_type varchar(30), state varchar(20),
  latest_heartbeat timestamptz, hostname varchar(500))
"""


def status(port: int, path: str = "/health") -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@contextmanager
def running(
    sign: str, *command: str, code: str = "main()", scratch: Path | None = None
) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run the program as a job does; ``code`` is what starts it.

    Its folder for temporary files is ``scratch``, a file system of 4 MiB that it alone has.
    """
    port = free_port()
    mounted = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs -o size=4m none "$TMPDIR"; exec "$@"',
        "-",
    ]
    process = subprocess.Popen(
        [*(mounted if scratch else []), sys.executable, "-c",
         f"import sys; from harmattan.health import *\n{code}",
         str(port), sign, *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PATH": os.environ["PATH"], "HARMATTAN_NODE": "10.0.0.1"}
        | ({"TMPDIR": str(scratch)} if scratch else {}),
        start_new_session=True,
    )  # fmt: skip
    try:
        for _ in range(200):
            try:
                status(port)
                break
            except (urllib.error.URLError, ConnectionError):
                if process.poll() is not None:
                    break
                time.sleep(0.05)
        yield port, process
    finally:
        # Its command too, which is of the same group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)


def test_a_file_touched_just_now_is_a_sign_of_life(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    assert health.file_is_fresh(path) is False
    path.touch()
    assert health.file_is_fresh(path) is True
    then = time.time() - health.FRESH - 1
    os.utime(path, (then, then))
    assert health.file_is_fresh(path) is False


def test_a_missed_beat_or_two_are_no_fault(tmp_path: Path) -> None:
    from harmattan.worker import INTERVAL

    path = tmp_path / "heartbeat"
    path.touch()
    then = time.time() - 2 * INTERVAL - 1
    os.utime(path, (then, then))
    assert health.file_is_fresh(path) is True


@pytest.fixture
def uri_file(database: str, tmp_path: Path) -> Path:
    """The file that names the database, as Airflow spells it."""
    path = tmp_path / "database_uri"
    path.write_text(database.replace("postgresql:", "postgresql+psycopg2:"))
    return path


@pytest.fixture
def jobs(database: str, monkeypatch: pytest.MonkeyPatch) -> psycopg.Connection:
    """Airflow's table of jobs."""
    monkeypatch.setenv("HARMATTAN_NODE", "10.0.0.1")
    connection = psycopg.connect(database, autocommit=True)
    connection.execute(JOB)
    return connection


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (("TriggererJob", "running", "10.0.0.1", 5), True),
        (("TriggererJob", "running", "10.0.0.1", 25), True),
        (("TriggererJob", "running", "10.0.0.1", 31), False),
        (("TriggererJob", "failed", "10.0.0.1", 5), False),
        (("TriggererJob", "running", "10.0.0.2", 5), False),
        (("SchedulerJob", "running", "10.0.0.1", 5), False),
        (("TriggererJob", "running", "10.0.0.1", None), False),
    ],
)
def test_a_row_of_this_kind_on_this_host_that_still_beats(
    jobs: psycopg.Connection,
    uri_file: Path,
    row: tuple[str, str, str, int | None],
    expected: object,
) -> None:
    with jobs:
        jobs.execute(
            "INSERT INTO job (job_type, state, hostname, latest_heartbeat)"
            " VALUES (%s, %s, %s, now() - %s * interval '1 second')",
            row,
        )
    assert health.job_is_fresh("TriggererJob", uri_file) is expected


def test_an_old_row_beside_a_fresh_one_does_not_matter(
    jobs: psycopg.Connection, uri_file: Path
) -> None:
    """Each start writes a row more, and those of killed processes stay 'running'."""
    with jobs:
        for age in (100, 5, 5000):
            jobs.execute(
                "INSERT INTO job (job_type, state, hostname, latest_heartbeat) VALUES"
                " ('TriggererJob', 'running', '10.0.0.1', now() - %s * interval '1 second')",
                (age,),
            )
    assert health.job_is_fresh("TriggererJob", uri_file) is True


def test_http_says_200_while_the_sign_is_fresh_and_503_when_not(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    with running(f"file:{path}", "sleep", "60") as (port, _):
        assert status(port) == 503
        path.touch()
        assert status(port) == 200
        assert status(port, "/") == 404
        assert status(port, "/health/more") == 404
        os.utime(path, (1, 1))
        assert status(port) == 503


@pytest.mark.programs
def test_a_full_folder_for_temporary_files_is_503_until_there_is_room(tmp_path: Path) -> None:
    beat, scratch, remove = tmp_path / "heartbeat", tmp_path / "scratch", tmp_path / "remove"
    scratch.mkdir()
    beat.touch()
    filled = (
        f"head -c 4M /dev/zero > {scratch}/left; touch {tmp_path}/filled;"
        f" until [ -e {remove} ]; do sleep 0.02; done; rm {scratch}/left {remove}; sleep 60"
    )
    with running(f"file:{beat}", "sh", "-c", filled, scratch=scratch) as (port, _):
        assert until((tmp_path / "filled").exists)
        assert status(port) == 503
        remove.touch()
        assert until(lambda: not remove.exists())
        assert status(port) == 200


def test_a_database_that_does_not_answer_is_503_and_its_password_nowhere(tmp_path: Path) -> None:
    uri = tmp_path / "database_uri"
    uri.write_text(f"postgresql+psycopg2://airflow:a-password@127.0.0.1:{free_port()}/airflow")
    with running(f"job:TriggererJob:{uri}", "sleep", "60") as (port, process):
        assert status(port) == 503
        process.terminate()
        output, errors = process.communicate(timeout=10)
    assert "OperationalError" in errors
    assert "a-password" not in output + errors


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_commands_exit_code_is_its_own(code: int) -> None:
    with running("file:/none", "sh", "-c", f"exit {code}") as (_, process):
        assert process.wait(20) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_the_end_waited_for(number: signal.Signals) -> None:
    """Celery's warm shutdown: its answer to SIGTERM takes as long as its tasks."""
    name = number.name.removeprefix("SIG")
    script = (
        f"trap 'sleep 0.5; echo finished; exit 7' {name}; echo up; while :; do sleep 0.05; done"
    )
    with running("file:/none", "sh", "-c", script) as (_, process):
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.wait(20) == 7
        assert process.stdout.read() == "finished\n"


def test_a_command_that_a_signal_ended_did_not_end_well() -> None:
    with running("file:/none", "sh", "-c", "kill -KILL $$") as (_, process):
        assert process.wait(20) == 128 + signal.SIGKILL
