"""A database: pg_dump in a snapshot, pg_restore, every row compared."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo

from backup.attempt import Changed, Disturbed, EndedEarly
from backup.kinds.globals import needs_of, roles_of_night
from backup.kinds.origin import Origin, Proof
from backup.manifest import Gap
from backup.pipeline import ChildFailed, Stage
from backup.postgres.connection import KEEPALIVES, source_uri
from backup.postgres.programs import program_version, programs, server_major
from backup.registry import Database
from backup.restoration.steps import Encrypted, Place, Restored
from backup.restoration.steps import restore as restore_in_steps
from backup.restoration.target import Wanted
from backup.scratch.server import scratch_server
from backup.source.causes import OF_STANDBY
from backup.source.changes import changed_since
from backup.source.contents import LARGE_OBJECTS
from backup.source.digests import reason
from backup.source.gaps import find_gaps
from backup.source.schema import Contents, read_contents
from backup.source.sessions import DUMP, PROOF
from backup.source.snapshot import as_dumped, exclusive, exported_snapshot
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from backup.attempt import Attempt
    from backup.bucket.catalogue import Catalogue
    from backup.manifest import Manifest
    from backup.openpgp.crypt import Keyring
    from backup.postgres.connection import PostgresUri
    from backup.registry import Entry
    from backup.restoration.roles import Roles
    from backup.settings import Settings
    from backup.source.snapshot import Snapshot

WORDS = "an archive of pg_dump"
# Of pg_dump for what the snapshot's session holds: only who waits for that session is before it.
LOCK_WAIT = "3s"
CHANGES_WAIT = "20s"  # beside which the dump stands still
SHOWN = 5  # names in a message
# A gap's kind. Not `rows`, by which databases.toml accepts that a table shrinks.
NOT_DUMPED = "rows not dumped"
# The throwaway server has no place for tablespaces, and perhaps not every locale of the source's.
DRILLED = Wanted(
    jobs=1, create=True, create_roles=True, tablespaces="skip", keep_going=True, check=True,
    any_locale=True,
)  # fmt: skip


def dump_stage(pg_bin: Path, uri: PostgresUri, snapshot_id: str) -> Stage:
    """Return pg_dump, which does not compress: its own zlib is slower than all else together."""
    argv: list[str | Path] = [
        pg_bin / "pg_dump", "--format=custom", "--compress=0", "--no-password",
        f"--snapshot={snapshot_id}", f"--lock-wait-timeout={LOCK_WAIT}",
        # All else about the server is in the environment. It stands still while an upload waits.
        f"--dbname={make_conninfo(dbname=uri.database(), **KEEPALIVES)}",
    ]  # fmt: skip
    return Stage(argv, uri.environment())


def alone(settings: Settings, entry: Entry) -> AbstractContextManager[bool]:
    """Keep others from dumping this database."""
    uri = source_uri(settings)
    called = entry.called if isinstance(entry, Database) else entry.name
    if uri.database() != called:
        raise WrongUse(
            f"the URI of {entry.name} names the database {uri.database()!r}, not {called!r}",
            hint=f"Correct {entry.vault_path} in Vault, or dbname in the registry.",
        )
    return exclusive(uri, entry.name)


@contextmanager
def dump(settings: Settings, entry: Entry, attempt: Attempt) -> Iterator[Origin]:
    """Open a snapshot of the database and yield pg_dump, ready to run in it."""
    uri = source_uri(settings)
    pg_bin = programs(settings.pg_root, server_major(uri))
    version = program_version(pg_bin / "pg_dump")
    with exported_snapshot(uri, attempt) as snapshot:
        dumped = _Dumped(settings, entry, attempt, uri, pg_bin, snapshot)
        yield Origin(
            dump_stage(pg_bin, uri.named(f"{DUMP}-{attempt.name}"), snapshot.identifier),
            lambda: {"pg_dump_version": version, **dumped.facts()},
            begin=dumped.begin,
            check=dumped.check,
            finish=dumped.finish,
            explain=lambda error, plain_size: _explain(snapshot, error, plain_size),
            look=dumped.look,
        )


@dataclass
class _Dumped:
    """A database while it is dumped."""

    settings: Settings
    entry: Entry
    attempt: Attempt
    uri: PostgresUri
    pg_bin: Path
    snapshot: Snapshot
    gaps: tuple[Gap, ...] = ()
    contents: Contents | None = None
    changed: tuple[str, ...] = ()
    # Why there are none of these.
    no_contents: str = "the head of the dump was not read"
    no_changes: str = "they were not looked for"

    def look(self, head: IO[bytes]) -> None:
        """Read what the dump begins with, and what was changed while pg_dump made it."""
        purpose = f"backup-changes-{self.attempt.name}"
        try:
            self.contents = read_contents(head)
            self.changed = changed_since(
                lambda: self.uri.connect(purpose, statement_timeout=CHANGES_WAIT),
                self.snapshot.identifier,
            )
            self.no_changes = ""
        except Failure as error:
            self.no_contents = self.no_changes = error.message
        except psycopg.Error as error:
            self.no_changes = reason(error)

    def begin(self) -> int:
        """Read the catalogue and begin the proofs, beside pg_dump; return the bytes to expect."""
        self.snapshot.begin(
            lambda: self.uri.connect(f"{PROOF}-{self.attempt.name}"),
            self.settings.digest_jobs,
            digests=self.entry.proof == "digests",
        )
        purpose = f"backup-gaps-{self.attempt.name}"
        with self.uri.connect(purpose, lock_timeout=LOCK_WAIT) as connection:
            self.gaps = find_gaps(connection)
        return self.snapshot.source.size

    def check(self) -> None:
        """Raise :class:`Disturbed` if the attempt was ended, or is not of one moment."""
        self.snapshot.watch.check()
        if self.changed and self.attempt.starts_over():
            raise Changed(
                f"changed while pg_dump read it: {', '.join(self.changed[:SHOWN])}",
                hint="Run it at a time when nobody makes or drops such objects all the while.",
            )

    def finish(self) -> None:
        """Wait for the proofs, and let go of the source."""
        self.check()
        self.snapshot.finish()

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        contents = self.contents or Contents((), frozenset(), {})
        return {
            "source": self.snapshot.source,
            "tables": self.snapshot.tables,
            "sequences": as_dumped(self.snapshot.sequences, contents.sequences),
            "extensions": self.snapshot.extensions,
            "unvalidated": self.snapshot.unvalidated,
            "warnings": tuple(self.snapshot.watch.warnings),
            "objects": contents.objects,
            "gaps": (*self.gaps, *self._of_dump()),
        }

    def _of_dump(self) -> Iterator[Gap]:
        """Yield what is known to be wrong with the dump, or not known of it."""
        if self.contents is None:
            yield Gap(kind="proof", name="schema", why=self.no_contents)
            return
        if self.no_changes:
            yield Gap(kind="proof", name="changes", why=self.no_changes)
        for name in self.changed:
            yield Gap(
                kind="changed", name=name,
                why="it was changed while pg_dump read it, so it may not come back as it was",
            )  # fmt: skip
        with_rows = {*self.contents.with_rows, LARGE_OBJECTS}
        for table in self.snapshot.tables:
            key = table.schema_name, table.table
            if table.rows and key not in with_rows:
                why = "pg_dump wrote none of its rows"
                yield Gap(kind=NOT_DUMPED, name=".".join(key), why=why)


def _explain(snapshot: Snapshot, error: Failure, plain_size: int) -> Failure:
    """Return why a dump really failed: it gave way, or what it began with changed below it."""
    try:
        snapshot.watch.check()
    except Disturbed as cause:
        return cause
    if isinstance(error, ChildFailed) and "pg_dump" in error.programs:
        if snapshot.is_of_standby:
            return EndedEarly(error.message, OF_STANDBY)
        if not plain_size:
            return EndedEarly(error.message, error.hint)
    return error


def restore(
    settings: Settings,
    catalogue: Catalogue,
    backup: Encrypted,
    target: PostgresUri,
    wanted: Wanted,
) -> Restored:
    """Restore ``backup``, which must be one of a database, into ``target``. Raises Failure.

    Its roles, if they are to be made, come from the globals of the same night.
    """

    def roles() -> tuple[Roles, str]:
        return roles_of_night(settings, catalogue, backup.ring, backup.manifest)

    return restore_in_steps(backup, target, wanted, place_of(settings), roles)


def place_of(settings: Settings) -> Place:
    """Return where a restore works."""
    return Place(settings.scratch, settings.pg_root)


def prove(
    settings: Settings, catalogue: Catalogue, ring: Keyring, manifest: Manifest, jobs: int
) -> Proof:
    """Restore into a throwaway server as a person would, and compare."""
    backup = Encrypted(catalogue.store, manifest, ring)
    name = f"drill_{manifest.database}"
    with scratch_server(settings, needs_of(manifest, name)) as server:
        target = server.uri(name)
        restored = restore(settings, catalogue, backup, target, replace(DRILLED, jobs=jobs))
    failed = [f"{each.described} did not load: {each.error}" for each in restored.failed]
    found = (*failed, *restored.differences)
    steps = restored.timings
    return Proof(steps.total, manifest.server.size, found, steps, restored.slowest)
