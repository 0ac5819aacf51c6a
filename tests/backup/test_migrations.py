"""Backups beside migrations: each comes about, of one committed state, and nobody waits for long.

What changes a table's rows writes their generation into `ledger` in the same transaction, so that a
backup's tables can be held against each other.
"""

from __future__ import annotations

import random
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from backup.bucket.store import open_store
from backup.dump import run_backup
from backup.kinds.database import dump_stage
from backup.openpgp.crypt import private_key
from backup.postgres.connection import PostgresUri
from backup.restoration.comparison import compare
from backup.restoration.unpack import unpack
from tests.backup.conftest import add_megabytes
from tests.conftest import PG_BIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from backup.manifest import Manifest
    from backup.pipeline import Stage
    from tests.backup.conftest import House, OpenPgpKey

LONGEST = 10.0  # seconds that a statement of a migration may take
ROWS = 1000
TABLES = ("loaded", "swapped", "live.placed", "altered", "parted", "rewritten")
SCHEMA = f"""
CREATE SCHEMA live;
CREATE TABLE ledger (name text PRIMARY KEY, generation int);
CREATE TABLE loaded AS SELECT 0 AS generation, n FROM generate_series(1, {ROWS}) n;
CREATE TABLE swapped AS TABLE loaded;
CREATE TABLE live.placed AS TABLE loaded;
CREATE TABLE altered AS TABLE loaded;
CREATE TABLE rewritten AS TABLE loaded;
CREATE TABLE parted (generation int, n int) PARTITION BY LIST (generation);
CREATE TABLE part_0 PARTITION OF parted FOR VALUES IN (0);
INSERT INTO parted TABLE loaded;
INSERT INTO ledger SELECT unnest(%s::text[]), 0
"""
FILL = f"SELECT {{new}} AS generation, n FROM generate_series(1, {ROWS}) n"
# From one generation to the next: each line is a transaction, but for those that refuse to be in
# one.
MIGRATIONS: dict[str, list[str]] = {
    "loaded": [f"TRUNCATE loaded; INSERT INTO loaded {FILL}"],
    "swapped": [
        f"CREATE TABLE next AS {FILL}; DROP TABLE swapped; ALTER TABLE next RENAME TO swapped"
    ],
    "live.placed": [
        f"CREATE SCHEMA next; CREATE TABLE next.placed AS {FILL};"
        "ALTER SCHEMA live RENAME TO old; ALTER SCHEMA next RENAME TO live;"
        "DROP SCHEMA old CASCADE"
    ],
    "altered": [
        "ALTER TABLE altered ADD COLUMN w_{new} int DEFAULT 1;"
        "ALTER TABLE altered ALTER n TYPE numeric; ALTER TABLE altered ALTER n TYPE int;"
        "UPDATE altered SET generation = {new}; ALTER TABLE altered DROP COLUMN w_{new}"
    ],
    "parted": [
        f"CREATE TABLE part_{{new}} AS {FILL};"
        "ALTER TABLE parted ATTACH PARTITION part_{new} FOR VALUES IN ({new});"
        "ALTER TABLE parted DETACH PARTITION part_{old}; DROP TABLE part_{old}"
    ],
    "rewritten": [
        "UPDATE rewritten SET generation = {new}",
        "CREATE INDEX CONCURRENTLY ON rewritten (n)",
        "VACUUM FULL rewritten",
        "DROP INDEX CONCURRENTLY rewritten_n_idx",
    ],
}


class Migrator:
    """Takes the tables of MIGRATIONS from generation to generation, each in a thread of its own."""

    def __init__(self, uri: str, seed: int) -> None:
        self._uri = uri
        self._seed = seed
        self._stopping = threading.Event()
        self.longest = dict.fromkeys(MIGRATIONS, 0.0)
        self.generations = dict.fromkeys(MIGRATIONS, 0)

    def run(self, table: str) -> None:
        """Migrate ``table`` until the end, with pauses of chance."""
        chance = random.Random(f"{self._seed} {table}")
        with closing(
            psycopg.connect(self._uri, autocommit=True, application_name=f"migrator {table}")
        ) as connection:
            while not self._stopping.wait(chance.uniform(0, 1)):
                self._migrate(connection, table)

    def _migrate(self, connection: psycopg.Connection[tuple[object, ...]], table: str) -> None:
        old = self.generations[table]
        new = old + 1
        for number, text in enumerate(MIGRATIONS[table]):
            statements = [line.strip() for line in text.format(old=old, new=new).split(";")]
            if number == 0:
                entry = f"UPDATE ledger SET generation = {new} WHERE name = '{table}'"
                statements = ["BEGIN", *statements, entry, "COMMIT"]
            for statement in statements:
                began = time.monotonic()
                connection.execute(statement.encode())
                self.longest[table] = max(self.longest[table], time.monotonic() - began)
        self.generations[table] = new

    @contextmanager
    def running(self) -> Iterator[None]:
        """Migrate all tables; raise if a migration failed."""
        with ThreadPoolExecutor(len(MIGRATIONS)) as pool:
            threads = [pool.submit(self.run, table) for table in MIGRATIONS]
            try:
                yield
            finally:
                self._stopping.set()
            for thread in threads:
                thread.result()


@pytest.fixture
def migrated(house: House, drill_key: OpenPgpKey) -> House:
    """The environment with the tables of MIGRATIONS and 24 MB, and the right to restore."""
    with psycopg.connect(house.source, autocommit=True) as connection:
        for statement in SCHEMA.split(";\n"):
            wanted = [list(TABLES)] if "%s" in statement else None
            connection.execute(statement.encode(), wanted)
    add_megabytes(house.source, 24)
    house.use_key("listFiles", "writeFiles", "readFiles")
    house.secret("drill_key.asc", drill_key.private)
    return house


def restored(house: House, manifest: Manifest, scratch: Path) -> str:
    """Restore by hand, and return the URI of the database."""
    plain, settings = scratch / "plain", house.settings
    plain.unlink(missing_ok=True)
    with (
        private_key(settings.secret_path("drill_key.asc")) as ring,
        open_store(settings, settings.b2_key()) as store,
    ):
        unpack(store, manifest, ring, plain)
    target = house.server.create_database()
    subprocess.run(
        [PG_BIN / "pg_restore", "--exit-on-error", f"--dbname={target}", plain], check=True
    )
    return target


def check(house: House, manifest: Manifest, scratch: Path) -> None:
    """Hold the backup against one committed state, and a restore against the backup."""
    counted = {f"{each.schema_name}.{each.table}": each for each in manifest.tables}
    for each in manifest.tables:  # a proof is given up where somebody waited for long
        assert each.rows is not None or "waited for" in (each.unproved or ""), each
    assert counted["public.loaded"].rows in (ROWS, None)
    target = restored(house, manifest, scratch)
    assert compare(manifest, PostgresUri(target, "the test"), 1, PG_BIN) == []
    with psycopg.connect(target, autocommit=True) as connection:
        for name, generation in connection.execute("SELECT * FROM ledger").fetchall():
            query = f"SELECT count(*), min(generation), max(generation) FROM {name}"
            assert connection.execute(query.encode()).fetchall() == [
                (ROWS, generation, generation)
            ], name
    with psycopg.connect(house.server.uri(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {target.rpartition('/')[2]}".encode())


def rounds(
    house: House, scratch: Path, seed: int, count: int, slow: Callable[[random.Random], float]
) -> Migrator:
    """Make ``count`` backups beside migrations; a part of each takes ``slow`` seconds once."""
    chance = random.Random(seed)
    migrator = Migrator(house.source, seed)
    with migrator.running():
        for number in range(count):
            seconds = slow(chance)
            house.endpoint.set_faults(
                {"operation": "upload_part", "kind": "delay", "seconds": seconds, "count": 2}
            )
            try:
                check(house, run_backup(house.settings, house.database), scratch)
            except BaseException as error:
                error.add_note(f"backup {number}")
                raise
    house.endpoint.set_faults()
    print({table: round(seconds, 1) for table, seconds in migrator.longest.items()})
    print(migrator.generations)
    assert all(seconds < LONGEST for seconds in migrator.longest.values()), migrator.longest
    assert all(migrator.generations.values()), "a migration never came through"
    assert house.unfinished() == []
    return migrator


def test_backups_beside_migrations_are_of_one_committed_state(
    migrated: House, scratch: Path, seed: int
) -> None:
    rounds(migrated, scratch, seed, 3, lambda chance: chance.uniform(0.1, 1.0))


def change_below_pg_dump(
    monkeypatch: pytest.MonkeyPatch, house: House, changes: Iterable[str]
) -> None:
    """Make one of ``changes`` in each attempt, between the snapshot and pg_dump."""
    monkeypatch.setattr("backup.attempt.SHORT_PAUSE", 0)
    left = iter(changes)

    def changed(pg_bin: Path, uri: PostgresUri, snapshot: str) -> Stage:
        with psycopg.connect(house.source, autocommit=True) as connection:
            connection.execute(next(left, "").encode())
        return dump_stage(pg_bin, uri, snapshot)

    monkeypatch.setattr("backup.kinds.database.dump_stage", changed)


def test_what_is_changed_below_pg_dump_comes_back_as_it_was_at_one_moment(
    migrated: House, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(migrated.source, autocommit=True) as connection:
        connection.execute(b"""
        CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int); CREATE SEQUENCE numbers;
        CREATE VIEW seen AS SELECT 1 AS a; SELECT setval('numbers', 5)""")
    changes = (  # each but the last makes a dump that is neither of before nor of after it
        "DROP AGGREGATE total(int)",
        "CREATE OR REPLACE VIEW seen AS SELECT 2 AS a",
        "ALTER SEQUENCE numbers RESTART",
    )
    change_below_pg_dump(monkeypatch, migrated, changes)
    manifest = run_backup(migrated.settings, migrated.database)
    assert (manifest.gaps, len(manifest.objects) > 20) == ((), True)
    check(migrated, manifest, scratch)


def test_a_backup_beside_somebody_who_always_changes_functions_comes_and_names_them(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = "CREATE OR REPLACE FUNCTION busy() RETURNS int LANGUAGE sql AS 'SELECT {}'"
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute(change.format(0).encode())
    change_below_pg_dump(monkeypatch, house, map(change.format, range(1, 100)))
    (gap,) = run_backup(house.settings, house.database).gaps
    assert f"{gap.kind}:{gap.name}" == "changed:function public.busy"


def test_a_server_that_does_not_tell_what_changed_prevents_no_backup(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.kinds.database.CHANGES_WAIT", "1ms")
    with psycopg.connect(house.source, autocommit=True) as connection:
        for number in range(20):
            types = (f"CREATE DOMAIN d{number}_{each} AS int;" for each in range(200))
            connection.execute("".join(types).encode())
    manifest = run_backup(house.settings, house.database)
    (gap,) = manifest.gaps
    assert f"{gap.kind}:{gap.name}" == "proof:changes"
    assert len(manifest.objects) > 4000


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_fifty_backups_beside_migrations(migrated: House, scratch: Path, seed: int) -> None:
    """Some so slow that they must give way."""
    rounds(migrated, scratch, seed, 50, lambda chance: chance.choice([0.1, 0.5, 2.0, 8.0]))
