"""Where what is in the bucket: one folder a purpose, so that a key can be bound to one.

::

    <env>/daily/<name>/<id>.dump.zst.gpg            what the jobs write, each with the writer's key
    <env>/daily/<name>/<id>.manifest.json.gpg.asc   the manifest's signature
    <env>/daily/<name>/<id>.manifest.json.gpg       last: it makes a backup of the others
    <env>/monthly/<name>/...                        the copies, by the copier's key
    <env>/drills/<time>.json, .json.asc, .html      the reports, by the drill's key

Before, the jobs wrote to ``<env>/<name>/``, and manifests in plaintext as ``<id>.manifest.json``.
Both are read, wherever they are.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, BaseModel, ConfigDict

from backup.registry import DAILY, MONTHLY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backup.bucket.versions import StoredObject

DAY_MS = 86_400_000
DUMP = ".dump.zst.gpg"
MANIFEST = ".manifest.json.gpg"
PLAIN_MANIFEST = ".manifest.json"  # of the old layout
SIGNATURE = ".asc"  # behind a manifest's name
ID_TIME = "%Y%m%dT%H%M%SZ"
ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")


class Place(BaseModel):
    """Where an object is: its name, the version that counts, and what B2 says of it.

    ``stood`` is for how many days it did before something newer of its name hid it. ``twins`` are
    the versions that lost answers had uploaded once more.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    file_id: str
    size: int
    uploaded: AwareDatetime
    stood: float | None = None
    sha1: str | None = None
    twins: tuple[str, ...] = ()


class Backup(BaseModel):
    """One complete backup in the bucket, or a copy of one that is kept longer.

    ``started`` is when B2 took its dump, by B2's own clock: a host's clock and what is in a name
    order nothing. A copy is made later, so of one it is :attr:`taken`.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    database: str
    started: AwareDatetime
    size: int
    dump: Place
    manifest: Place
    signature: Place | None = None
    copied: bool = False

    @property
    def places(self) -> tuple[Place, ...]:
        """Its objects, the manifest, which makes a backup of them, last."""
        return tuple(filter(None, (self.dump, self.signature, self.manifest)))

    @property
    def encrypted(self) -> bool:
        """Whether its manifest is encrypted, as all are but those of the old layout."""
        return self.manifest.name.endswith(MANIFEST)

    @property
    def taken(self) -> datetime:
        """How old the data is by its host's word, the id, or by B2's clock if that is earlier."""
        return min(self.dump.uploaded, id_time(self.id))

    def stood(self) -> float | None:
        """Return for how many days it stood before anything of it was hidden, None if nothing is.

        B2 deletes what is hidden when the bucket's rules say so.
        """
        return min((place.stood for place in self.places if place.stood is not None), default=None)

    def age_seconds(self, now: datetime) -> float:
        """Return how old the data in it is."""
        return (now - self.started).total_seconds()


def new_id(started: datetime, random: str) -> str:
    """Return a backup's id: its time, for people, and ``random`` hexadecimal digits."""
    return f"{started.astimezone(UTC):{ID_TIME}}-{random}"


def id_time(identifier: str) -> datetime:
    """Return the time in a backup's id, which is the word of the host that made it."""
    try:
        return datetime.strptime(identifier.partition("-")[0], ID_TIME).replace(tzinfo=UTC)
    except ValueError:  # no date: of nobody here, as its manifest will show
        return datetime.max.replace(tzinfo=UTC)


def daily_folder(prefix: str, database: str) -> str:
    """Return where the backups of ``database`` are made, without a slash at the end."""
    return f"{prefix}/{DAILY}/{database}"


def old_folder(prefix: str, database: str) -> str:
    """Return where they were made before there was a folder a purpose."""
    return f"{prefix}/{database}"


def monthly_folder(prefix: str, database: str) -> str:
    """Return where the copies are that are kept longer."""
    return f"{prefix}/{MONTHLY}/{database}"


def purpose_folders(prefix: str) -> tuple[str, ...]:
    """Return the folders in which each thing that is backed up has one of its own."""
    return (prefix, f"{prefix}/{DAILY}", f"{prefix}/{MONTHLY}")


def dump_name(folder: str, identifier: str) -> str:
    """Return the object name of an encrypted dump."""
    return f"{folder}/{identifier}{DUMP}"


def manifest_name(folder: str, identifier: str) -> str:
    """Return the object name of a manifest."""
    return f"{folder}/{identifier}{MANIFEST}"


def pair(
    folder: str, database: str, objects: Iterable[StoredObject], *, copied: bool = False
) -> list[Backup]:
    """Return the backups of ``folder``, oldest first: those with both dump and manifest."""
    by_name = {stored.name: stored for stored in objects}
    backups: dict[str, Backup] = {}
    for suffix in (PLAIN_MANIFEST, MANIFEST):  # of one that has both, the encrypted one counts
        for name, manifest in by_name.items():
            identifier = name.removeprefix(f"{folder}/").removesuffix(suffix)
            dump = by_name.get(dump_name(folder, identifier))
            if not name.endswith(suffix) or dump is None or not ID.fullmatch(identifier):
                continue
            signature = by_name.get(name + SIGNATURE)
            place = _place(dump)
            backups[identifier] = Backup(
                id=identifier,
                database=database,
                started=min(place.uploaded, id_time(identifier)) if copied else place.uploaded,
                size=dump.size,
                dump=place,
                manifest=_place(manifest),
                signature=_place(signature) if signature else None,
                copied=copied,
            )
    return in_order(backups.values())


def in_order(backups: Iterable[Backup]) -> list[Backup]:
    """Return ``backups``, oldest first."""
    return sorted(backups, key=lambda backup: (backup.started, backup.id))


def merged(backups: Iterable[Backup]) -> list[Backup]:
    """Return each backup once, oldest first: of one id the one that B2 has had for longest.

    What was made comes before its copy, and both before what somebody with the writer's key put
    beside it under the same id.
    """
    first: dict[str, Backup] = {}
    for backup in backups:
        other = first.get(backup.id)
        if other is None or backup.dump.uploaded < other.dump.uploaded:
            first[backup.id] = backup
    return in_order(first.values())


def _place(stored: StoredObject) -> Place:
    return Place(
        name=stored.name,
        file_id=stored.file_id,
        size=stored.size,
        uploaded=stored.uploaded_at,
        stood=None if stored.hidden is None else (stored.hidden - stored.uploaded) / DAY_MS,
        sha1=stored.sha1,
        twins=stored.twins,
    )
