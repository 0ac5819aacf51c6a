from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import time
from contextlib import closing
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

import psycopg
import pytest

from backup.deadline import time_limit
from backup.dump import run_backup
from backup.manifest import Manifest
from backup.openpgp.crypt import private_key
from backup.postgres.connection import PostgresUri
from backup.source.snapshot import exclusive
from frame.failure import ExitCode, Failure, WrongUse
from tests.backup.conftest import (
    PASSWORD,
    House,
    add_megabytes,
    contents,
    descendants,
    eventually,
    program,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def slow(house: House) -> Iterator[House]:
    """The environment with a source of 32 MB and an endpoint that takes its time for a part."""
    add_megabytes(house.source, 32)
    house.endpoint.set_faults(
        {"operation": "upload_part", "kind": "delay", "seconds": 1.5, "count": 100}
    )
    yield house
    house.endpoint.set_faults()


def child_of(pid: int, name: str) -> int:
    found = [child for child in descendants(pid) if program(child) == name]
    return found[0]


def test_a_backup_is_an_object_and_then_its_manifest(house: House) -> None:
    add_megabytes(house.source, 12)
    manifest = run_backup(house.settings, house.database)
    object_name, manifest_name, signature_name = house.names()
    assert object_name == manifest.dump.name == f"local/daily/hr/{manifest.id}.dump.zst.gpg"
    assert manifest_name == f"local/daily/hr/{manifest.id}.manifest.json.gpg"
    stored = {version.file_name: version for version, _ in house.bucket.ls(recursive=True)}
    assert stored[object_name].size == manifest.dump.size > 12 << 20
    times = [stored[name].upload_timestamp for name in (object_name, signature_name, manifest_name)]
    assert times == sorted(times)
    counted = {f"{table.schema_name}.{table.table}": table.rows for table in manifest.tables}
    assert counted == {name: len(rows) for name, rows in contents(house.source).items()}
    assert manifest.source.server_version // 10_000 == 15
    assert manifest.source.roles == ("postgres",)
    assert len(manifest.recipients) == 2


def test_the_manifest_in_the_bucket_tells_of_the_object_beside_it(
    house: House, tmp_path: Path
) -> None:
    manifest = run_backup(house.settings, house.database)
    house.bucket.download_file_by_name(manifest.dump.name).save_to(tmp_path / "dump")
    house.bucket.download_file_by_name(house.names()[1]).save_to(tmp_path / "manifest")
    encrypted = (tmp_path / "manifest").read_bytes()
    with private_key(house.settings.secret_path("manifest_key.asc")) as ring:
        assert Manifest.model_validate_json(ring.decrypt(encrypted)) == manifest
    digest = hashlib.sha256((tmp_path / "dump").read_bytes()).hexdigest()
    assert digest == manifest.dump.sha256


def test_nothing_is_left_on_the_disk(house: House) -> None:
    before = set(house.settings.scratch.rglob("*"))
    run_backup(house.settings, house.database)
    assert set(house.settings.scratch.rglob("*")) == before


def test_rows_that_come_during_the_dump_are_in_neither_count_nor_dump(slow: House) -> None:
    run = slow.fork("run", "hr", "--json")
    eventually(slow.unfinished)
    with psycopg.connect(slow.source, autocommit=True) as connection:
        connection.execute("INSERT INTO empty VALUES (1)")
        connection.execute("CREATE TABLE late (id int)")
    slow.endpoint.set_faults()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    counted = {table["table"]: table["rows"] for table in json.loads(out)["tables"]}
    assert counted["empty"] == 0
    assert "late" not in counted


def test_what_was_put_before_a_manifest_fails_the_run(slow: House) -> None:
    """The oldest of a name counts, and its name can be seen while the dump is on its way."""
    run = slow.fork("run", "hr")
    (name,) = eventually(slow.unfinished)
    marker = name.replace(".dump.zst.gpg", ".manifest.json.gpg")
    slow.bucket.upload_bytes(b"{}", marker)
    slow.endpoint.set_faults()
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert f"object {marker} was there already" in err


@pytest.mark.parametrize("victim", ["pg_dump", "zstd", "gpg"])
def test_a_killed_child_leaves_no_backup(slow: House, victim: str) -> None:
    run = slow.fork("run", "hr")
    eventually(slow.unfinished)
    os.kill(child_of(run.pid, victim), signal.SIGKILL)
    _, err = run.communicate(timeout=60)
    assert run.returncode == ExitCode.FAILED
    assert f"{victim} was ended by SIGKILL" in err
    assert (slow.names(), slow.unfinished()) == ([], [])


def test_a_stopped_run_leaves_no_backup_and_no_child(slow: House) -> None:
    run = slow.fork("run", "hr")
    eventually(slow.unfinished)
    children = descendants(run.pid)
    run.terminate()
    _, err = run.communicate(timeout=60)
    assert run.returncode == ExitCode.TERMINATED
    assert "stopped by SIGTERM" in err
    assert (slow.names(), slow.unfinished()) == ([], [])
    assert not [child for child in children if program(child)]


def test_a_run_over_its_time_leaves_no_backup(slow: House) -> None:
    run = slow.run("run", "hr", "--timeout", "3s")
    assert run.returncode == 1
    assert "time limit of 3 s is over" in run.stderr
    assert (slow.names(), slow.unfinished()) == ([], [])


def test_no_secret_is_in_an_argument_or_a_log(slow: House) -> None:
    b2_key = slow.use_key("listFiles", "writeFiles")
    run = slow.start("run", "hr")
    eventually(slow.unfinished)
    seen = {}
    for pid in [run.pid, *descendants(run.pid)]:
        seen[program(pid)] = Path(f"/proc/{pid}/cmdline").read_text()
    slow.endpoint.set_faults()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert {"pg_dump", "zstd", "gpg"} <= seen.keys()
    for secret in (PASSWORD, b2_key):
        assert secret not in "".join(seen.values()) + out + err


def test_two_runs_at_once_are_one(house: House) -> None:
    uri = PostgresUri(house.settings.secret("database_uri"), "the test")
    with exclusive(uri, "hr"):
        with pytest.raises(Failure, match="hr is already running"):
            run_backup(house.settings, house.database)
        assert house.names() == []
    run_backup(house.settings, house.database)


def test_a_server_newer_than_every_client_starts_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.kinds.database.server_major", lambda _: 99)
    with pytest.raises(WrongUse, match=r"no programs of PostgreSQL 99 or newer in .*: there is 15"):
        run_backup(house.settings, house.database)
    assert house.names() == []


@pytest.mark.parametrize("name", ["database_uri", "b2.json", "recipients.asc"])
def test_a_missing_secret_is_named_before_anything_starts(house: House, name: str) -> None:
    (house.settings.secrets_dir / name).unlink()
    with pytest.raises(WrongUse, match=name):
        run_backup(house.settings, house.database)
    assert house.names() == []


def test_a_table_that_the_role_may_not_read_fails_the_run(house: House) -> None:
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute("ALTER TABLE people ENABLE ROW LEVEL SECURITY")
    with pytest.raises(Failure, match="row-level security"):
        run_backup(house.settings, house.database)
    assert house.names() == []


@pytest.mark.parametrize("shift", ["+3h", "-3h"])
def test_a_clock_that_is_wrong_is_told(house: House, shift: str) -> None:
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    ended = house.run("run", "hr", LD_PRELOAD=str(library), FAKETIME=shift)
    assert ended.returncode != 0
    assert re.search("clock of this host is 10(799|80[01]) s|expired", ended.stderr), ended.stderr
    assert house.names() == []


def test_a_load_that_is_open_at_the_start_is_in_the_backup(house: House) -> None:
    with psycopg.connect(house.source, autocommit=True) as loader:
        loader.execute(
            "BEGIN; TRUNCATE people; INSERT INTO people SELECT FROM generate_series(1, 7)"
        )
        commit = Timer(1, loader.execute, ["COMMIT"])
        commit.start()
        manifest = run_backup(house.settings, house.database)
        commit.join()
    assert {table.table: table.rows for table in manifest.tables}["people"] == 7


def test_a_migration_beside_a_backup_passes_and_the_backup_comes_about(slow: House) -> None:
    delay = {"operation": "upload_part", "kind": "delay", "seconds": 6, "count": 100}
    slow.endpoint.set_faults(delay)  # longer than the backup is patient
    run = slow.fork("run", "hr", "--json")
    (given_up,) = eventually(slow.unfinished)
    with psycopg.connect(slow.source, autocommit=True, application_name="migrator") as migrator:
        began = time.monotonic()
        migrator.execute("ALTER TABLE blobs ADD COLUMN w int")
        assert time.monotonic() - began < 10
        slow.endpoint.set_faults()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert "gave way: migrator (pid " in err
    assert "AccessExclusiveLock on public.blobs" in err
    assert slow.unfinished() == []
    assert given_up not in slow.names()
    assert json.loads(out)["plain_size"] > 32 << 20


def test_a_backup_that_no_longer_gives_way_says_so_in_its_manifest(
    slow: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.attempt.SHARE_TO_GIVE_WAY", 0)
    monkeypatch.setattr("backup.source.watch.OTHERS_PATIENCE", 1)
    delay = {"operation": "upload_part", "kind": "delay", "seconds": 3, "count": 100}
    slow.endpoint.set_faults(delay)  # so that it goes on for long behind the start of the other
    with closing(psycopg.connect(slow.source, autocommit=True)) as migrator:
        waiting = Timer(2, migrator.execute, ["ALTER TABLE blobs ADD COLUMN w int"])
        waiting.start()
        with time_limit(100):
            manifest = run_backup(slow.settings, slow.database)
        waiting.join()
    (warning,) = manifest.warnings
    assert "did not give way" in warning
    assert "AccessExclusiveLock on public.blobs" in warning
