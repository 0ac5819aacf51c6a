"""Two throw-away PostgreSQL clusters: the source and the warehouse.

Both keep PostgreSQL's own defaults, durability and shared_buffers among them: what is measured is
what a server does that nobody tuned.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = "bench"
_START = 60.0  # seconds a new cluster may take to answer
_STOP = 120.0  # seconds; the last checkpoint of 5 GB may be under way


@dataclass(frozen=True)
class Cluster:
    """A running server on 127.0.0.1, its superuser ``postgres`` and its database ``bench``."""

    name: str
    home: Path
    port: int
    password: str = field(repr=False)
    database: str = DATABASE

    def uri(self, scheme: str = "postgresql") -> str:
        """Return the superuser's connection URI, password included."""
        return f"{scheme}://postgres:{self.password}@127.0.0.1:{self.port}/{self.database}"

    def of(self, database: str) -> Cluster:
        """Return the same server with another database."""
        return replace(self, database=database)

    def connect(self) -> psycopg.Connection[Any]:
        """Open a session in autocommit."""
        return psycopg.connect(self.uri(), autocommit=True, connect_timeout=5)

    def execute(self, *statements: LiteralString | sql.Composed) -> None:
        """Run ``statements`` one by one, each in a transaction of its own."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def row(self, query: LiteralString | sql.Composed) -> tuple[Any, ...]:
        """Return the one row of ``query``."""
        with self.connect() as connection:
            found = connection.execute(query).fetchone()
        if found is None:
            raise Failure(f"{self.name}: a query gave no row", "Report this.")
        return tuple(found)

    def psql(self, *statements: str | sql.Composable) -> list[str]:
        """Return the command of one psql that runs ``statements``; PGPASSWORD is in clients."""
        command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1"]
        command += ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", DATABASE]
        for statement in statements:
            text = statement if isinstance(statement, str) else statement.as_string()
            command += ["-c", text]
        return command


@dataclass(frozen=True)
class Clusters:
    """The two servers of a run, and what their clients find in the environment."""

    source: Cluster
    warehouse: Cluster

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables by which psql and ingest log in."""
        return {
            "PGPASSWORD": self.source.password,  # one word for both
            "AIRFLOW_CONN_BENCH_SOURCE": self.source.uri(),
            "AIRFLOW_CONN_WAREHOUSE": self.warehouse.uri(),
        }

    def checkpoint(self) -> None:
        """Write out what earlier runs left in memory, so that the next does not pay for it."""
        self.source.execute("CHECKPOINT")
        self.warehouse.execute("CHECKPOINT")


def free_bytes() -> int:
    """Return the room in the folder where clusters are made."""
    return shutil.disk_usage(tempfile.gettempdir()).free


@contextmanager
def started() -> Iterator[Clusters]:
    """Make, start and at the end remove the two clusters. Raises Failure."""
    password = secrets.token_urlsafe(12)
    with ExitStack() as stack:
        source, warehouse = (
            stack.enter_context(_started(name, password)) for name in ("source", "warehouse")
        )
        yield Clusters(source, warehouse)


@contextmanager
def _started(name: str, password: str) -> Iterator[Cluster]:
    programs = _programs()
    home = Path(tempfile.mkdtemp(prefix=f"harmattan-bench-{name}-"))
    server: subprocess.Popen[bytes] | None = None
    try:
        (home / "password").write_text(password)
        if os.geteuid() == 0:
            shutil.chown(home, "postgres", "postgres")
            shutil.chown(home / "password", "postgres", "postgres")
        made = subprocess.run(
            [*_as_postgres(), programs / "initdb", "--encoding=UTF8", "--locale=C.UTF-8",
             "--auth=scram-sha-256", "--username=postgres", f"--pwfile={home / 'password'}",
             home / "data"],
            check=False, capture_output=True, text=True, cwd=home, timeout=_START,
        )  # fmt: skip
        if made.returncode:
            raise Failure(
                f"initdb of the {name} failed: {made.stderr.strip()[-500:]}",
                "Mend the cause and run this again.",
            )
        cluster = Cluster(name, home, _free_port(), password)
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(
                [*_as_postgres(), programs / "postgres", "-D", home / "data",
                 "-p", str(cluster.port), "-c", "listen_addresses=127.0.0.1",
                 "-c", f"unix_socket_directories={home}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home,
                start_new_session=True,
            )  # fmt: skip
        _wait(cluster, server)
        yield cluster
    finally:
        if server is not None:
            _stop(server)
        shutil.rmtree(home, ignore_errors=True)


def _programs() -> Path:
    """Return the folder of the newest server of Debian's packages."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda program: int(program.parent.parent.name),
    )
    if not found or not shutil.which("psql"):
        raise Failure(
            "PostgreSQL's server is not installed",
            "Install Debian's postgresql-15 and run this again.",
        )
    return found[-1].parent


def _as_postgres() -> list[str]:
    """Return what starts a server as its own user, and ends it should this program be killed."""
    user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *user, "--pdeathsig=INT"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(cluster: Cluster, server: subprocess.Popen[bytes]) -> None:
    address = cluster.uri().rpartition("/")[0] + "/postgres"
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with psycopg.connect(address, autocommit=True, connect_timeout=2) as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
                return
        except psycopg.OperationalError:
            time.sleep(0.1)
    tail = "\n".join((cluster.home / "log").read_text(errors="replace").splitlines()[-8:])
    raise Failure(
        f"the {cluster.name} did not start; its log ends with:\n{tail}",
        "Mend the cause and run this again.",
    )


def _stop(server: subprocess.Popen[bytes]) -> None:
    # The data is thrown away: no checkpoint is waited for.
    server.send_signal(signal.SIGQUIT)
    try:
        server.wait(_STOP)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(_STOP)
