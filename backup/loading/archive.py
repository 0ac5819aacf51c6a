"""The head of an archive of pg_dump: each entry exactly as it was written, and what it needs.

``pg_restore --list`` puts spaces between names that hold spaces, and spaces for line breaks, so a
schema ``a`` with a table ``b c`` looks like a schema ``a b`` with a table ``c``. The archive itself
stores each text with its length. Its form is that of PostgreSQL's ``pg_backup_archiver.c``
(WriteHead, WriteToc): the same since version 12 but for two fields.
"""

from __future__ import annotations

import codecs
import re
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import IO, TYPE_CHECKING

from backup.loading.stored import Reader, Writer
from backup.postgres.names import printable
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Version = tuple[int, int]

MAGIC = b"PGDMP"
CUSTOM = 1  # the format that needs no seeking
# The archive's own versions: of PostgreSQL 12, of 16 with another word for the compression, and of
# 17 with relkind.
OLDEST, COMPRESSION_BYTE, WITH_RELKIND = (1, 14), (1, 15), (1, 16)
NEWEST = WITH_RELKIND
UNKNOWN, KNOWN, _NO_DATA = 1, 2, 3  # the first byte of ``place``
_ENCODING = re.compile(r"'([^']+)'")


class Section(IntEnum):
    """When pg_restore restores an entry; NONE goes with what stands before it."""

    NONE = 1
    PRE_DATA = 2
    DATA = 3
    POST_DATA = 4


@dataclass(frozen=True)
class Entry:
    """One entry: an object, its rows, or what is said about an object, such as its rights.

    ``kind`` is pg_dump's word: TABLE, TABLE DATA, FK CONSTRAINT. ``dependencies`` are numbers of
    entries, not all of which are in an archive. A text that is None is not the same to pg_restore
    as an empty one.
    """

    number: int
    had_dumper: int
    catalogue: int
    oid: int
    name: str
    kind: str
    section: Section
    definition: str | None = field(repr=False)  # SQL, which may hold a password
    drop: str | None = field(repr=False)
    copy: str | None = field(repr=False)
    namespace: str | None
    tablespace: str | None
    access_method: str | None
    relkind: int | None
    owner: str | None
    with_oids: str | None = field(repr=False)
    dependencies: tuple[int, ...]
    place: bytes = field(repr=False)  # of its data, if pg_dump could seek

    @property
    def schema(self) -> str:
        """Its schema, empty for what is in none."""
        return self.namespace or ""

    @property
    def sql(self) -> str:
        """What makes it, empty for rows."""
        return self.definition or ""

    @property
    def label(self) -> str:
        """The entry as a person reads it, in one line: ``TABLE public.people``."""
        name = f"{self.schema}.{self.name}" if self.schema else self.name
        return f"{self.kind} {printable(' '.join(name.splitlines()))}"


@dataclass(frozen=True)
class Archive:
    """What stands before the data. ``entries`` are in the order in which they are restored."""

    version: Version
    dump_version: str
    encoding: str
    entries: tuple[Entry, ...] = field(repr=False)
    preamble: bytes = field(repr=False)  # as it was read, up to the entries
    integer_bytes: int
    offset_bytes: int
    size: int  # bytes of the head: the data begins there

    @cached_property
    def by_number(self) -> dict[int, Entry]:
        """Each entry by its number."""
        return {entry.number: entry for entry in self.entries}

    @property
    def nowhere(self) -> bytes:
        """The ``place`` of an entry without data."""
        return bytes([_NO_DATA]) + bytes(self.offset_bytes)

    def without_places(self) -> Archive:
        """Return the archive for a head of another length: where data was is not known."""
        unknown = bytes([UNKNOWN]) + bytes(self.offset_bytes)
        return self.with_entries(
            replace(entry, place=unknown) if entry.place[0] == KNOWN else entry
            for entry in self.entries
        )

    def with_entries(self, entries: Iterable[Entry]) -> Archive:
        """Return the archive with other entries. ``size`` stays that of the head as it was read."""
        return replace(self, entries=tuple(entries))

    def head(self) -> bytes:
        """Return the head as pg_restore reads it, to stand before the data."""
        writer = Writer(self.integer_bytes, self.encoding)
        writer.integer(len(self.entries))
        for entry in self.entries:
            _write_entry(writer, entry, self.version)
        return self.preamble + bytes(writer.written)


def read_archive(path: Path) -> Archive:
    """Return the head of the archive in the file ``path``. Raises Failure."""
    with path.open("rb") as stream:
        return read_head(stream)


def read_head(stream: IO[bytes]) -> Archive:
    """Read the head from ``stream`` and leave it where the data begins. Raises Failure."""
    reader = Reader(stream)
    with _explained():
        version, offset_bytes, dump_version = _read_preamble(reader)
        preamble = bytes(reader.taken)
        entries = tuple(_read_entry(reader, version, offset_bytes) for _ in range(reader.integer()))
    return Archive(
        version=version,
        dump_version=dump_version,
        encoding=reader.encoding,
        entries=entries,
        preamble=preamble,
        integer_bytes=reader.integer_bytes,
        offset_bytes=offset_bytes,
        size=len(reader.taken),
    )


def read_entries(stream: IO[bytes]) -> Iterator[Entry]:
    """Yield the entries in the head of ``stream``, none of which is kept here. Raises Failure."""
    reader = Reader(stream)
    with _explained():
        version, offset_bytes, _ = _read_preamble(reader)
        for _ in range(reader.integer()):
            reader.taken.clear()
            yield _read_entry(reader, version, offset_bytes)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (EOFError, ValueError) as error:
        raise Failure(
            f"the dump cannot be read: {error}",
            hint="It is damaged, or no archive of pg_dump in the custom format.",
        ) from error


def _read_preamble(reader: Reader) -> tuple[Version, int, str]:
    """Return the archive's version, the bytes of an offset, and the version of its pg_dump."""
    if reader.bytes(len(MAGIC)) != MAGIC:
        raise ValueError(f"it does not begin with {MAGIC.decode()}")
    major, minor, _revision, integer_bytes, offset_bytes, form = reader.bytes(6)
    version = (major, minor)
    if not OLDEST <= version <= NEWEST:
        known = " to ".join(f"{each[0]}.{each[1]}" for each in (OLDEST, NEWEST))
        raise ValueError(f"it is an archive of version {major}.{minor}, {known} expected")
    if form != CUSTOM:
        raise ValueError(f"it is an archive of format {form}, {CUSTOM} (custom) expected")
    reader.integer_bytes = integer_bytes
    if version >= COMPRESSION_BYTE:
        reader.bytes(1)
    else:
        reader.integer()
    for _ in range(7):  # seconds to years and daylight saving: when it was made
        reader.integer()
    reader.text()  # the database
    reader.text()  # the server's version
    return version, offset_bytes, reader.text() or ""


def _read_entry(reader: Reader, version: Version, offset_bytes: int) -> Entry:
    entry = Entry(
        number=reader.integer(),
        had_dumper=reader.integer(),
        catalogue=int(reader.text() or 0),
        oid=int(reader.text() or 0),
        name=reader.text() or "",
        kind=reader.text() or "",
        section=Section(reader.integer()),
        definition=reader.text(),
        drop=reader.text(),
        copy=reader.text(),
        namespace=reader.text(),
        tablespace=reader.text(),
        access_method=reader.text(),
        relkind=reader.integer() if version >= WITH_RELKIND else None,
        owner=reader.text(),
        with_oids=reader.text(),
        dependencies=tuple(map(int, iter(reader.text, None))),
        place=reader.bytes(1 + offset_bytes),
    )
    if entry.kind == "ENCODING":  # the first: all that follows is in it
        reader.encoding = python_encoding(entry.sql)
    return entry


def _write_entry(writer: Writer, entry: Entry, version: Version) -> None:
    writer.integer(entry.number)
    writer.integer(entry.had_dumper)
    for text in (str(entry.catalogue), str(entry.oid), entry.name, entry.kind):
        writer.text(text)
    writer.integer(entry.section)
    for optional in (
        entry.definition, entry.drop, entry.copy, entry.namespace, entry.tablespace,
        entry.access_method,
    ):  # fmt: skip
        writer.text(optional)
    if version >= WITH_RELKIND:
        writer.integer(entry.relkind or 0)
    for optional in (entry.owner, entry.with_oids, *map(str, entry.dependencies), None):
        writer.text(optional)
    writer.written += entry.place


def python_encoding(statement: str) -> str:
    """Return Python's name for the encoding that ``SET client_encoding = '…'`` names.

    UTF-8 for one that Python has not: with ``surrogateescape`` all bytes are kept, and what is
    ASCII is read rightly.
    """
    found = _ENCODING.search(statement)
    name = found[1] if found else "UTF8"
    try:
        return codecs.lookup(name.replace("WIN", "CP", 1)).name
    except LookupError:
        return "utf-8"
