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
from backup.postgres.programs import VERSION_UNIT, program_version, programs, server_major
from backup.registry import load_registry
from backup.restoration.roles import Roles, differences, make_roles, parse_roles
from backup.restoration.unpack import extract
from backup.scratch.directory import private_directory
from backup.scratch.lease import Needs
from backup.scratch.server import scratch_server
from backup.source.snapshot import describe, exclusive, roles_of_server
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from backup.attempt import Attempt
    from backup.bucket.catalogue import Catalogue
    from backup.bucket.store import Store
    from backup.manifest import Manifest
    from backup.openpgp.crypt import Keyring
    from backup.registry import Entry, Registry
    from backup.settings import Settings

WORDS = "a server's roles, as SQL"
NEAREST = 5  # globals that are looked at: one that cannot be trusted gives way to another

log = get_logger(__name__)


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
    yield Origin(Stage(argv, uri.environment()), lambda: facts)


def needs_of(manifest: Manifest, database: str = "postgres") -> Needs:
    """Return a throwaway server that can hold what ``manifest`` tells of, in ``database``."""
    source = manifest.server
    settings = {"max_locks_per_transaction": str(source.max_locks)} if source.max_locks else {}
    return Needs(
        major=source.server_version // VERSION_UNIT,
        superuser=source.superuser,
        extensions=tuple(manifest.extensions),
        database=database,
        settings=settings,
    )


def prove(
    settings: Settings, catalogue: Catalogue, ring: Keyring, manifest: Manifest, jobs: int
) -> Proof:
    """Make the roles in a server of the drill's own, and let that one tell them."""
    with (
        private_directory(settings.scratch, "globals") as directory,
        scratch_server(settings, needs_of(manifest)) as server,
    ):
        began = time.monotonic()
        script = _read(directory, catalogue.store, ring, manifest)
        wanted = parse_roles(script)
        with server.uri("postgres").connect("drill") as connection:
            _, refused = make_roles(connection, wanted, login=True)
        seconds = time.monotonic() - began
        pg_bin = programs(settings.pg_root, server.major)
        found = run_tool(
            [pg_bin / "pg_dumpall", "--globals-only", "--no-role-passwords",
             "--database=postgres"],
            server.uri("postgres").environment(),
        )  # fmt: skip
    lost = [role for role in manifest.server.roles if role not in wanted.roles]
    return Proof(
        seconds,
        len(script.encode("utf-8", "surrogateescape")),
        (
            *(f"role {role} is not in the dump" for role in lost),
            *refused,
            *differences(wanted, parse_roles(found)),
        ),
    )


def roles_of_night(
    settings: Settings, catalogue: Catalogue, ring: Keyring, manifest: Manifest
) -> tuple[Roles, str]:
    """Return all roles of the server of ``manifest``, by its globals that are nearest in time.

    If there are none that can be trusted: no roles, and why.
    """
    why = f"no backup of the globals of its server ({manifest.server.system_identifier})"
    for name in _globals_of(load_registry(settings.registry), catalogue, manifest.database):
        near = sorted(
            catalogue.backups(name), key=lambda each: abs(each.started - manifest.started)
        )
        for candidate in near[:NEAREST]:
            try:
                found = catalogue.manifest(candidate)
                if found.server.system_identifier != manifest.server.system_identifier:
                    break
                with private_directory(settings.scratch, "globals") as directory:
                    roles = parse_roles(_read(directory, catalogue.store, ring, found))
            except Failure as failure:
                why = failure.message
                log.warning("globals passed over", id=candidate.id, why=why)
                continue
            log.info("roles of the server read", id=found.id, of=name)
            return roles, ""
    return Roles(), why


def _globals_of(registry: Registry, catalogue: Catalogue, database: str) -> list[str]:
    """Return what the globals of all servers are called, those of the database's own first.

    A server that left the registry has its in the bucket.
    """
    named = {server.name: server.globals.name for server in registry.server}
    own = [named[each.server] for each in registry.database if each.name == database]
    left = [name for name in catalogue.names() if name.endswith("_globals")]
    return list(dict.fromkeys([*own, *named.values(), *left]))


def _read(directory: Path, store: Store, ring: Keyring, manifest: Manifest) -> str:
    plain = directory / "globals.sql"
    extract(store, manifest, ring, plain)
    return plain.read_text(encoding="utf-8", errors="surrogateescape")
