"""The copies that are kept for thirteen months: made inside the bucket, by a key of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backup.bucket.catalogue import monthly_folder
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from backup.bucket.catalogue import Backup, Catalogue
    from backup.openpgp.signature import Signers
    from backup.registry import Entry

log = get_logger(__name__)


def due(backups: Sequence[Backup], kept: Sequence[Backup], now: datetime) -> Backup | None:
    """Return the newest of ``backups`` unless it or one of this month is ``kept``; oldest first.

    A month is a calendar month, UTC. None as well if there is no backup at all.
    """
    there = {backup.id for backup in kept}
    months = {(backup.started.year, backup.started.month) for backup in kept}
    if not backups or backups[-1].id in there or (now.year, now.month) in months:
        return None
    return backups[-1]


def keep(
    catalogue: Catalogue, prefix: str, entries: Sequence[Entry], signers: Signers, now: datetime
) -> list[Backup]:
    """Copy what is due of each of ``entries`` and return it.

    The manifest is copied last here too, so the next run finishes a copy that was cut short. Raises
    :class:`Failure` behind the last entry, if some could not be copied.
    """
    store = catalogue.store
    copied, failed = [], []
    for entry in entries:
        folder = monthly_folder(prefix, entry.name)
        try:
            made = catalogue.made(entry.name)
            backup = due(made, catalogue.kept(entry.name), now)
            if backup is None:
                if not made:
                    failed.append(f"{entry.name} has no backup")
                continue
            catalogue.manifest(backup, signers)  # or somebody else's would be kept for a year
            store.cancel_unfinished(f"{folder}/")
            for place in backup.places:
                name = place.name.rpartition("/")[2]
                store.copy(place.file_id, f"{folder}/{name}", place.size)
        except Failure as error:
            failed.append(error.message)
            continue
        log.info("copied", database=entry.name, id=backup.id, size=backup.size)
        copied.append(backup)
    if failed:
        raise Failure(
            f"not all monthly copies were made: {'; '.join(failed)}",
            hint="The others are there; run it again when the cause is mended.",
        )
    return copied
