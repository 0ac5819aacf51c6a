"""PostgreSQL's own programs: which versions are at hand, and which server they may dump."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backup.pipeline import run_tool
from backup.postgres.connection import plain_environment
from frame.failure import Failure

if TYPE_CHECKING:
    from pathlib import Path


def program_version(program: Path) -> str:
    """Return the version of one of PostgreSQL's programs, such as ``15.18``."""
    told = run_tool([program, "--version"], plain_environment())
    found = re.search(r"\(PostgreSQL\) (\S+)", told)
    if not found:
        raise Failure(
            f"{program} does not tell its version",
            hint="Point BACKUP_PG_BIN at the bin directory of a PostgreSQL installation.",
        )
    return found[1]


def check_versions(dump_version: str, server_version: int) -> None:
    """Raise if a pg_dump of ``dump_version`` cannot dump a server of ``server_version_num``."""
    server_major = server_version // 10_000
    leading = re.match(r"\d+", dump_version)
    if leading is None or int(leading[0]) < server_major:
        raise Failure(
            f"pg_dump {dump_version} is older than the server, which is {server_major}",
            hint=f"Build the backup image with PG_MAJOR={server_major} or later.",
        )
