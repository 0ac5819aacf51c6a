"""Loading a plain dump with pg_restore: all of it, or some tables.

The interface that the restore's steps use: :func:`load` takes the directory of the programs that
fit the archive, and returns what did not load (with ``wanted.keep_going``; else it raises) and how
long each section took.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from backup.pipeline import Pipeline, Stage, run_tool
from backup.postgres.connection import plain_environment
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backup.manifest import Manifest
    from backup.postgres.connection import PostgresUri
    from backup.postgres.contents import Name
    from backup.postgres.target import Wanted


@dataclass(frozen=True)
class FailedObject:
    """Something of the archive that PostgreSQL refused; ``error`` is its own ERROR line.

    ``kind`` is pg_dump's word, such as ``FK CONSTRAINT``; ``schema_name`` is empty for what is in
    no schema. No value of a row is in ``error``.
    """

    kind: str
    schema_name: str
    name: str
    error: str


@dataclass(frozen=True)
class Loaded:
    """What a load brought: objects that failed, and the seconds that its sections took.

    ``data_seconds`` is of pre-data and data, ``index_seconds`` of post-data: indexes, keys and
    triggers.
    """

    failed: tuple[FailedObject, ...] = ()
    data_seconds: float = 0.0
    index_seconds: float = 0.0


def named_tables(manifest: Manifest, texts: Sequence[str]) -> tuple[Name, ...]:
    """Return schema and name of each table that is told as ``schema.table``. Raises WrongUse."""
    known = {f"{table.schema_name}.{table.table}": table for table in manifest.tables}
    if strangers := [text for text in texts if text not in known]:
        raise WrongUse(
            f"backup {manifest.id} holds no table {', '.join(strangers)}",
            hint="Give schema.table; `backup show ID` lists them.",
        )
    return tuple((known[text].schema_name, known[text].table) for text in texts)


def load(
    pg_bin: Path, plain: Path, target: PostgresUri, wanted: Wanted, manifest: Manifest
) -> Loaded:
    """Load the archive ``plain``, of ``manifest``, into the target database as ``wanted``.

    With one job it is one transaction; with more, a failure leaves the target half full.
    """
    tables = named_tables(manifest, wanted.tables)
    chosen = choose(pg_bin, plain, manifest, tables) if tables else None
    argv: list[str | Path] = [
        pg_bin / "pg_restore", "--exit-on-error", "--no-password",
        # As a conninfo string, or a name with = in it would be read as one.
        f"--dbname={make_conninfo(dbname=target.database())}",
        *(["--single-transaction"] if wanted.whole else [f"--jobs={wanted.jobs}"]),
        *(["--no-owner", "--no-privileges"] if wanted.owners == "skip" else []),
        *([f"--use-list={chosen}"] if chosen else []),
        plain,
    ]  # fmt: skip
    hint = (
        "Nothing was changed in the target; mend the cause and repeat the restore."
        if wanted.whole
        else "Drop the target database, create it again and repeat the restore."
    )
    with Pipeline([Stage(argv, target.environment())], hint=hint) as pipeline:
        began = time.monotonic()
        pipeline.read_all()
    return Loaded(data_seconds=time.monotonic() - began)


def choose(pg_bin: Path, plain: Path, manifest: Manifest, tables: Sequence[Name]) -> Path:
    """Write the lines of the dump's own list that make ``tables``, and return the file."""
    known = [(table.schema_name, table.table) for table in manifest.tables]
    listed = run_tool([pg_bin / "pg_restore", "--list", plain], plain_environment())
    # A line is "3330; 0 16390 TABLE DATA public people postgres". A name may hold spaces, so that
    # of another table may begin like it: the longest that fits is meant.
    longest_first = sorted(known, key=lambda table: -len(" ".join(table)))
    lines: dict[tuple[Name, str], list[str]] = {}
    for line in listed.splitlines():
        told = line.split(" ", 3)[-1]
        for table, kind in product(longest_first, ("TABLE", "TABLE DATA", "CONSTRAINT")):
            if line[:1].isdigit() and told.startswith(f"{kind} {' '.join(table)} "):
                lines.setdefault((table, kind), []).append(line)
                break
    for table, kind in product(tables, ("TABLE", "TABLE DATA")):
        if (table, kind) not in lines:
            raise Failure(
                f"dump has no {kind} of {'.'.join(table)}",
                hint="Restore the whole database beside the target, and copy the table from there.",
            )
    chosen = plain.with_name("list")
    wanted = [line for table, kind in lines if table in tables for line in lines[table, kind]]
    chosen.write_text("\n".join(wanted))
    return chosen
