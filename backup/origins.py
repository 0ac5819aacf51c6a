"""What is dumped, by its kind: a database, a server's globals, the state of Nomad or Vault."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import make_conninfo

from backup.connection import KEEPALIVES, PostgresUri, plain_environment
from backup.pipeline import Stage, run_tool
from backup.registry import Database
from backup.settings import DATABASE_URI, Settings
from backup.snapshot import (
    LOCK_WAIT,
    describe,
    exclusive,
    exported_snapshot,
    roles_of_server,
)
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from backup.registry import Entry, Kind

# What Python itself is told by: where modules are, and which certificates to trust.
OF_PYTHON = ("PYTHONPATH", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Origin:
    """One thing that is ready to be dumped.

    ``stage`` writes the plain dump. ``size`` is what it is expected to be, in bytes. ``check``
    raises while it is read if something beside it went wrong, ``finish`` when it is at its end;
    ``facts`` is what the manifest then says of it. ``locked``: nobody else dumps it meanwhile.
    """

    stage: Stage
    size: int
    facts: Callable[[], dict[str, Any]]
    locked: bool = True
    check: Callable[[], None] = field(default=_nothing)
    finish: Callable[[], object] = field(default=_nothing)


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


def dump_stage(pg_bin: Path, uri: PostgresUri, snapshot_id: str) -> Stage:
    """Return pg_dump, which does not compress: its own zlib is slower than all else together."""
    argv: list[str | Path] = [
        pg_bin / "pg_dump", "--format=custom", "--compress=0", "--no-password",
        f"--snapshot={snapshot_id}", f"--lock-wait-timeout={LOCK_WAIT}",
        # All else about the server is in the environment. It stands still while an upload waits.
        f"--dbname={make_conninfo(dbname=uri.database(), **KEEPALIVES)}",
    ]  # fmt: skip
    return Stage(argv, uri.environment())


@contextmanager
def _database(settings: Settings, entry: Entry) -> Iterator[Origin]:
    uri = _uri(settings)
    called = entry.called if isinstance(entry, Database) else entry.name
    if uri.database() != called:
        raise WrongUse(
            f"the URI of {entry.name} names the database {uri.database()!r}, not {called!r}",
            hint=f"Correct {entry.vault_path} in Vault, or dbname in the registry.",
        )
    version = program_version(settings.pg_bin / "pg_dump")
    with (
        exclusive(uri, entry.name),
        exported_snapshot(
            uri,
            lambda server: check_versions(version, server),
            jobs=settings.digest_jobs,
            digests=entry.proof == "digests",
        ) as snapshot,
    ):
        yield Origin(
            dump_stage(settings.pg_bin, uri, snapshot.identifier),
            snapshot.source.size,
            lambda: {
                "source": snapshot.source,
                "pg_dump_version": version,
                "tables": snapshot.inventory.tables(),
                "sequences": snapshot.sequences(),
                "extensions": snapshot.extensions,
                "unvalidated": snapshot.unvalidated,
            },
            check=snapshot.inventory.check,
            finish=snapshot.inventory.tables,
        )


@contextmanager
def _globals(settings: Settings, entry: Entry) -> Iterator[Origin]:
    """Open a server's roles, memberships and tablespaces.

    Without passwords, which only a superuser may read: who needs one has it in Vault.
    """
    uri = _uri(settings)
    version = program_version(settings.pg_bin / "pg_dumpall")
    argv: list[str | Path] = [
        settings.pg_bin / "pg_dumpall", "--globals-only", "--no-role-passwords", "--no-password",
        f"--database={uri.database()}",
    ]  # fmt: skip
    with exclusive(uri, entry.name):
        with uri.connect("backup-globals") as connection:
            check_versions(version, connection.info.server_version)
            source = describe(connection).model_copy(update={"roles": roles_of_server(connection)})
        facts = {"source": source, "pg_dump_version": version}
        yield Origin(Stage(argv, uri.environment()), 0, lambda: facts)


@contextmanager
def _cluster(settings: Settings, entry: Entry) -> Iterator[Origin]:
    given = {name: os.environ[name] for name in os.environ if name.startswith(Settings.PREFIX)}
    inherited = {name: os.environ[name] for name in OF_PYTHON if name in os.environ}
    argv = [sys.executable, "-m", "backup.cluster", entry.kind]
    settings.address(entry.kind)
    yield Origin(Stage(argv, plain_environment() | inherited | given), 0, dict, locked=False)


def _uri(settings: Settings) -> PostgresUri:
    return PostgresUri(settings.secret(DATABASE_URI), str(settings.secret_path(DATABASE_URI)))


_KINDS: dict[Kind, Callable[[Settings, Entry], AbstractContextManager[Origin]]] = {
    "database": _database,
    "globals": _globals,
    "nomad": _cluster,
    "vault": _cluster,
}


def opened(settings: Settings, entry: Entry) -> AbstractContextManager[Origin]:
    """Open ``entry`` for a dump, under its lock where it has one; raises if it cannot be dumped."""
    return _KINDS[entry.kind](settings, entry)
