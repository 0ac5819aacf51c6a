"""Backups that nobody made, for decisions on plain values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backup.bucket.layout import Backup, Place, new_id
from backup.manifest import Manifest, Source, StoredDump, TableContents

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


def manifest_of(*, tables: tuple[str, ...] = (), **fields: object) -> Manifest:
    """Return a manifest of ``hr``, with empty ``tables`` that are told as ``schema.table``."""
    contents = [
        TableContents(schema_name=schema, table=table, rows=0)
        for schema, _, table in (text.partition(".") for text in tables)
    ]
    dump = StoredDump(name="x", file_id="x", size=9, sha256="0" * 64)
    usual = Manifest(
        id=new_id(NOW, "00000000"), database="hr", dump=dump, started=NOW, finished=NOW,
        source=SOURCE, tables=tuple(contents), recipients=("F" * 40,), program_version="0",
    )  # fmt: skip
    return usual.model_copy(update=fields)
