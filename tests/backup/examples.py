"""Backups that nobody made, for decisions on plain values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backup.bucket.layout import Backup, Place, new_id
from backup.manifest import Source

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
SOURCE = Source(
    system_identifier=1, server_version=150018, encoding="UTF8", collate="C", ctype="C", size=9,
    roles=(),
)  # fmt: skip


def backup(
    name: str,
    age: timedelta = HOUR,
    size: int = 1000,
    *,
    signed: bool = True,
    folder: str = "made",
    stood: float | None = None,
) -> Backup:
    """Return a backup of ``age`` at :data:`NOW`; ``stood`` is how many days it was not hidden."""
    place = Place(name=f"{folder}/x", file_id="x", size=size, stood=stood, uploaded=NOW - age)
    return Backup(
        id=new_id(NOW - age, "00000000"), database=name, started=NOW - age, size=size,
        dump=place, manifest=place, signature=place if signed else None,
        copied=folder == "monthly",
    )  # fmt: skip
