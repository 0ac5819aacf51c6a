"""From the bucket back into a database, with nothing committed before everything was checked."""

from __future__ import annotations

import hashlib
from contextlib import closing
from itertools import product
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from backup.connection import plain_environment
from backup.crypt import Keyring, decrypt
from backup.pipeline import ChildFailed, Pipeline, Stage, run_tool
from backup.scratch import private_directory, require_room
from backup.target import apply_settings, check_target, create_database, provide_roles
from frame.failure import Failure, WrongUse
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backup.connection import PostgresUri
    from backup.contents import Name
    from backup.manifest import Manifest
    from backup.store import Store
    from backup.target import Wanted

WORDS = {
    "globals": "a server's roles, as SQL",
    "nomad": "a snapshot of Nomad",
    "vault": "a snapshot of Vault",
}
log = get_logger(__name__)


class _Read:
    """Blocks as they go by, counted and hashed."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._digest = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self._digest.update(block)
            self.size += len(block)
            yield block

    @property
    def sha256(self) -> str:
        """The SHA-256 of what went by, in hexadecimal."""
        return self._digest.hexdigest()


def unpack(store: Store, manifest: Manifest, ring: Keyring, plain: Path | None) -> None:
    """Download, decrypt and decompress the dump into the new file ``plain``, or only try to.

    In one pass; nothing in ``plain`` counts until this returns, once size and SHA-256 were found
    as they were and gpg is content. How long a dump is in plain is not known beforehand; the
    database's own size stands for it. Raises :class:`Failure`.
    """
    dump = manifest.dump
    if plain:
        size = manifest.source.size if manifest.source else dump.size
        require_room(plain.parent, size, f"plain dump of {manifest.database}")
    failure = None
    with closing(store.stream(dump.name, dump.file_id)) as blocks:
        read = _Read(blocks)
        try:
            decrypt(ring, read, plain, manifest.recipients)
        except ChildFailed as error:
            failure = error
            for _ in read:  # to its end: only then is it known whether object or key is wrong
                pass
    if (read.size, read.sha256) != (dump.size, dump.sha256):
        raise Failure(
            f"object {dump.name} is damaged: {read.size} bytes with SHA-256 {read.sha256}, "
            f"{dump.size} with {dump.sha256} expected",
            hint="Use another backup, and look who or what changed this one.",
        ) from failure
    if failure:
        raise failure


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
    pg_bin: Path, plain: Path, target: PostgresUri, wanted: Wanted, chosen: Path | None = None
) -> None:
    """Load a plain dump into the target database, or what the list ``chosen`` names of it.

    With one job it is one transaction; with more, a failure leaves the target half full.
    """
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
        pipeline.read_all()


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


def restore(
    store: Store,
    manifest: Manifest,
    ring: Keyring,
    target: PostgresUri,
    wanted: Wanted,
    *,
    scratch: Path,
    pg_bin: Path,
) -> None:
    """Restore the backup of ``manifest``, which must be one of a database, into ``target``."""
    source = manifest.source
    if manifest.kind != "database" or source is None:
        raise WrongUse(
            f"{manifest.database} is no database but {WORDS[manifest.kind]}",
            hint="Give --to FILE; the runbook says what to do with it.",
        )
    tables = named_tables(manifest, wanted.tables)
    with private_directory(scratch, "restore") as directory:
        if wanted.create:
            create_database(target, source)
        with target.connect("restore") as connection:
            empty = check_target(connection, wanted)
            provide_roles(connection, source, wanted)
        plain = directory / "dump"  # a file: pg_restore reads no pipe when it works in parallel
        unpack(store, manifest, ring, plain)
        log.info("dump checked and unpacked", id=manifest.id, size=plain.stat().st_size)
        chosen = choose(pg_bin, plain, manifest, tables) if tables else None
        load(pg_bin, plain, target, wanted, chosen)
        if wanted.create and empty and not tables:  # made now, or by a restore that then failed
            apply_settings(pg_bin, plain, target)
    log.info("restored", id=manifest.id, database=manifest.database)


def extract(store: Store, manifest: Manifest, ring: Keyring, path: Path) -> None:
    """Write the plain dump to the new file ``path``, whole or not at all, for this user alone."""
    with private_directory(path.parent, "restore") as beside:
        if path.exists():
            raise WrongUse(
                f"file {path} is there already", hint="Give a new name; nothing is overwritten."
            )
        plain = beside / "dump"
        unpack(store, manifest, ring, plain)
        plain.chmod(0o600)
        plain.rename(path)
    log.info("written", id=manifest.id, database=manifest.database, file=str(path))


def verify(store: Store, manifest: Manifest, ring: Keyring) -> None:
    """Read the whole object again: size, SHA-256, that it decrypts and that it unpacks."""
    unpack(store, manifest, ring, None)
