"""An application under load, with migrations, hardly notices that its tables are read."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest.errors import RunFailedError
from tests.conftest import PG_BIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.ingest.world import World

SMALL = [f"small_{number}" for number in range(5)]
LEAST = 1.0  # s: pgbench's own hiccups on a busy machine


class Application:
    """pgbench's transactions, and a migration of a small table every half second."""

    def __init__(self, uri: str, folder: Path) -> None:
        self._uri, self._folder = uri, folder
        self._ended = threading.Event()
        self.slowest_migration = 0.0
        self.migrations = 0

    def migrate(self) -> None:
        with psycopg.connect(self._uri, autocommit=True) as connection:
            while not self._ended.wait(0.5):
                table = [*SMALL, "pgbench_branches"][self.migrations % 6]
                began = time.monotonic()
                connection.execute(f"ALTER TABLE {table} ADD COLUMN extra int".encode())
                connection.execute(f"ALTER TABLE {table} DROP COLUMN extra".encode())
                self.slowest_migration = max(self.slowest_migration, time.monotonic() - began)
                self.migrations += 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Run until the block ends."""
        load = subprocess.Popen(
            [PG_BIN / "pgbench", "--client=4", "--time=3600", "--log", "--no-vacuum",
             f"--log-prefix={self._folder}/statements", self._uri],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        migrating = threading.Thread(target=self.migrate)
        migrating.start()
        try:
            yield
        finally:
            self._ended.set()
            migrating.join()
            load.terminate()
            load.wait(30)

    def slowest(self) -> float:
        """Return the seconds of pgbench's slowest transaction."""
        files = list(self._folder.glob("statements*"))
        times = [
            int(line.split()[2]) for file in files for line in file.read_text().splitlines()[:-1]
        ]
        assert len(times) > 100
        return max(times) / 1e6


def play(world: World, folder: Path, scale: int, runs: int) -> tuple[Application, int]:
    """Return the application of ``runs`` runs, and how many tables failed as they had changed."""
    world.at_source(
        *(f"CREATE TABLE {table} (id int PRIMARY KEY, name text)" for table in SMALL),
        *(f"INSERT INTO {table} SELECT n, 'name' FROM generate_series(1, 100) n" for table in SMALL)
    )  # fmt: skip
    subprocess.run(
        [PG_BIN / "pgbench", "--initialize", f"--scale={scale}", "--quiet", world.source_admin],
        check=True, capture_output=True,
    )  # fmt: skip
    world.at_source()
    folder.mkdir()
    application, moved = Application(world.source_admin, folder), 0
    with application.at_work():
        for _ in range(runs):
            try:
                world.run()
            except RunFailedError as error:
                lines = str(error).splitlines()[1:-1]
                assert all("found it changed since" in line for line in lines), error
                moved += len(lines)
        if not runs:
            time.sleep(20)
    return application, moved


def test_its_migrations_pass_while_all_of_its_tables_are_read(world: World, tmp_path: Path) -> None:
    application, _ = play(world, tmp_path / "load", 1, 5)
    assert application.migrations
    assert application.slowest_migration < 2


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_its_slowest_statement_is_hardly_slower_for_a_hundred_runs(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without, _ = play(world, tmp_path / "without", 5, 0)
    with psycopg.connect(world.source_admin) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    beside, moved = play(world, tmp_path / "beside", 5, 100)
    with capsys.disabled():
        print(
            f"\nslowest transaction: {without.slowest():.3f} s, {beside.slowest():.3f} s beside 100"
            f" runs; slowest migration {without.slowest_migration:.3f} s of"
            f" {without.migrations}, {beside.slowest_migration:.3f} s of {beside.migrations};"
            f" {moved} tables were read by the next run"
        )
    assert beside.slowest_migration < 2
    assert beside.slowest() < without.slowest() + LEAST
