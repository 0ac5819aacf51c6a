"""What strangers may have the web server fetch as a log."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from scripts.repository import ROOT

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

# Reads the log of a task that says it ran at each of the hosts, as the web server does.
READ = """
import json, sys
from types import SimpleNamespace
from airflow import plugins_manager
from airflow.utils.log import file_task_handler
plugins_manager.get_fastapi_plugins()
handler = file_task_handler.FileTaskHandler(base_log_folder="logs")
read = {}
for host in json.loads(sys.argv[1]):
    ti = SimpleNamespace(hostname=host, task=None, triggerer_job=None)
    sources, streams = handler._read_from_logs_server(ti, "dag_id=a/attempt=1.log")
    read[host] = [sources, ["".join(each) for each in streams]]
print("READ", json.dumps(read))
"""


@contextmanager
def serving(answers: dict[str, tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Serve at 127.0.0.1: by the path a status with a body, or where to go; yield what is asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, text = answers.get(self.path, (404, ""))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", text)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()
            thread.join()


LOG = "/log/dag_id%3Da/attempt%3D1.log", "/log/dag_id=a/attempt=1.log"


@pytest.fixture(scope="module")
def read(airflow_program: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., Any]:
    def run(port: int, *hosts: str) -> dict[str, Any]:
        ended = airflow_program(
            READ, json.dumps(hosts),
            AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "airflow/plugins"),
            AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT=str(port),
            AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT=str(port),
            AIRFLOW__API__SECRET_KEY="k" * 64,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr[-3000:]
        return dict(json.loads(ended.stdout.rpartition("READ ")[2]))

    return run


def test_a_log_comes_from_a_nodes_log_server_and_nothing_else_does(
    read: Callable[..., Any],
) -> None:
    with (
        serving({"/secret": (200, "secret")}) as (elsewhere, asked_elsewhere),
        serving(dict.fromkeys(LOG, (200, "a line\n"))) as (port, asked),
    ):
        forged = [
            f"127.0.0.1:{elsewhere}/secret?", f"x@127.0.0.1:{elsewhere}/secret#",
            f"127.0.0.1:{port}/secret?", "localhost", "127.1", "0x7f000001", "2130706433",
            f"127.0.0.1:{elsewhere}/log/x?:{port}/log/", "999.0.0.1",
        ]  # fmt: skip
        found = read(port, "127.0.0.1", *forged)
    sources, texts = found.pop("127.0.0.1")
    assert len(sources) == 1
    assert "a line" in texts[0]
    assert set(found) == set(forged)
    for host, (sources, texts) in found.items():
        assert texts == [], host
        assert "expected a node's address as the task's host" in sources[0], host
    assert (len(asked), asked_elsewhere) == (1, [])


def test_a_log_server_sends_nobody_elsewhere(read: Callable[..., Any]) -> None:
    with serving({"/secret": (200, "secret")}) as (elsewhere, asked_elsewhere):
        away = (302, f"http://127.0.0.1:{elsewhere}/secret")
        with serving(dict.fromkeys(LOG, away)) as (port, _):
            sources, texts = read(port, "127.0.0.1")["127.0.0.1"]
    assert texts == []
    assert "expected a log, found a redirection" in sources[0]
    assert asked_elsewhere == []
