from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from backup.loading import offsets
from backup.loading.archive import KNOWN, read_archive
from backup.loading.offsets import write_offsets
from tests.backup.conftest import contents
from tests.backup.postgres.zoo import dump, make_zoo
from tests.conftest import PG_BIN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import PostgresServer


def places(path: Path) -> dict[str, bytes]:
    return {entry.label: entry.place for entry in read_archive(path).entries}


@pytest.fixture
def plain(database: str, tmp_path: Path) -> Path:
    """A dump with large objects, empty tables, and rows of bytes, and one that says where."""
    make_zoo(database)
    noise = random.Random(7).randbytes(100_000) + b"\0\0\0\0\0\1\0" * 9
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE noise (id int, bytes bytea); CREATE TABLE none ()")
        for number in range(3):
            connection.execute("INSERT INTO noise VALUES (%s, %b)", [number, noise])
            connection.execute("SELECT lo_from_bytea(0, %b)", [noise[number:]])
        connection.execute("SELECT lo_create(0)")
    file = tmp_path / "sought"
    argv = [PG_BIN / "pg_dump", "--format=custom", "--compress=0", f"--file={file}", database]
    subprocess.run(argv, check=True)
    return dump(database, tmp_path / "dump")


def test_data_is_found_where_pg_dump_would_have_written_that_it_is(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offsets, "WINDOW", 61)  # so that what is sought lies across borders
    before = plain.read_bytes()
    known = write_offsets(read_archive(plain), plain)
    assert places(plain) == places(plain.with_name("sought"))
    assert read_archive(plain) == known
    assert plain.read_bytes()[known.size :] == before[known.size :]
    assert sum(entry.place[0] == KNOWN for entry in known.entries) > 8
    assert write_offsets(known, plain) == known


def test_pg_restore_finds_data_there(plain: Path, database: str, postgres: PostgresServer) -> None:
    write_offsets(read_archive(plain), plain)
    target = postgres.create_database()
    argv = [PG_BIN / "pg_restore", "--exit-on-error", "--jobs=3", f"--dbname={target}", plain]
    subprocess.run(argv, check=True)
    assert contents(target) == contents(database)


@pytest.mark.parametrize("cut", [1, 200, 150_000, 600_000])
def test_a_file_that_is_not_as_expected_stays_as_it_is(plain: Path, cut: int) -> None:
    archive = read_archive(plain)
    whole = plain.read_bytes()
    left = max(archive.size + 1, len(whole) - cut)
    plain.write_bytes(whole[:left])
    if write_offsets(archive, plain) == archive:
        assert plain.read_bytes() == whole[:left]
    else:
        assert cut == 1, "only the end of the last is missing, which pg_restore will say"
