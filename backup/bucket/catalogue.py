"""What backups there are: pairs of a dump and its manifest, found by listing alone.

Listing needs no right to read, so the writer's key can tell the newest backup and its age.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, BaseModel, ConfigDict

from backup.bucket.store import open_store
from backup.manifest import Manifest, parse_manifest
from backup.registry import MONTHLY
from backup.settings import B2_KEY
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from backup.bucket.store import Store, StoredObject
    from backup.openpgp.signature import Signers
    from backup.registry import Entry
    from backup.settings import Settings

DAY_MS = 86_400_000
DUMP = ".dump.zst.gpg"
MANIFEST = ".manifest.json"
SIGNATURE = ".asc"  # behind a manifest's name
ID_TIME = "%Y%m%dT%H%M%SZ"
ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")


class Place(BaseModel):
    """Where an object is: its name, and the version that counts.

    ``stood`` is for how many days it did before something newer of its name hid it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    file_id: str
    size: int
    stood: float | None = None


class Backup(BaseModel):
    """One complete backup in the bucket."""

    model_config = ConfigDict(frozen=True)

    id: str
    database: str
    started: AwareDatetime
    size: int
    dump: Place
    manifest: Place
    signature: Place | None = None

    @property
    def places(self) -> tuple[Place, ...]:
        """Its objects, the manifest, which makes a backup of them, last."""
        return tuple(filter(None, (self.dump, self.signature, self.manifest)))

    def stood(self) -> float | None:
        """Return for how many days it stood before anything of it was hidden, None if nothing is.

        B2 deletes what is hidden when the bucket's rules say so.
        """
        return min((place.stood for place in self.places if place.stood is not None), default=None)

    def age_seconds(self, now: datetime) -> float:
        """Return how old the data in it is."""
        return (now - self.started).total_seconds()


def new_id(started: datetime, random: str) -> str:
    """Return a backup's id: its time, so that ids sort, and ``random`` hexadecimal digits."""
    return f"{started.astimezone(UTC):{ID_TIME}}-{random}"


def daily_folder(prefix: str, database: str) -> str:
    """Return where the backups of ``database`` are made, without a slash at the end."""
    return f"{prefix}/{database}"


def monthly_folder(prefix: str, database: str) -> str:
    """Return where the copies are that are kept longer."""
    return f"{prefix}/{MONTHLY}/{database}"


def dump_name(folder: str, identifier: str) -> str:
    """Return the object name of an encrypted dump."""
    return f"{folder}/{identifier}{DUMP}"


def manifest_name(folder: str, identifier: str) -> str:
    """Return the object name of a manifest."""
    return f"{folder}/{identifier}{MANIFEST}"


def pair(folder: str, database: str, objects: Iterable[StoredObject]) -> list[Backup]:
    """Return the backups of ``folder``, oldest first: those with both dump and manifest."""
    by_name = {stored.name: stored for stored in objects}
    backups = []
    for name, manifest in by_name.items():
        identifier = name.removeprefix(f"{folder}/").removesuffix(MANIFEST)
        dump = by_name.get(dump_name(folder, identifier))
        if not name.endswith(MANIFEST) or dump is None or not ID.fullmatch(identifier):
            continue
        signature = by_name.get(name + SIGNATURE)
        backups.append(
            Backup(
                id=identifier,
                database=database,
                started=datetime.strptime(identifier.partition("-")[0], ID_TIME).replace(
                    tzinfo=UTC
                ),
                size=dump.size,
                dump=_place(dump),
                manifest=_place(manifest),
                signature=_place(signature) if signature else None,
            )
        )
    return sorted(backups, key=lambda backup: backup.id)


def merged(made: Iterable[Backup], copies: Iterable[Backup]) -> list[Backup]:
    """Return all of them, oldest first; of one that has a copy, the one where it was made."""
    found = {backup.id: backup for backup in (*copies, *made)}
    return [found[identifier] for identifier in sorted(found)]


def _place(stored: StoredObject) -> Place:
    stood = None if stored.hidden is None else (stored.hidden - stored.uploaded) / DAY_MS
    return Place(name=stored.name, file_id=stored.file_id, size=stored.size, stood=stood)


class Catalogue:
    """The backups of one environment, and the one session with B2 that a command has."""

    def __init__(self, store: Store, prefix: str) -> None:
        self.store = store
        self._prefix = prefix

    def backups(self, database: str) -> list[Backup]:
        """Return all backups of ``database``, oldest first; one with a copy is told once."""
        return merged(self.made(database), self.kept(database))

    def made(self, database: str) -> list[Backup]:
        """Return the backups of ``database`` where its job makes them, oldest first."""
        return self._pairs(daily_folder(self._prefix, database), database)

    def kept(self, database: str) -> list[Backup]:
        """Return the copies that are kept longer, oldest first."""
        return self._pairs(monthly_folder(self._prefix, database), database)

    def _pairs(self, folder: str, database: str) -> list[Backup]:
        return pair(folder, database, self.store.list(folder))

    def find(
        self,
        databases: Sequence[Entry],
        identifier: str | None = None,
        at: datetime | None = None,
    ) -> Backup:
        """Return the backup ``identifier`` of any of ``databases``, or the newest of them.

        With ``at`` it is the newest of those whose data is not younger than that.
        """
        found = [backup for database in databases for backup in self.backups(database.name)]
        what = identifier or "at all"
        if identifier is not None:
            found = [backup for backup in found if backup.id == identifier]
        if at is not None:
            found = [backup for backup in found if backup.started <= at]
            what += f" from {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC or before"
        if not found:
            names = ", ".join(database.name for database in databases)
            raise Failure(
                f"no backup {what} of {names} under {self._prefix}/",
                hint="`backup list` shows the backups that are complete.",
            )
        return max(found, key=lambda backup: backup.id)

    def manifest(self, backup: Backup, signers: Signers) -> Manifest:
        """Read the manifest of ``backup``, check its signature, and that it is this backup's.

        What it says of the dump's place gives way to where it was found: a copy is elsewhere.
        """
        name = backup.manifest.name
        data = self._get(backup.manifest)
        signers.check(
            name,
            backup.database,
            data,
            self._get(backup.signature) if backup.signature else None,
        )
        manifest = parse_manifest(name, data)
        made_as = dump_name(daily_folder(self._prefix, backup.database), backup.id)
        told = (manifest.id, manifest.database, manifest.dump.name)
        if told != (backup.id, backup.database, made_as):
            raise Failure(
                f"manifest {name} tells of {manifest.dump.name}",
                hint="Somebody moved or rewrote it; use another backup and find out who.",
            )
        place = {"name": backup.dump.name, "file_id": backup.dump.file_id}
        return manifest.model_copy(update={"dump": manifest.dump.model_copy(update=place)})

    def _get(self, place: Place) -> bytes:
        return self.store.get(place.name, place.file_id)


@contextmanager
def open_catalogue(
    settings: Settings, told: Callable[[int], None] = lambda _size: None
) -> Iterator[Catalogue]:
    """Authorise with the key of ``b2.json``, once, and yield the environment's backups.

    ``told`` hears of bytes, as :class:`backup.bucket.store.Store`'s.
    """
    with open_store(settings, settings.b2_key(B2_KEY), told) as store:
        yield Catalogue(store, settings.prefix)
