"""The log server serves what it opened, and follows no link of a stranger's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from scripts.repository import ROOT
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "the-key-of-task-logs-0123456789"
LOG = "dag_id=d/run_id=r/task_id=t/attempt=1.log"
ENDED = "dag_id=d/run_id=r/task_id=t/attempt=2.log"
# Signs as the web server does (airflow/utils/log/file_task_handler.py).
SIGN = """
import json, sys
from airflow.api_fastapi.auth.tokens import JWTGenerator, get_signing_key
signer = JWTGenerator(secret_key=get_signing_key("api", "secret_key"), valid_for=60,
                      audience="task-instance-logs")
print(json.dumps({name: signer.generate({"filename": name}) for name in json.loads(sys.argv[1])}))
"""
NAMES = [
    LOG,
    f"{ENDED}.trigger.7.log",
    ENDED,
    "outside",
    "folder/secret",
    "pipe",
    "both.log",
    "not/there",
]
NAMES += ["../outside"]


class Server:
    def __init__(self, port: int, tasks: Path, triggers: Path, tokens: dict[str, str]) -> None:
        self.port, self.tasks, self.triggers, self.tokens = port, tasks, triggers, tokens

    def get(self, name: str) -> tuple[int, str]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/log/{name}", headers={"Authorization": self.tokens[name]}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, ""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, airflow_program: Any) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("logs")
    tasks, triggers, port = place / "tasks", place / "triggers", free_port()
    environment = {
        "AIRFLOW__API__SECRET_KEY": KEY,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tasks),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(port),
    }
    signed = airflow_program(SIGN, json.dumps(NAMES), **environment)
    assert signed.returncode == 0, signed.stderr
    for folder in (tasks, triggers):
        folder.mkdir(exist_ok=True)  # Airflow made its own
    (place / "secret").write_text(KEY)
    process = subprocess.Popen(
        [sys.executable, "-m", "harmattan.log_server", str(triggers)],
        cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(place), "AIRFLOW_HOME": str(place),
             "PYTHONPATH": f"{ROOT}/airflow:{ROOT}", **environment},
    )  # fmt: skip
    found = Server(port, tasks, triggers, json.loads(signed.stdout.splitlines()[-1]))
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                found.get("not/there")
                break
            except OSError:
                time.sleep(0.2)
        yield found
    finally:
        process.kill()
        process.wait(10)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_logs_of_tasks_and_of_triggers_are_served(server: Server) -> None:
    write(server.tasks / LOG, "of the task\n" * 1000)
    assert server.get(LOG) == (200, "of the task\n" * 1000)
    write(server.triggers / f"{ENDED}.trigger.7.log", "of the trigger\n")
    assert server.get(f"{ENDED}.trigger.7.log") == (200, "of the trigger\n")
    (server.triggers / f"{ENDED}.trigger.7.log").unlink()
    assert server.get("not/there")[0] == 404


def test_a_task_that_ended_shows_what_its_triggers_wrote(server: Server) -> None:
    """The web server asks for one file then, whichever process wrote it."""
    write(server.triggers / f"{ENDED}.trigger.9.log", "first\n")
    assert server.get(ENDED) == (200, "first\n")
    write(server.triggers / f"{ENDED}.trigger.10.log", "second\n")
    write(server.tasks / ENDED, "of the worker\n")
    assert server.get(ENDED) == (200, "of the worker\nfirst\nsecond\n")


def test_what_a_triggerer_wrote_comes_before_what_a_task_put_in_its_place(server: Server) -> None:
    write(server.tasks / "both.log", "forged")
    write(server.triggers / "both.log", "true")
    assert server.get("both.log") == (200, "true")


def test_without_its_signature_nothing_is_served(server: Server) -> None:
    write(server.tasks / LOG, "of the task\n")
    server.tokens["unsigned"] = server.tokens[LOG]
    write(server.tasks / "unsigned", "of another")
    assert server.get("unsigned")[0] == 403


def test_no_link_is_followed_and_no_pipe_waited_for(server: Server) -> None:
    secret = server.tasks.parent / "secret"
    (server.tasks / "outside").symlink_to(secret)
    (server.tasks / "folder").symlink_to(secret.parent)
    os.mkfifo(server.tasks / "pipe")
    for name in ("outside", "folder/secret", "pipe", "../outside"):
        assert server.get(name) == (404, ""), name


def test_a_link_that_comes_after_the_look_is_not_followed(
    tmp_path: Path, airflow_program: Any
) -> None:
    """What is served is what was looked at."""
    code = """
import os, sys
from pathlib import Path
from harmattan.log_server import LinklessFiles
tasks = Path(sys.argv[1])
LinklessFiles.triggers = str(tasks / "triggers")
served = LinklessFiles(directory=str(tasks))
path, state = served.lookup_path("a.log")
(tasks / "a.log").unlink()
(tasks / "a.log").symlink_to(tasks / "secret")
print(Path(path).read_text())
response = served.file_response(path, state, {"type": "http", "headers": [], "method": "GET"})
opened = response.opened
print(response.path == path, not opened.closed)
del response, opened
print(os.path.exists(path))
"""
    (tmp_path / "a.log").write_text("its own")
    (tmp_path / "secret").write_text(KEY)
    done = airflow_program(code, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == ["its own", "True True", "False"]
