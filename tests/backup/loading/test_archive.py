from __future__ import annotations

import io
import re
import secrets
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.loading.archive import Section, python_encoding, read_archive, read_head
from frame.failure import Failure
from tests.backup.clusters import programs_of
from tests.backup.postgres.zoo import CAGE, dump, make_zoo
from tests.conftest import PG_BIN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import PostgresServer


@pytest.fixture
def zoo(database: str, tmp_path: Path) -> Path:
    make_zoo(database)
    return dump(database, tmp_path / "zoo")


@pytest.mark.parametrize(("major", "version"), [(16, (1, 15)), (17, (1, 16)), (18, (1, 16))])
def test_an_archive_of_each_major_version_is_read_and_written(
    database: str, tmp_path: Path, major: int, version: tuple[int, int]
) -> None:
    make_zoo(database)
    programs = programs_of(major)
    options = ["--statistics"] if major >= 18 else []
    path = dump(database, tmp_path / "zoo", *options, programs=programs)
    archive = read_archive(path)
    assert archive.version == version
    assert archive.dump_version.startswith(f"{major}.")
    assert archive.head() == path.read_bytes()[: archive.size]
    read = [(entry.number, [*entry.dependencies]) for entry in archive.entries]
    assert read == listed(path, programs)
    assert ("STATISTICS DATA" in {entry.kind for entry in archive.entries}) == (major >= 18)


def listed(path: Path, programs: Path = PG_BIN) -> list[tuple[int, list[int]]]:
    """Return each entry's number and what it depends on as pg_restore lists it."""
    text = subprocess.run(
        [programs / "pg_restore", "--list", "--verbose", path],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    entries: list[tuple[int, list[int]]] = []
    for line in text.splitlines():
        if number := re.match(r"(\d+); \d+ \d+ ", line):
            entries.append((int(number[1]), []))
        elif needs := re.match(r";\tdepends on:(.*)", line):
            entries[-1][1].extend(map(int, needs[1].split()))
    return entries


def test_an_archive_is_read_as_pg_restore_reads_it(zoo: Path) -> None:
    archive = read_archive(zoo)
    assert [(e.number, [*e.dependencies]) for e in archive.entries] == listed(zoo)
    tables = {(e.schema, e.name) for e in archive.entries if e.kind == "TABLE"}
    assert {("public", CAGE), ("a", "b c"), ("a b", "c")} <= tables
    rows = [entry for entry in archive.entries if entry.kind == "TABLE DATA"]
    assert {entry.section for entry in rows} == {Section.DATA}
    assert all((entry.copy or "").startswith("COPY ") for entry in rows)
    (label,) = (e.label for e in archive.entries if e.kind == "TABLE" and e.name == CAGE)
    assert label == 'TABLE public.Cage "7" x'


def test_a_head_is_written_as_it_was_read(zoo: Path) -> None:
    archive = read_archive(zoo)
    assert archive.head() == zoo.read_bytes()[: archive.size]
    assert read_head(io.BytesIO(archive.head())).entries == archive.entries


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("LATIN1", "Zoë"), ("EUC_JP", "動物"), ("WIN1252", "€uro"), ("SQL_ASCII", "as it is")],
)
def test_names_of_every_encoding_are_read(
    postgres: PostgresServer, tmp_path: Path, encoding: str, name: str
) -> None:
    uri = in_encoding(postgres, encoding)
    with psycopg.connect(uri, autocommit=True, client_encoding="UTF8") as connection:
        connection.execute(f'CREATE TABLE "{name}" (id int)'.encode())
    archive = read_archive(dump(uri, tmp_path / "zoo"))
    assert [entry.name for entry in archive.entries if entry.kind == "TABLE"] == [name]
    assert archive.head() == (tmp_path / "zoo").read_bytes()[: archive.size]


def test_bytes_of_no_encoding_are_kept(postgres: PostgresServer, tmp_path: Path) -> None:
    uri = in_encoding(postgres, "SQL_ASCII")
    with psycopg.connect(uri, autocommit=True, client_encoding="SQL_ASCII") as connection:
        connection.execute(b'CREATE TABLE "a\xe9\xff" (id int)')
    archive = read_archive(dump(uri, tmp_path / "zoo"))
    assert [entry.name for entry in archive.entries if entry.kind == "TABLE"] == ["a\udce9\udcff"]
    assert archive.head() == (tmp_path / "zoo").read_bytes()[: archive.size]


def in_encoding(postgres: PostgresServer, encoding: str) -> str:
    """Create a database, and return the superuser's URI of it."""
    name = f"zoo_{secrets.token_hex(4)}"
    with psycopg.connect(postgres.uri(), autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING {encoding} LOCALE 'C'".encode()
        )
    return postgres.uri(name)


@pytest.mark.parametrize(
    ("statement", "python"),
    [
        ("SET client_encoding = 'UTF8';", "utf-8"),
        ("SET client_encoding = 'WIN1251';", "cp1251"),
        ("SET client_encoding = 'SQL_ASCII';", "utf-8"),
        ("SET client_encoding = 'MULE_INTERNAL';", "utf-8"),
        ("", "utf-8"),
    ],
)
def test_an_encoding_has_its_name_in_python(statement: str, python: str) -> None:
    assert python_encoding(statement) == python


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda head: b"PGDMQ" + head[5:], "does not begin with PGDMP"),
        (lambda head: head[:5] + b"\1\x20" + head[7:], "of version 1.32, 1.14 to 1.16 expected"),
        (lambda head: head[:10] + b"\3" + head[11:], "of format 3, 1"),
        (lambda head: head[:-1], "it ends within its head"),
        (lambda head: b"", "it ends within its head"),
    ],
)
def test_what_is_no_archive_is_refused(zoo: Path, change: object, told: str) -> None:
    head = read_archive(zoo).head()
    with pytest.raises(Failure, match=told):
        read_head(io.BytesIO(change(head)))  # type: ignore[operator]


@given(st.data())
def test_a_damaged_head_is_an_error_or_another_head(data: st.DataObject) -> None:
    head = bytearray(HEAD)
    for _ in range(data.draw(st.integers(1, 3))):
        head[data.draw(st.integers(0, len(head) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_head(io.BytesIO(bytes(head)))
    except Failure as failure:
        assert failure.message.startswith("the dump cannot be read")


def _small_head() -> bytes:
    """Return a head of version 1.14 with an entry."""

    def integer(value: int) -> bytes:
        return bytes([value < 0]) + abs(value).to_bytes(4, "little")

    def text(value: str) -> bytes:
        return integer(len(value)) + value.encode()

    entry = [
        integer(3), integer(0), text("0"), text("0"), text("ENCODING"), text("ENCODING"),
        integer(2), text("SET client_encoding = 'UTF8';"), text(""), integer(-1), integer(-1),
        integer(-1), integer(-1), text(""), text("false"), integer(-1), b"\3" + bytes(8),
    ]  # fmt: skip
    made = b"".join(integer(0) for _ in range(8)) + text("zoo") + text("15") + text("15")
    return b"PGDMP\1\x0e\0\4\x08\1" + made + integer(1) + b"".join(entry)


HEAD = _small_head()


def test_a_changed_head_does_not_say_where_data_was(database: str, tmp_path: Path) -> None:
    make_zoo(database)
    path = tmp_path / "zoo"
    subprocess.run([PG_BIN / "pg_dump", "--format=custom", f"--file={path}", database], check=True)
    archive = read_archive(path)
    assert {entry.place[0] for entry in archive.entries} == {2, 3}
    written = read_head(io.BytesIO(archive.without_places().head()))
    assert {entry.place[0] for entry in written.entries} == {1, 3}
