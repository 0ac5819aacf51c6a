"""The newest backups and what their drills proved, as the bucket has it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backup.bucket.catalogue import Catalogue, open_catalogue
from backup.deadline import TimeOver, time_limit
from backup.proof.coverage import DRILLED, FRESH
from backup.proof.kept import LOOKED_AT, kept_reports
from backup.proof.report import DrillReport, human_age, human_bytes, last_results
from backup.registry import load_registry
from frame.failure import Failure
from scripts.row import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.access import Access

B2_SECONDS = 10  # for one table


@contextmanager
def bucket(platform: Access) -> Iterator[Catalogue]:
    """Yield the backups in the bucket. Raises Failure, also if B2 does not answer in time."""
    try:
        with time_limit(B2_SECONDS), open_catalogue(platform.backups) as catalogue:
            yield catalogue
    except TimeOver as over:
        raise Failure(str(over), "Look whether B2 is well, and at the way to it.") from over


def backups(platform: Access) -> list[Row]:
    """Return the newest backup of all that is in the registry, with size and age."""
    now = datetime.now(UTC)
    settings = platform.backups
    with bucket(platform) as catalogue:
        entries = load_registry(settings.registry).entries
        backups = {entry.name: catalogue.backups(entry.name)[-1:] for entry in entries}
        newest = [each for found in backups.values() for each in found]
        opened = {
            backup.id: manifest
            for backup, manifest in zip(newest, catalogue.manifests(newest), strict=True)
        }
    rows = []
    for name, found in backups.items():
        if not found:
            rows.append(Row(name, "no backup", well=False))
            continue
        (backup,) = found
        manifest = opened[backup.id]
        age = backup.age_seconds(now)
        why = f": {manifest.message}" if isinstance(manifest, Failure) else ""
        rows.append(
            Row(
                name,
                f"{human_bytes(backup.size)}, {human_age(age)} old{why}",
                age < FRESH.total_seconds() and not why,
                {"id": backup.id, "bytes": backup.size, "age_seconds": age},
            )
        )
    return rows


def drill(platform: Access) -> list[Row]:
    """Return how the newest drill of all that is in the registry ended."""
    now = datetime.now(UTC)
    settings = platform.backups
    entries = load_registry(settings.registry).entries
    drilled = last_results(_reports(platform, LOOKED_AT), now)
    rows = []
    for entry in entries:
        if entry.name not in drilled:
            rows.append(Row(entry.name, "never drilled", well=False))
            continue
        when, result = drilled[entry.name]
        seconds = result.restore_seconds
        rows.append(
            Row(
                entry.name,
                result.verdict + (f", restored in {seconds:.1f} s" if seconds else ""),
                result.verdict == "equal" and now - when < DRILLED,
                result.model_dump(mode="json"),
            )
        )
    return rows


def newest_report(platform: Access) -> DrillReport | None:
    """Return the report of the last drill, ``None`` if there was none."""
    return next(iter(_reports(platform, 1)), None)


def _reports(platform: Access, count: int) -> list[DrillReport]:
    settings = platform.backups
    with bucket(platform) as catalogue:
        signers = catalogue.opener.signers
        return kept_reports(catalogue.store, settings.prefix, count, signers)
