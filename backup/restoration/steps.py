"""One restore, step by step: the same for a person at three in the morning and for the drill.

Look, roles, database, dump, settings, load, ANALYZE, the comparison, then what the database was
like. A drill brings a throwaway server and always compares.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import psycopg

from backup.loading.load import FailedObject, Slow, load, named_tables
from backup.postgres.connection import one_line
from backup.postgres.programs import major_of, programs, server_major
from backup.restoration.analyse import analyse_restored
from backup.restoration.comparison import compare, damage
from backup.restoration.definers import definers, keep_from_others
from backup.restoration.finding import Finding, refuse
from backup.restoration.findings import judge
from backup.restoration.look import gather
from backup.restoration.properties import Properties, apply, open_as_it_was, read_properties
from backup.restoration.roles import Role, Roles, make_roles
from backup.restoration.sessions import undisturbed, why_none_begins
from backup.restoration.target import Grantee, close_to_others, create_database, open_to
from backup.restoration.timings import Timings
from backup.restoration.unpack import unpack
from backup.scratch.directory import private_directory
from frame.failure import Failure, WrongUse
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backup.bucket.store import Store
    from backup.loading.selection import LeftOut
    from backup.manifest import Manifest
    from backup.openpgp.crypt import Keyring
    from backup.postgres.connection import Connection, PostgresUri
    from backup.restoration.target import Wanted

log = get_logger(__name__)


@dataclass(frozen=True)
class Encrypted:
    """A backup of a database in the bucket, and a private key. ``signed``: whether that is sure."""

    store: Store
    manifest: Manifest
    ring: Keyring
    signed: bool = True


@dataclass(frozen=True)
class Place:
    """Where a restore works: its scratch directory, and where the clients are of each version."""

    scratch: Path
    pg_root: Path

    def beside(self, path: Path) -> Place:
        """Return the place of a restore into the file ``path``, which is plain beside it first."""
        return Place(path.parent, self.pg_root)


@dataclass(frozen=True)
class Restored:
    """What came of a restore.

    ``failed`` did not load, ``left_out`` is what the options left out and nobody named; ``notes``
    is what else is worth knowing. ``differences`` is empty where nothing was compared, too.
    """

    failed: tuple[FailedObject, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    timings: Timings = field(default_factory=Timings)
    slowest: tuple[Slow, ...] = ()

    @property
    def unexplained(self) -> tuple[str, ...]:
        """The differences that no object accounts for which did not load or was left out."""
        missing = (*self.failed, *self.left_out)
        names = {f" {name} " for each in missing for name in each.called}
        return tuple(
            difference
            for difference in self.differences
            if not any(name in f" {difference} " for name in names)
        )


def look(
    backup: Encrypted, target: PostgresUri | None, wanted: Wanted, place: Place
) -> tuple[Finding, ...]:
    """Return what a restore into ``target``, or into a file, would meet. Changes nothing.

    Raises WrongUse if what is wanted makes no sense, or names tables that the backup has not.
    """
    _require_sense(backup.manifest, wanted)
    facts = gather(
        backup.manifest, backup.ring, target, (place.scratch, place.pg_root), signed=backup.signed
    )
    return judge(backup.manifest, wanted, facts, target.database() if target else "")


def _require_sense(manifest: Manifest, wanted: Wanted) -> None:
    named_tables(manifest, (*wanted.tables, *wanted.excluded))
    if wanted.check and (wanted.tables or wanted.excluded or wanted.beside):
        raise WrongUse(
            "a part of a backup cannot be compared with all of it",
            hint="Give --check with a restore of the whole database into one of its own.",
        )
    if wanted.schema and not wanted.tables:
        raise WrongUse(
            "only tables that are named go into another schema",
            hint="Give each by --table SCHEMA.TABLE.",
        )


def restore(
    backup: Encrypted,
    target: PostgresUri,
    wanted: Wanted,
    place: Place,
    all_roles: Callable[[], tuple[Roles, str]],
) -> Restored:
    """Restore a database as ``wanted``, which is what a drill does as well. Raises Failure.

    Nothing was changed if it raises before the roles are made; what may be there later is said.
    """
    manifest = backup.manifest
    began = time.monotonic()
    with private_directory(place.scratch, "restore") as directory:
        refuse(look(backup, target, wanted, place), manifest.database)
        calm = undisturbed(target, whole=wanted.everything)
        notes = list(_provide_roles(calm, manifest, wanted, all_roles))
        if wanted.create and create_database(calm, manifest.server, wanted):
            log.info("database made", database=target.database())
        prepared = time.monotonic() - began
        try:
            restored = _fill(backup, calm, target, wanted, replace(place, scratch=directory))
        except psycopg.Error as error:
            raise Failure(
                f"a session in database {target.database()} ended: {one_line(error)}",
                hint="Look whether somebody ended it, drop the database and repeat the restore.",
            ) from error
    restored = replace(restored, notes=(*notes, *restored.notes))
    restored.timings.other += prepared
    _report(manifest, restored)
    return restored


def _fill(
    backup: Encrypted, target: PostgresUri, as_it_is: PostgresUri, wanted: Wanted, place: Place
) -> Restored:
    """Load the dump into a database that others wait for, compare, and open it.

    By way of a file in the directory of ``place``: pg_restore reads no pipe when it works in
    parallel. ``as_it_is`` is the login of ``target`` with sessions as anybody's.
    """
    manifest, timings, began = backup.manifest, Timings(), time.monotonic()
    clients = programs(place.pg_root, major_of(manifest.pg_dump_version) or 0)
    plain = place.scratch / "dump"
    with target.connect("restore") as connection, _closed(connection, wanted) as closed:
        with _timed(timings, "download"):
            unpack(backup.store, manifest, backup.ring, plain)
        log.info("dump checked and unpacked", id=manifest.id, size=plain.stat().st_size)
        properties, notes = Properties(), []
        if wanted.everything:
            properties = read_properties(clients, plain, target.database(), wanted)
            notes += [f"setting: {why}" for why in apply(connection, properties.settings)]
            log.info("settings restored", settings=len(properties.settings))  # they hold secrets
            if why := why_none_begins(as_it_is):
                notes.append(f"setting: sessions cannot begin as they are set up: {why}")
        closed.begun = not wanted.whole
        before = definers(connection)
        loaded = load(clients, plain, target, wanted)
        timings.schema, timings.data = loaded.schema_seconds, loaded.data_seconds
        timings.indexes = loaded.index_seconds
        notes += loaded.warnings
        with _timed(timings, "analyse"):
            notes += [f"ANALYZE of {why}" for why in analyse_restored(target, wanted, manifest)]
        if wanted.owners == "skip":
            with target.connect("restore") as session:
                notes += keep_from_others(session, before)
        compared = time.monotonic()
        try:  # before others can write; whatever comes of it, the database is loaded
            differences = _differences(manifest, target, wanted, place) if wanted.check else ()
        finally:
            compared = time.monotonic() - compared
            if wanted.everything:
                with target.connect("restore") as opening:  # the first may be gone after hours
                    refused = open_as_it_was(opening, closed.grantees, properties)
                notes += [f"database: {why}" for why in refused]
    timings.other = time.monotonic() - began - compared - timings.total
    return Restored(
        loaded.failed, loaded.left_out, differences, tuple(notes), timings, loaded.slowest
    )


def _differences(
    manifest: Manifest, target: PostgresUri, wanted: Wanted, place: Place
) -> tuple[str, ...]:
    """Return what is not as it was, told by the programs that know both dump and server."""
    newest = max(major_of(manifest.pg_dump_version) or 0, server_major(target))
    clients = programs(place.pg_root, newest)
    owners = wanted.owners == "keep"
    return (
        *compare(manifest, target, wanted.jobs, clients, owners=owners),
        *damage(clients, target, wanted.jobs),
    )


@contextmanager
def _timed(timings: Timings, step: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    setattr(timings, step, time.monotonic() - began)


def _provide_roles(
    target: PostgresUri,
    manifest: Manifest,
    wanted: Wanted,
    all_roles: Callable[[], tuple[Roles, str]],
) -> Iterator[str]:
    """Make the roles that are missing, as they were; yield what they could not be given."""
    if wanted.owners == "skip" or not wanted.create_roles:
        return
    with target.connect_to_server("restore") as connection:
        there = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        missing = [role for role in manifest.server.roles if role not in there]
        if not missing:
            return
        roles, why = all_roles()
        if why:
            log.warning("roles are made without attributes and memberships", why=why)
            yield f"roles are bare: {why}"
            first = manifest.server.superuser  # what a superuser owns, only a superuser can
            roles = Roles({first: Role(first, ("SUPERUSER",))})
        try:
            made, refused = make_roles(connection, roles.around(missing))
        except psycopg.Error as error:
            raise Failure(
                f"roles cannot be created: {one_line(error)}",
                hint="Give a login with CREATEROLE, or --owners skip to own everything yourself.",
            ) from error
        log.info("roles made, without a login", roles=list(made))
        yield from refused


@dataclass
class _Closed:
    """Who could connect before. ``begun``: something of the backup may be in the database."""

    grantees: tuple[Grantee, ...] = ()
    begun: bool = False


@contextmanager
def _closed(connection: Connection, wanted: Wanted) -> Iterator[_Closed]:
    """Close a database that is restored as a whole; open it again if it is left as it was."""
    if not wanted.everything:
        yield _Closed()
        return
    closed = _Closed(close_to_others(connection))
    try:
        yield closed
    except BaseException:
        if closed.begun:
            log.warning("database is not whole, and stays closed", name=connection.info.dbname)
        else:
            with suppress(psycopg.Error):
                open_to(connection, closed.grantees)
        raise


def _report(manifest: Manifest, restored: Restored) -> None:
    for failed in restored.failed:
        log.error("not loaded", what=failed.described, why=failed.error)
    for left in restored.left_out:
        log.warning("left out", what=left.described, why=left.why)
    for note in restored.notes:
        log.warning("not as it was", what=note)
    log.info("restored", id=manifest.id, database=manifest.database, failed=len(restored.failed))
