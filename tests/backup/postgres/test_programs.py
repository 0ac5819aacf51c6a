from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backup.postgres.connection import PostgresUri
from backup.postgres.programs import major_of, majors, program_version, programs, server_major
from frame.failure import WrongUse
from tests.conftest import PG_ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("version", "major"),
    [("15.18", 15), ("18beta1", 18), ("9.6.24", 9), ("17.2 (Debian 17.2-1)", 17), ("?", None)],
)
def test_the_major_version_stands_first(version: str, major: int | None) -> None:
    assert major_of(version) == major


def installed(root: Path, *names: str) -> Path:
    for name in names:
        directory = root / name / "bin"
        directory.mkdir(parents=True)
        (directory / "pg_restore").touch()
    return root


@pytest.mark.parametrize(
    ("major", "chosen"), [(13, "15"), (15, "15"), (16, "17"), (17, "17"), (0, "15")]
)
def test_the_same_version_is_used_or_the_next_newer_one(
    tmp_path: Path, major: int, chosen: str
) -> None:
    root = installed(tmp_path, "17", "15", "18", "common")
    assert majors(root) == (15, 17, 18)
    assert programs(root, major) == root / chosen / "bin"


@pytest.mark.parametrize(
    ("there", "said"), [((), "there is none"), (("13", "15"), "there is 13, 15\n")]
)
def test_programs_that_are_all_too_old_are_not_used(
    tmp_path: Path, there: tuple[str, ...], said: str
) -> None:
    with pytest.raises(WrongUse, match=rf"no programs of PostgreSQL 18 .*{said}") as caught:
        programs(installed(tmp_path, *there), 18)
    assert "postgresql-client-18" in caught.value.hint


def test_a_server_and_a_program_say_their_own_version(database: str) -> None:
    assert server_major(PostgresUri(database, "the test")) == 15
    assert program_version(programs(PG_ROOT, 15) / "pg_dump").startswith("15.")
