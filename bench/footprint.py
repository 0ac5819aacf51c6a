"""Peak memory of a backup at 1 GB and at 10 GB: it must not grow with the database."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from backup.bucket.upload import plan_parts
from bench import backups
from bench.clusters import free_bytes
from bench.figures import Section, Target
from bench.race import Contender, load_now, race
from frame.failure import Failure
from frame.progress import step

if TYPE_CHECKING:
    from bench.figures import Figure
    from bench.race import Setting

_LIMIT = 200.0  # MB, of all processes of the run
# Rows of random bytes; these many, repeated, are further apart than zstd looks back.
_ROW, _ROWS = 1_000_000, 16
_PART_MINIMUM = 16 << 20
_ROOM = 26e9  # bytes at scale 1: the larger database, and as much again in the bucket
_GB = 1_000_000_000
_ABOUT = (
    "Peak resident memory of `backup run`, all its processes, pg_dump, zstd and gpg among them, one"
    " run each, of a database that does not compress. What is uploaded together is"
    " {small} MB up to {steady} GB; for 500 GB it is {large} MB."
)


def measure(setting: Setting) -> Section:
    """Back up a small and a large database, both made for it."""
    if free_bytes() < _ROOM * setting.scale:
        raise Failure(
            f"expected {_ROOM * setting.scale / 1e9:.0f} GB free, found {free_bytes() / 1e9:.0f}",
            "Make room, point TMPDIR to a larger disk, or leave --only memory out.",
        )
    load = load_now()
    figures = [_one(setting, gigabytes) for gigabytes in (1, 10)]
    targets = [
        Target(
            f"memory: MB at {figure.rows / 1e9:.1f} GB", _LIMIT,
            figure.peak_mb if figure.best else None, at_most=True,
        )
        for figure in figures
    ]  # fmt: skip
    small, large = plan_parts(_GB, _PART_MINIMUM), plan_parts(500 * _GB, _PART_MINIMUM)
    about = _ABOUT.format(
        small=small.first * small.buffers // 1_000_000,
        steady=small.first * 9_000 // _GB,
        large=large.first * large.buffers // 1_000_000,
    )
    return Section(
        "memory", "Memory", about, figures, targets, load, subject="backup", counted="bytes"
    )


def _one(setting: Setting, gigabytes: int) -> Figure:
    source = setting.clusters.source
    with step(f"make a database of {gigabytes * setting.scale:g} GB"):
        source.execute(
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA public",
            "CREATE TABLE blobs (id int, content bytea)",
            "ALTER TABLE blobs ALTER content SET STORAGE EXTERNAL",
        )
        with source.connect() as connection:
            for number in range(_ROWS):
                connection.execute("INSERT INTO blobs VALUES (%s, %b)", [number, os.urandom(_ROW)])
            copies = int(gigabytes * setting.scale * _GB / (_ROW * _ROWS))
            connection.execute(
                "INSERT INTO blobs SELECT id, content FROM blobs, generate_series(1, %s) n"
                " ORDER BY n, id",
                [copies - 1],
            )
        source.execute("CHECKPOINT")
    size = backups.size(source)
    with backups.house(setting) as house:
        (figure,) = race(
            [
                Contender(
                    name=f"backup-{gigabytes}",
                    title=f"backup run, {size / 1e9:.1f} GB",
                    rows=size,
                    pipe=lambda: [backups.command("run", backups.NAME)],
                    environment=house.environments["counts"],
                )
            ],
            replace(setting, rounds=1),
        )
    return figure
