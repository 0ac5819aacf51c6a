"""What every test may use: a real PostgreSQL server of the test run's own, and a seed."""

from __future__ import annotations

import gc
import logging
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from xdist.remote import Producer

pytest_plugins = ["tests.programs", "tests.ingest.world", "tests.tls", "tests.airflow.metadata"]

PG_ROOT = Path("/usr/lib/postgresql")
PG_BIN = PG_ROOT / "15/bin"
# What drives the one platform of the machine: one after another in one process, beside which
# `make test` runs the other files in others.
PLATFORM = "tests/e2e/"
SUPERSET = "tests/dashboards/"
RUNS = "tests/airflow/harmattan/runs/"


class Scheduler(LoadScopeScheduling):
    """Gives each process of pytest-xdist a file at a time, and what shares a server to one of them.

    That is PLATFORM, SUPERSET, which takes a quarter of a minute to start, and RUNS, a Nomad of
    several servers with an Airflow.
    """

    def _split_scope(self, nodeid: str) -> str:
        for shared in (PLATFORM, SUPERSET, RUNS):
            if nodeid.startswith(shared):
                return shared
        return nodeid.partition("::")[0]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while collecting, and never again at what has been collected.

    All of it stays to the end, and each look at it takes a second.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduler:
    """Schedule by file, whatever ``--dist`` says."""
    return Scheduler(config, log)


# What a test that takes chances starts from. The same in all processes of pytest-xdist, and in the
# test's id: TEST_SEED=… pytest … takes the same chances again.
SEED = int(os.environ.setdefault("TEST_SEED", str(random.randrange(10**6))))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the seed to a test that asks for one."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", [SEED], ids=[f"seed={SEED}"])


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Forget how a program that ran in the test logs, and the closed stream that it wrote to."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers = before


@dataclass(frozen=True)
class PostgresServer:
    """A running PostgreSQL on 127.0.0.1 with its first superuser."""

    port: int
    password: str
    log: Path  # what the server says
    superuser: str = "postgres"

    def uri(self, database: str = "postgres") -> str:
        """Return the superuser's connection URI of ``database``."""
        return f"postgresql://{self.superuser}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str = "template0") -> str:
        """Create an empty database, or a copy of another; return the superuser's URI of it."""
        name = f"test_{secrets.token_hex(4)}"
        with psycopg.connect(self.uri(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return self.uri(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the whole test run."""
    with started_server() as server:
        yield server


@contextmanager
def started_server(
    programs: Path = PG_BIN, superuser: str = "postgres"
) -> Iterator[PostgresServer]:
    """Make a server in a directory of its own under /tmp, and run it for as long as the block."""
    home = Path(tempfile.mkdtemp(prefix="harmattan-pg-", dir="/tmp"))
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    if os.geteuid() != 0:
        as_postgres = []
    password, port = secrets.token_urlsafe(12), free_port()
    (home / "password").write_text(password)
    if as_postgres:
        shutil.chown(home, "postgres", "postgres")
        shutil.chown(home / "password", "postgres", "postgres")
    subprocess.run(
        [*as_postgres, programs / "initdb", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
         "--auth=scram-sha-256", f"--username={superuser}", f"--pwfile={home / 'password'}",
         home / "data"],
        check=True, capture_output=True, cwd=home,
    )  # fmt: skip
    log = home / "log"
    with log.open("wb") as written:
        server = subprocess.Popen(
            [*as_postgres, programs / "postgres", "-D", home / "data", "-p", str(port),
             "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={home}",
             "-c", "fsync=off", "-c", "max_connections=100"],
            stdout=subprocess.DEVNULL, stderr=written, cwd=home,
        )  # fmt: skip
    try:
        found = PostgresServer(port, password, log, superuser)
        for _ in range(200):
            if server.poll() is not None:
                pytest.fail(f"PostgreSQL ended with {server.returncode}; its data is in {home}")
            try:
                psycopg.connect(found.uri(), connect_timeout=2).close()
                break
            except psycopg.OperationalError:
                subprocess.run(["sleep", "0.1"], check=True)
        yield found
    finally:
        # The data is thrown away: no checkpoint is waited for.
        server.send_signal(signal.SIGQUIT)
        server.wait(30)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """The superuser's URI of an empty database of this test's own."""
    return postgres.create_database()
