"""``python -m harmattan.health PORT SIGN COMMAND…``: run an Airflow process, answer for it.

The DAG processor, the triggerer and the worker have no HTTP health check of their own, and Nomad's
services take no command as a check. This small process starts one of them, passes signals on, and
answers ``GET /health`` with 200 while its last sign of life is fresh and /tmp has room, else 503.
SIGN says where to look for it: ``job:TYPE:FILE`` in Airflow's table of jobs, in the database whose
URI FILE holds; ``file:PATH`` at the file's time.

/tmp counts because strangers may fill it, and every later task or parse would fail of what one left
there: the start that follows finds it empty.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import psycopg2

from frame.database import libpq

# A sign comes every 5 s ([scheduler] job_heartbeat_sec, harmattan.worker); six missed are a fault.
FRESH = 30
# Not tempfile.gettempdir(), which passes a full one over.
SCRATCH = Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108
ROOM = 2**20  # bytes without which it is full
QUERY = """
SELECT count(*) > 0 FROM job
WHERE job_type = %s AND state = 'running' AND hostname = %s
  AND latest_heartbeat > now() - %s * interval '1 second'
"""


def file_is_fresh(path: Path) -> bool:
    """Tell whether ``path`` was touched in the last 30 s."""
    return path.exists() and time.time() - path.stat().st_mtime < FRESH


def job_is_fresh(job_type: str, database_uri: Path) -> bool:
    """Tell whether a job of ``job_type`` on this host wrote its heartbeat in the last 30 s."""
    uri = libpq(database_uri.read_text())
    hostname = os.environ.get("HARMATTAN_NODE") or socket.getfqdn()
    connection = psycopg2.connect(uri, connect_timeout=3)
    try:
        with connection.cursor() as cursor:
            cursor.execute(QUERY, (job_type, hostname, FRESH))
            row = cursor.fetchone()
            return bool(row and row[0])
    finally:
        connection.close()


def has_room(folder: Path) -> bool:
    """Tell whether the file system of ``folder`` has a MiB left."""
    return shutil.disk_usage(folder).free >= ROOM


class Health(BaseHTTPRequestHandler):
    """Answers ``GET /health``."""

    sign: ClassVar[str]

    def do_GET(self) -> None:
        """Answer 200 or 503; a database that does not answer is 503 too."""
        try:
            match self.sign.split(":"):
                case ["job", job_type, file]:
                    fresh = job_is_fresh(job_type, Path(file))
                case _:
                    fresh = file_is_fresh(Path(self.sign.removeprefix("file:")))
        except psycopg2.Error as error:
            self.log_error("%s", type(error).__name__)
            fresh = False
        if self.path != "/health":
            self._answer(404, "there is /health alone")
        elif not has_room(SCRATCH):
            self._answer(503, f"no room in {SCRATCH}")
        elif fresh:
            self._answer(200, "well")
        else:
            self._answer(503, f"no sign of life in the last {FRESH} seconds")

    def _answer(self, code: int, text: str) -> None:
        """Answer in a few words: Nomad keeps them, and `status` shows them."""
        if code != HTTPStatus.OK:
            self.log_error("%s", text)
        self.send_response(code)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing of each check."""


def main() -> None:
    """Start the command and serve until it ends; exit as a shell would: 128 + N for signal N."""
    port, Health.sign, *command = sys.argv[1:]
    process = subprocess.Popen(command)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: process.send_signal(received))
    server = ThreadingHTTPServer(("", int(port)), Health)
    Thread(target=server.serve_forever, daemon=True).start()
    code = process.wait()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
