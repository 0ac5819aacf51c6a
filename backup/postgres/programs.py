"""PostgreSQL's own programs: which versions are at hand, and which of them is to be used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backup.pipeline import run_tool
from backup.postgres.connection import plain_environment
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from pathlib import Path

    from backup.postgres.connection import PostgresUri

VERSION_UNIT = 10_000  # of server_version_num a major version


def program_version(program: Path) -> str:
    """Return the version of one of PostgreSQL's programs, such as ``15.18``."""
    said = run_tool([program, "--version"], plain_environment())
    version = re.search(r"\(PostgreSQL\) (\S+)", said)
    if not version:
        raise Failure(
            f"{program} does not tell its version",
            hint="Point BACKUP_PG_ROOT at the directory that holds MAJOR/bin of PostgreSQL.",
        )
    return version[1]


def major_of(version: str) -> int | None:
    """Return the major version in ``15.18``, ``18beta1`` or ``9.6``; None if there is none."""
    leading = re.match(r"\d+", version)
    return int(leading[0]) if leading else None


def majors(root: Path) -> tuple[int, ...]:
    """Return the major versions whose programs are in ``root/MAJOR/bin``, the oldest first."""
    return tuple(
        sorted(
            int(program.parents[1].name)
            for program in root.glob("*/bin/pg_restore")
            if program.parents[1].name.isdecimal()
        )
    )


def programs(root: Path, major: int) -> Path:
    """Return the directory of the programs of ``major``, or of the next newer one at hand.

    A client knows the servers of its own version and of older ones, and reads the archives of
    those. Raises WrongUse if there is none.
    """
    at_hand = majors(root)
    if chosen := next((each for each in at_hand if each >= major), None):
        return root / str(chosen) / "bin"
    found = f"there is {', '.join(map(str, at_hand))}" if at_hand else "there is none"
    raise WrongUse(
        f"no programs of PostgreSQL {major} or newer in {root}: {found}",
        hint=f"Install postgresql-client-{major}, or point BACKUP_PG_ROOT at the directory that "
        f"holds {major}/bin.",
    )


def server_major(uri: PostgresUri) -> int:
    """Return the major version of the server that ``uri`` leads to. Raises Failure."""
    with uri.connect("version") as connection:
        return connection.info.server_version // VERSION_UNIT
