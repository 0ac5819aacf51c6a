"""The copies that are kept for thirteen months: made inside the bucket, by a key of their own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from backup.bucket.layout import monthly_folder
from backup.openpgp.signature import NotTrusted
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from backup.bucket.catalogue import Catalogue, Chosen
    from backup.bucket.layout import Backup, Place
    from backup.bucket.store import Store
    from backup.bucket.versions import StoredObject
    from backup.registry import Entry

log = get_logger(__name__)


def due(backups: Sequence[Backup], kept: Sequence[Backup], now: datetime) -> list[Backup]:
    """Return ``backups``, newest first, to copy the first that is trusted; none if one is kept.

    That is the newest itself, or one of this calendar month, UTC.
    """
    there = {backup.id for backup in kept}
    months = {(backup.taken.year, backup.taken.month) for backup in kept}
    if not backups or backups[-1].id in there or (now.year, now.month) in months:
        return []
    return list(reversed(backups))


def keep(
    catalogue: Catalogue, prefix: str, entries: Sequence[Entry], now: datetime
) -> list[Backup]:
    """Copy what is due of each of ``entries`` and return it.

    A copy counts that has its own signed manifest and is what that one says; junk in its place does
    not. Raises :class:`Failure` behind the last entry, if some could not be copied.
    """
    copied, failed = [], []
    for entry in entries:
        try:
            made = catalogue.made(entry.name)
            if not made:
                failed.append(f"{entry.name} has no backup")
                continue
            candidates = due(made, _trusted(catalogue, entry.name, made[-1], now), now)
            if not candidates:
                continue
            chosen = catalogue.newest(candidates)
            _copy(catalogue.store, monthly_folder(prefix, entry.name), chosen)
        except Failure as error:
            failed.append(error.message)
            continue
        backup = chosen.backup
        log.info("copied", database=entry.name, id=backup.id, size=backup.size)
        copied.append(backup)
    if failed:
        raise Failure(
            f"not all monthly copies were made: {'; '.join(failed)}",
            hint="The others are there; run it again when the cause is mended.",
        )
    return copied


def _trusted(catalogue: Catalogue, database: str, newest: Backup, now: datetime) -> list[Backup]:
    """Return the copies that could make another needless, and are what their manifests say."""
    copies = [
        copy
        for copy in catalogue.kept(database)
        if copy.id == newest.id or (copy.taken.year, copy.taken.month) == (now.year, now.month)
    ]
    trusted = []
    for copy, manifest in zip(copies, catalogue.manifests(copies), strict=True):
        if isinstance(manifest, NotTrusted):
            log.warning("copy does not count", database=database, id=copy.id, why=manifest.message)
        elif isinstance(manifest, Failure):
            raise manifest
        else:
            trusted.append(copy)
    return trusted


def _copy(store: Store, folder: str, chosen: Chosen) -> None:
    """Copy a backup, its manifest last, so that the next run finishes what was cut short."""
    store.cancel_unfinished(f"{folder}/")
    there = {stored.name: stored for stored in store.list(folder)}
    for place in chosen.backup.places:
        name = f"{folder}/{place.name.rpartition('/')[2]}"
        if earlier := there.get(name):
            sha256 = chosen.manifest.dump.sha256 if place == chosen.backup.dump else None
            _require_same(store, earlier, place, sha256)
        else:
            store.copy(place.file_id, name, place.size)


def _require_same(store: Store, earlier: StoredObject, place: Place, sha256: str | None) -> None:
    """Raise :class:`NotTrusted` unless an earlier try has copied ``place`` to ``earlier``.

    A second version would hide the first, so it stays. Where B2 has no SHA-1, of a large file, it
    is read: anybody's bytes may have that size.
    """
    same = earlier.size == place.size and earlier.sha1 == place.sha1
    if same and place.sha1 is None:
        digest = hashlib.sha256()
        for block in store.stream(earlier.name, earlier.file_id):
            digest.update(block)
        same = digest.hexdigest() == sha256
    if not same:
        raise NotTrusted(
            f"object {earlier.name} is no copy of {place.name}",
            hint="Somebody put it there: find out who has the copier's key, then delete it.",
        )
