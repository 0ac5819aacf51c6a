"""What was staged is still there after a crash of the warehouse, or known to be gone."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from frame.failure import Failure
from ingest import loads
from ingest.errors import ConflictError
from tests.conftest import PG_BIN, free_port
from tests.ingest.staff import STAFF, rule
from tests.ingest.world import as_role, publish
from tests.ingest.world import stage as staged_by

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import LiteralString

    from ingest.job import Job
    from ingest.plan import TablePlan
    from ingest.staging import Staged
    from tests.ingest.world import World

AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
# Nothing but a commit that waits for it writes the log: a crash then takes what it may take.
IDLE = "-c bgwriter_lru_maxpages=0 -c autovacuum=off -c wal_writer_flush_after=0 -c fsync=off"


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server of one test's own, which may crash."""

    home: Path
    port: int

    def uri(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.home} {IDLE}"
        self._ctl("start", "-w", "-l", str(self.home / "log"), "-o", options)
        os.kill(self._writer(), signal.SIGSTOP)

    def crash(self) -> None:
        writer = self._writer()
        self._ctl("stop", "-W", "-m", "immediate")
        os.kill(writer, signal.SIGKILL)  # a stopped process heeds nothing else
        while (self.home / "data" / "postmaster.pid").exists():
            time.sleep(0.05)

    def _writer(self) -> int:
        with psycopg.connect(self.uri()) as connection:
            ((found,),) = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
            ).fetchall()
        return int(found)

    def _ctl(self, *words: str) -> None:
        subprocess.run(
            [*AS_POSTGRES, PG_BIN / "pg_ctl", "-D", self.home / "data", *words],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.home,
        )


@pytest.fixture
def server() -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="harmattan-pg-", dir="/tmp"))
    shutil.chown(home, "postgres", "postgres")
    subprocess.run(
        [*AS_POSTGRES, PG_BIN / "initdb", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
         "--auth=trust", "--username=postgres", home / "data"],
        check=True, stdout=subprocess.DEVNULL, cwd=home,
    )  # fmt: skip
    found = Server(home, free_port())
    found.start()
    yield found
    found.crash()
    shutil.rmtree(home)


@pytest.fixture
def fragile(world: World, server: Server) -> World:
    """A world whose warehouse may crash."""
    with psycopg.connect(server.uri()) as connection:
        connection.execute("CREATE ROLE ingest_loader LOGIN NOINHERIT")
        connection.execute("CREATE ROLE warehouse_readers")
        connection.execute("CREATE ROLE ingest_checks LOGIN IN ROLE warehouse_readers")
        connection.execute("GRANT CREATE ON DATABASE postgres TO ingest_loader")
    return dataclasses.replace(
        world,
        warehouse_admin=server.uri(),
        warehouse=as_role(server.uri(), "ingest_loader", "unasked"),
        checks=as_role(server.uri(), "ingest_checks", "unasked"),
    )


def stage(world: World, text: str) -> tuple[Job, Staged]:
    job = world.job(text)
    with job.warehouse() as target:
        (staged,), failed = staged_by(job, target)
    assert not failed
    return job, staged


def test_a_crash_that_takes_the_end_of_what_was_staged_takes_its_mark_too(
    fragile: World, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = rule(load="append", lookback="30d")
    fragile.at_source(*STAFF)
    fragile.run(text)
    fragile.at_source(
        "UPDATE staff SET name = name", "INSERT INTO staff VALUES (101, 'new', '2026-03-01')"
    )
    real = loads.Append.settle

    def at_warehouse(statement: LiteralString) -> None:
        with psycopg.connect(fragile.warehouse_admin) as connection:
            connection.execute(statement)

    def late(self: loads.Append, connection: psycopg.Connection[object], plan: TablePlan) -> int:
        at_warehouse("CHECKPOINT")  # what comes before is on the disk
        return real(self, connection, plan)

    monkeypatch.setattr(loads.Append, "settle", late)
    at_warehouse("ALTER ROLE ingest_loader SET synchronous_commit = off")
    job, staged = stage(fragile, text)
    server.crash()
    server.start()
    assert fragile.rows("SELECT count(*) FROM raw_hr_staging.staff") == [(101,)]
    with job.warehouse() as target, pytest.raises(ConflictError):
        publish(job, target, [staged])
    assert fragile.run(text).loaded[0].rows == 101
    fragile.assert_same("public.staff", "raw_hr.staff")


def test_a_run_that_a_crash_ends_is_written_down_once_the_warehouse_is_back(
    fragile: World, server: Server
) -> None:
    fragile.at_source(*STAFF)
    fragile.run(rule())
    check = '{sql: {slow: "select pg_sleep(60) is null from {table} limit 1"}}'
    with ThreadPoolExecutor(1) as pool:
        failing = pool.submit(fragile.run, rule(checks=check))
        while not fragile.rows(
            "SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active'"
            " AND pid <> pg_backend_pid()"
        ):
            time.sleep(0.05)
        server.crash()
        time.sleep(1)
        server.start()
        with pytest.raises(Failure):
            failing.result(60)
    assert fragile.rows(
        'SELECT status, step, "table", finished_at IS NULL FROM ops.runs ORDER BY started_at DESC'
        " LIMIT 1"
    ) == [("failed", "audit", "raw_hr.staff", False)]
