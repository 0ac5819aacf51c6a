"""The globals of a server: its roles, their memberships and its tablespaces, as SQL.

Without passwords, which only a superuser may read: who needs one has it in Vault.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backup.kinds.origin import Origin, Proof
from backup.pipeline import Stage, run_tool
from backup.postgres.connection import source_uri
from backup.postgres.lease import Needs
from backup.postgres.programs import major_of, program_version, programs, server_major
from backup.postgres.scratch_server import scratch_server
from backup.postgres.snapshot import describe, exclusive, roles_of_server
from backup.restore import extract
from backup.scratch import private_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from backup.attempt import Attempt
    from backup.bucket.store import Store
    from backup.manifest import Manifest
    from backup.openpgp.crypt import Keyring
    from backup.registry import Entry
    from backup.settings import Settings

WORDS = "a server's roles, as SQL"
# What a throwaway server can have as well: it has no place for tablespaces.
ROLE_LINES = ("CREATE ROLE ", "ALTER ROLE ", "GRANT ")


def alone(settings: Settings, entry: Entry) -> AbstractContextManager[bool]:
    """Keep others from dumping the roles of this server."""
    return exclusive(source_uri(settings), entry.name)


@contextmanager
def dump(settings: Settings, _entry: Entry, _attempt: Attempt) -> Iterator[Origin]:
    """Open a server's roles, memberships and tablespaces.

    Without passwords, which only a superuser may read: who needs one has it in Vault.
    """
    uri = source_uri(settings)
    pg_bin = programs(settings.pg_root, server_major(uri))
    version = program_version(pg_bin / "pg_dumpall")
    argv: list[str | Path] = [
        pg_bin / "pg_dumpall", "--globals-only", "--no-role-passwords", "--no-password",
        f"--database={uri.database()}",
    ]  # fmt: skip
    with uri.connect("backup-globals") as connection:
        source = describe(connection).model_copy(update={"roles": roles_of_server(connection)})
    facts = {"source": source, "pg_dump_version": version}
    yield Origin(Stage(argv, uri.environment()), 0, lambda: facts)


def prove(settings: Settings, store: Store, ring: Keyring, manifest: Manifest, jobs: int) -> Proof:
    """Make the roles in a server of the drill's own, and let that one tell them."""
    pg_bin = programs(settings.pg_root, major_of(manifest.pg_dump_version) or 0)
    with (
        private_directory(settings.scratch, "globals") as directory,
        scratch_server(settings, Needs(major=major_of(manifest.pg_dump_version) or 1)) as server,
    ):
        began = time.monotonic()
        plain = directory / "globals.sql"
        extract(store, manifest, ring, plain)
        environment = server.uri("postgres").environment()
        # Without ON_ERROR_STOP: the role that makes a server is in each, tablespaces in none.
        run_tool([pg_bin / "psql", "--no-psqlrc", "--quiet", f"--file={plain}"], environment)
        seconds = time.monotonic() - began
        told = run_tool(
            [pg_bin / "pg_dumpall", "--globals-only", "--no-role-passwords",
             "--database=postgres"],
            environment,
        )  # fmt: skip
        wanted, size = plain.read_text().splitlines(), plain.stat().st_size
    found = set(told.splitlines())
    missing = [line for line in wanted if line.startswith(ROLE_LINES) and line not in found]
    lost = [role for role in manifest.server.roles if not _names(role, wanted)]
    return Proof(
        seconds,
        size,
        (
            *(f"role {role} is not in the dump" for role in lost),
            *(f"not restored: {line}" for line in missing),
        ),
    )


def _names(role: str, lines: list[str]) -> bool:
    quoted = role.replace('"', '""')
    return any(line in (f"CREATE ROLE {role};", f'CREATE ROLE "{quoted}";') for line in lines)
