"""Databases of every kind, backed up by a role that may only read and proved by the drill."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backup.dump import run_backup
from backup.postgres.connection import PostgresUri
from backup.restoration.comparison import compare_tables
from backup.source.contents import LARGE_OBJECTS
from backup.source.inventory import Inventory
from frame.failure import Failure
from tests.ingest import torture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backup.conftest import House, OpenPgpKey


def prove(house: House, key: OpenPgpKey) -> dict[str, Any]:
    """Back up ``hr`` with the command, drill it, and return what the drill says."""
    ended = house.run("run", "hr")
    assert ended.returncode == 0, ended.stderr
    house.read()
    house.secret("drill_key.asc", key.private)
    ended = house.run("drill", "hr", "--json", unprivileged=True)
    (result,) = json.loads(ended.stdout)["databases"]
    assert (result["verdict"], result["findings"]) == ("equal", []), ended.stderr
    return result  # type: ignore[no-any-return]


def source(house: House) -> psycopg.Connection[Any]:
    return psycopg.connect(house.source, autocommit=True)


@pytest.fixture
def reader(house: House) -> Iterator[None]:
    """The role that the torture schema grants to, gone with what it was granted."""
    with source(house) as connection:
        known = "SELECT FROM pg_roles WHERE rolname = 'ingest_reader'"
        there = connection.execute(known).fetchone() is not None  # of the tests of ingest
        if not there:
            connection.execute("CREATE ROLE ingest_reader")
        yield
        connection.execute("DROP OWNED BY ingest_reader")
        if not there:
            connection.execute("DROP ROLE ingest_reader")


@pytest.mark.usefixtures("reader")
def test_every_type_comes_back_equal(house: House, drill_key: OpenPgpKey) -> None:
    with source(house) as connection:
        connection.execute("DROP TABLE people CASCADE; DROP TYPE mood CASCADE")
    torture.create(house.source)
    with source(house) as connection:  # PostgreSQL reads such a value from nobody, also not its own
        connection.execute("DROP TABLE odd.tree CASCADE")
    result = prove(house, drill_key)
    assert result["tables_compared"] > 40
    assert result["rows_compared"] > 200


def test_an_empty_database_comes_back_empty(house: House, drill_key: OpenPgpKey) -> None:
    with source(house) as connection:
        connection.execute('DROP SCHEMA public, "odd ""schema" CASCADE; CREATE SCHEMA public')
    result = prove(house, drill_key)
    assert (result["tables_compared"], result["rows_compared"]) == (0, 0)


def test_large_objects_come_back_or_are_asked_for(house: House, drill_key: OpenPgpKey) -> None:
    role = house.settings.secret("database_uri").partition("//")[2].partition(":")[0]
    with source(house) as connection:
        for size in (0, 10, 3_000_000):
            connection.execute("SELECT lo_from_bytea(0, %b)", [random.Random(size).randbytes(size)])
    with pytest.raises(Failure, match="has large objects, which the role dumper_") as caught:
        run_backup(house.settings, house.database)
    assert f"ALTER ROLE {role} SET lo_compat_privileges = on" in caught.value.hint
    assert house.names() == []
    with source(house) as connection:
        connection.execute(
            sql.SQL("ALTER ROLE {} SET lo_compat_privileges = on").format(sql.Identifier(role))
        )
    result = prove(house, drill_key)
    assert (result["tables_compared"], result["rows_compared"]) == (6, 702)


@pytest.mark.parametrize("place", [3, 1_000_000_001], ids=["at its start", "after a gigabyte"])
def test_a_large_object_that_is_not_the_same_is_told(house: House, place: int) -> None:
    def stock() -> Any:
        uri = PostgresUri(house.source, "the test")
        with Inventory(lambda: uri.connect("test"), 1, [LARGE_OBJECTS], digests=True) as inventory:
            return inventory.tables()

    with source(house) as connection:
        connection.execute("SELECT lo_from_bytea(4711, 'before'), lo_put(4711, %s, 'x')", [place])
        then = stock()
        connection.execute("SELECT lo_put(4711, %s, 'X')", [place])
    assert compare_tables(then, stock()) == [
        "pg_catalog.pg_largeobject has 1 rows as expected, but not the same"
    ]


def test_large_objects_are_only_counted_where_counts_are_the_proof(house: House) -> None:
    with source(house) as connection:
        connection.execute("SELECT lo_from_bytea(0, 'one'), lo_from_bytea(0, 'two')")
        connection.execute("SELECT lo_put(lo_from_bytea(0, 'long'), 17000000, 'x')")
    uri = PostgresUri(house.source, "the test")
    with Inventory(lambda: uri.connect("test"), 1, [LARGE_OBJECTS], digests=False) as inventory:
        (found,) = inventory.tables()
    assert (found.rows, found.digest) == (3, None)


def test_partitions_inheritance_and_extensions_come_back(
    house: House, drill_key: OpenPgpKey
) -> None:
    with source(house) as connection:
        for statement in (
            "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION pg_trgm",
            "CREATE TABLE tagged (id int PRIMARY KEY, tags hstore, name citext)",
            "INSERT INTO tagged SELECT n, hstore('n', n::text), 'Name ' || n"
            " FROM generate_series(1, 50) n",
            "CREATE INDEX ON tagged USING gin (name gin_trgm_ops)",
            "CREATE TABLE by_hash (id int, at date) PARTITION BY HASH (id)",
            "CREATE TABLE by_hash_0 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
            "CREATE TABLE by_hash_1 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
            " PARTITION BY RANGE (at)",
            "CREATE TABLE by_hash_1_now PARTITION OF by_hash_1 DEFAULT",
            "INSERT INTO by_hash SELECT n, '2026-01-01'::date + n FROM generate_series(1, 99) n",
            "CREATE TABLE parent (id int); CREATE TABLE child (more text) INHERITS (parent)",
            "INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 'two')",
            "CREATE TABLE made (n int, twice int GENERATED ALWAYS AS (n * 2) STORED,"
            " id int GENERATED ALWAYS AS IDENTITY)",
            "INSERT INTO made (n) SELECT generate_series(1, 9)",
            "CREATE MATERIALIZED VIEW summed AS SELECT sum(n) FROM made",
            "CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS x",
            "CREATE PUBLICATION everything FOR ALL TABLES",
            'CREATE TABLE "so \'many\' ""quotes"" $$ \\" ("a""b" int)',
            'INSERT INTO "so \'many\' ""quotes"" $$ \\" VALUES (1)',
        ):
            connection.execute(statement)
        versions = connection.execute("SELECT extname, extversion FROM pg_extension").fetchall()
    result = prove(house, drill_key)
    assert result["tables_compared"] == 5 + 8
    manifest = json.loads(house.run("show", result["backup_id"], "--json").stdout)
    assert manifest["extensions"] == dict(versions)
    assert {"citext", "hstore", "pg_trgm"} < manifest["extensions"].keys()
