"""Servers of each version that is in support, small ones, and standbys."""

from __future__ import annotations

import re
import secrets
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from backup.dump import run_backup
from backup.manifest import Manifest
from backup.postgres.connection import PostgresUri
from backup.restoration.comparison import compare, damage
from frame.failure import Failure
from tests.backup.clusters import Cluster, cluster, make_root, programs_of
from tests.conftest import PG_BIN, PG_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.backup.conftest import House
    from tests.conftest import PostgresServer

MAJORS = (15, 16, 17, 18)
ZOO = """
CREATE TYPE pair AS (a int, b text); CREATE DOMAIN word AS text CHECK (VALUE <> '');
CREATE FUNCTION fixed(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT abs($1)';
CREATE TABLE people (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name word NOT NULL, pairs pair[],
  pay numeric, twice numeric GENERATED ALWAYS AS (pay * 2) STORED, seen tstzmultirange, at date);
INSERT INTO people (name, pairs, pay, seen, at)
  SELECT 'n' || n, ARRAY[(n, 'x')::pair], n / 7.0, '{[2026-01-01,2026-02-01)}', '2026-01-01'
  FROM generate_series(1, 200) n;
CREATE INDEX ON people (fixed(id));
CREATE INDEX ON people (name) INCLUDE (pay);
CREATE TABLE parted (a int, b text) PARTITION BY RANGE (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 PARTITION OF parted DEFAULT;
CREATE INDEX ON parted (a);
INSERT INTO parted SELECT n, 'b' FROM generate_series(1, 20) n;
CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS a;
CREATE VIEW seen AS SELECT id FROM people WHERE pay > 3;
CREATE MATERIALIZED VIEW summed AS SELECT sum(pay) FROM people;
CREATE STATISTICS both_of ON name, pay FROM people;
ALTER TABLE people ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON people USING (true);
CREATE PUBLICATION changes FOR TABLE people;
GRANT SELECT ON people TO PUBLIC;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER stamped BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION stamp();
"""
NEWER = {
    17: "CREATE FUNCTION greet() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
    "CREATE EVENT TRIGGER greeting ON login EXECUTE FUNCTION greet();",
    18: "ALTER TABLE parted ADD c int GENERATED ALWAYS AS (a * 2) VIRTUAL;"
    "ALTER TABLE people ADD CONSTRAINT dated CHECK (at > '2025-01-01') NOT ENFORCED;",
}


@pytest.fixture(scope="module", params=MAJORS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[int, Cluster]]:
    logged = "log_statement=all", "log_line_prefix=%c %a|"
    with cluster(request.param, *logged) as made:
        yield request.param, made


def make(uri: str, *statements: str) -> None:
    with psycopg.connect(uri, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def back_up(house: House, uri: str, root: Path) -> Manifest:
    """Back up the database of ``uri`` as the house's own, with the programs in ``root``."""
    settings = house.settings.model_copy(update={"pg_root": root})
    house.secret("database_uri", uri)
    name = uri.rpartition("/")[2]
    return run_backup(settings, house.database.model_copy(update={"dbname": name}))


def copy(major: int, source: str, target: str, path: Path) -> None:
    """Dump and restore with the version's own programs."""
    dump = [programs_of(major) / "pg_dump", "--format=custom", f"--file={path}", source]
    subprocess.run(dump, check=True)
    restore = [programs_of(major) / "pg_restore", "--exit-on-error", f"--dbname={target}", path]
    subprocess.run(restore, check=True)


def first_statements(made: Cluster) -> dict[str, str]:
    """Return by application and session what each session asked first."""
    first: dict[str, str] = {}
    for line in (made.home / "log").read_text().splitlines():
        about, _, said = line.partition("|")
        session, _, application = about.partition(" ")
        if statement := re.search(r"(?:statement|execute [^:]*): (.*)", said):
            first.setdefault(f"{application} {session}", statement[1])
    return first


def test_a_database_of_each_version_is_backed_up_and_comes_back_equal(
    house: House, server: tuple[int, Cluster], tmp_path: Path
) -> None:
    major, made = server
    names = f"zoo_{secrets.token_hex(4)}", f"back_{secrets.token_hex(4)}"
    make(made.uri(), *(f"CREATE DATABASE {name} TEMPLATE template0" for name in names))
    source, target = (made.uri(name) for name in names)
    make(source, ZOO, *(more for since, more in NEWER.items() if since <= major))
    root = make_root(tmp_path / "root", *MAJORS)
    manifest = back_up(house, source, root)
    assert manifest.server.server_version // 10_000 == major
    assert manifest.pg_dump_version.startswith(f"{major}.")
    assert {table.table: (table.rows, (table.digest or "").partition(":")[0])
            for table in manifest.tables} == {
        "people": (200, "copy"), "parted_1": (9, "columns"), "parted_2": (11, "columns"),
        "fleeting": (1, "columns"),
    }  # fmt: skip
    assert (manifest.gaps, len(manifest.objects) > 20) == ((), True)
    copy(major, source, target, tmp_path / "dump")
    restored = PostgresUri(target, "the copy")
    assert compare(manifest, restored, 2, programs_of(major)) == []
    assert damage(programs_of(major), restored, 2) == []
    make(target, "DROP INDEX people_fixed_idx", "UPDATE parted SET b = 'c' WHERE a = 1")
    assert compare(manifest, restored, 2, programs_of(major)) == [
        "public.parted_1 has 9 rows as expected, but not the same",
        "index public.people_fixed_idx is missing",
    ]
    first = first_statements(made)
    theirs = {said for each, said in first.items() if each.startswith("pg_")}
    assert theirs == {"SELECT pg_catalog.set_config('search_path', '', false);"}
    with psycopg.connect(target) as connection:
        amcheck = "SELECT FROM pg_available_extensions WHERE name = 'amcheck'"
        at_hand = connection.execute(amcheck).fetchone() is not None  # not of every wheel
    programs = {"pg_dump", "pg_restore", *(["pg_amcheck"] if at_hand else [])}
    assert {each.partition(" ")[0] for each in first if each.startswith("pg_")} == programs
    ours = {said for each, said in first.items() if each.startswith("harmattan-")}
    assert ours == {"SET search_path = pg_catalog, pg_temp", *theirs}


def test_a_server_that_is_newer_than_all_programs_is_refused_by_name(
    house: House, server: tuple[int, Cluster]
) -> None:
    major, made = server
    if major == 15:
        back_up(house, made.uri(), PG_ROOT)
        return
    with pytest.raises(Failure, match=f"PostgreSQL {major}"):
        back_up(house, made.uri(), PG_ROOT)
    assert house.names() == []


def test_objects_of_another_major_version_are_compared_by_name(house: House) -> None:
    manifest = back_up(house, house.source, PG_ROOT)
    other = manifest.model_copy(update={"pg_dump_version": "14.1"})
    make(house.source, "ALTER TABLE empty ALTER id SET DEFAULT 1", "CREATE VIEW more AS SELECT 1")
    restored = PostgresUri(house.source, "it")
    more = "view public.more is not in the manifest"
    assert compare(manifest, restored, 1, PG_BIN) == ["table public.empty is not the same", more]
    assert compare(other, restored, 1, PG_BIN) == [more]


def test_a_standby_is_backed_up_and_what_it_has_not_is_told(house: House) -> None:
    with cluster(15, "wal_level=replica") as primary:
        make(primary.uri(), "CREATE DATABASE zoo TEMPLATE template0")
        make(primary.uri("zoo"), ZOO)
        with cluster(15, standby_of=primary) as standby:
            manifest = back_up(house, standby.uri("zoo"), PG_ROOT)
    assert {table.table: table.unproved for table in manifest.tables if table.unproved} == {
        "fleeting": "unlogged, and a standby has no rows of it"
    }
    assert [(gap.kind, gap.name) for gap in manifest.gaps] == [
        ("unlogged table", "public.fleeting")
    ]


def test_a_server_with_few_locks_and_many_partitions_is_backed_up(house: House) -> None:
    with cluster(15, "max_locks_per_transaction=10", "max_connections=15") as small:
        make(
            small.uri(), "CREATE DATABASE many TEMPLATE template0",
        )  # fmt: skip
        make(
            small.uri("many"),
            "CREATE TABLE whole (a int PRIMARY KEY, b text) PARTITION BY LIST (a)",
            *(f"CREATE TABLE part_{number} PARTITION OF whole FOR VALUES IN ({number})"
              for number in range(120)),
            "INSERT INTO whole SELECT generate_series(0, 119)",
        )  # fmt: skip
        manifest = back_up(house, small.uri("many"), PG_ROOT)
    assert len(manifest.tables) == 120
    assert all(table.rows == 1 and not table.unproved for table in manifest.tables)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "MULE_INTERNAL", "LATIN1"])
def test_a_database_of_any_encoding_is_backed_up_and_comes_back_equal(
    house: House, postgres: PostgresServer, encoding: str, tmp_path: Path
) -> None:
    names = f"source_{secrets.token_hex(4)}", f"target_{secrets.token_hex(4)}"
    source, target = (postgres.uri(name) for name in names)
    make(
        postgres.uri(),
        *(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
          for name in names),
    )  # fmt: skip
    odd = b"T\x81\xe4ble" if encoding == "MULE_INTERNAL" else b"T\xe4ble"
    with psycopg.connect(source, autocommit=True, client_encoding="SQL_ASCII") as connection:
        connection.execute(b'CREATE TABLE "%s" (a int, "%s" text)' % (odd, odd))
        connection.execute(b"INSERT INTO \"%s\" VALUES (1, '%s')" % (odd, odd))
        connection.execute(b'CREATE SEQUENCE "%s_seq"' % odd)
        connection.execute(
            b"CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql AS $$SELECT 1$$"
        )
        connection.execute(b'CREATE TABLE "%s_2" AS SELECT * FROM "%s"' % (odd, odd))
        connection.execute(b'CREATE INDEX ON "%s_2" (f(a))' % odd)
    manifest = back_up(house, source, PG_ROOT)
    assert Manifest.model_validate_json(manifest.to_json()) == manifest
    shown = {"SQL_ASCII": "T\\xe4ble", "MULE_INTERNAL": "T\\x81\\xe4ble", "LATIN1": "Täble"}[
        encoding
    ]
    assert [(table.table, table.rows, (table.digest or "").partition(":")[0], table.unproved)
            for table in manifest.tables] == [
        (shown, 1, "columns", None), (f"{shown}_2", 1, "copy", None)
    ]  # fmt: skip
    assert ("TABLE", shown) in [(each.kind, each.name) for each in manifest.objects]
    copy(15, source, target, tmp_path / "dump")
    restored = PostgresUri(target, "the copy")
    assert compare(manifest, restored, 2, PG_BIN) == []
    with psycopg.connect(target, autocommit=True, client_encoding="SQL_ASCII") as connection:
        connection.execute(b'UPDATE "%s" SET a = 2' % odd)
    assert compare(manifest, restored, 2, PG_BIN) == [
        f"public.{shown} has 1 rows as expected, but not the same"
    ]


def test_a_role_with_an_encoding_of_its_own_backs_up(
    house: House, postgres: PostgresServer
) -> None:
    role = house.settings.secret("database_uri").partition("//")[2].partition(":")[0]
    make(postgres.uri(), f"ALTER ROLE {role} SET client_encoding = 'SQL_ASCII'")
    manifest = run_backup(house.settings, house.database)
    assert [table.table for table in manifest.tables if table.unproved] == []
    assert "Täble" in [table.table for table in manifest.tables]
