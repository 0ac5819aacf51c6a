"""What backups there are: pairs of a dump and its manifest, found by listing alone.

Listing needs no right to read, so the writer's key can tell the newest backup and its age.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, BaseModel, ConfigDict

from backup.errors import BackupError
from backup.manifest import Manifest, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backup.registry import Database
    from backup.store import Store, StoredObject

DUMP = ".dump.zst.gpg"
MANIFEST = ".manifest.json"
ID_TIME = "%Y%m%dT%H%M%SZ"
ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")


class Backup(BaseModel):
    """One complete backup in the bucket."""

    model_config = ConfigDict(frozen=True)

    id: str
    database: str
    started: AwareDatetime
    size: int
    manifest_name: str
    manifest_file_id: str

    def age_seconds(self, now: datetime) -> float:
        """Return how old the data in it is."""
        return (now - self.started).total_seconds()


class Newest(BaseModel):
    """The newest backup of one database, or nulls if it has none."""

    model_config = ConfigDict(frozen=True)

    database: str
    backup_id: str | None = None
    size: int | None = None
    age_seconds: float | None = None


def new_id(started: datetime, random: str) -> str:
    """Return a backup's id: its time, so that ids sort, and ``random`` hexadecimal digits."""
    return f"{started.astimezone(UTC):{ID_TIME}}-{random}"


def dump_name(prefix: str, database: str, identifier: str) -> str:
    """Return the object name of an encrypted dump."""
    return f"{prefix}/{database}/{identifier}{DUMP}"


def manifest_name(prefix: str, database: str, identifier: str) -> str:
    """Return the object name of a manifest."""
    return f"{prefix}/{database}/{identifier}{MANIFEST}"


def pair(prefix: str, database: str, objects: Iterable[StoredObject]) -> list[Backup]:
    """Return the backups among ``objects``, oldest first: those with both dump and manifest."""
    by_name = {stored.name: stored for stored in objects}
    backups = []
    for name, manifest in by_name.items():
        identifier = name.removeprefix(f"{prefix}/{database}/").removesuffix(MANIFEST)
        dump = by_name.get(dump_name(prefix, database, identifier))
        if not name.endswith(MANIFEST) or dump is None or not ID.fullmatch(identifier):
            continue
        backups.append(
            Backup(
                id=identifier,
                database=database,
                started=datetime.strptime(identifier.partition("-")[0], ID_TIME).replace(
                    tzinfo=UTC
                ),
                size=dump.size,
                manifest_name=name,
                manifest_file_id=manifest.file_id,
            )
        )
    return sorted(backups, key=lambda backup: backup.id)


class Catalogue:
    """The backups of one environment."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def backups(self, database: str) -> list[Backup]:
        """Return all backups of ``database``, oldest first."""
        return pair(self._prefix, database, self._store.list(f"{self._prefix}/{database}"))

    def newest(self, database: str, now: datetime) -> Newest:
        """Return what to tell about the newest backup of ``database``."""
        found = self.backups(database)
        if not found:
            return Newest(database=database)
        last = found[-1]
        return Newest(
            database=database,
            backup_id=last.id,
            size=last.size,
            age_seconds=last.age_seconds(now),
        )

    def find(
        self,
        databases: Sequence[Database],
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
            raise BackupError(
                f"no backup {what} of {names} under {self._prefix}/",
                hint="`backup list` shows the backups that are complete.",
            )
        return max(found, key=lambda backup: backup.id)

    def manifest(self, backup: Backup) -> Manifest:
        """Read the manifest of ``backup`` and hold it against the name it was found under."""
        data = self._store.get(backup.manifest_name, backup.manifest_file_id)
        manifest = parse_manifest(backup.manifest_name, data)
        expected = dump_name(self._prefix, backup.database, backup.id)
        if (manifest.id, manifest.database, manifest.dump.name) != (
            backup.id,
            backup.database,
            expected,
        ):
            raise BackupError(
                f"manifest {backup.manifest_name} tells of {manifest.dump.name}",
                hint="Somebody moved or rewrote it; use another backup and find out who.",
            )
        return manifest
