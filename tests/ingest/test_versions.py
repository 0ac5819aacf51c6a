"""Sources of other versions and encodings."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest import run
from ingest.errors import RunFailedError
from ingest.job import Scope
from tests.backup.clusters import cluster
from tests.ingest.staff import load
from tests.ingest.test_origin import FOLLOWING, at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ingest.world import World


EVOLVE = "\n    on_schema_change: evolve"


def test_what_postgresql_18_has_beside_older_ones_is_read(world: World) -> None:
    with cluster(18) as server, psycopg.connect(server.uri(), autocommit=True) as connection:
        for statement in (
            "CREATE TABLE t (id int PRIMARY KEY, mail text, phone text,"
            " twice int GENERATED ALWAYS AS (id * 2) VIRTUAL)",
            "INSERT INTO t VALUES (1, NULL, '12'), (2, 'ada@school.example', '34')",
            "ALTER TABLE t ADD CONSTRAINT has_mail NOT NULL mail NOT VALID",
            "ALTER TABLE t ALTER phone SET NOT NULL",
        ):
            connection.execute(statement.encode())
        here, rule = at(world, server.uri()), f"{FOLLOWING.replace('staff', 't')}{EVOLVE}"
        assert load(here, rule).reason == "first load"
        here.assert_same("public.t", "raw_hr.t")
        connection.execute("UPDATE t SET mail = 'bob@school.example' WHERE mail IS NULL")
        connection.execute("ALTER TABLE t VALIDATE CONSTRAINT has_mail")
        assert load(here, rule).reason == "column mail became NOT NULL"
        here.assert_same("public.t", "raw_hr.t")
        # What is computed as it is read changes in rows that nobody writes.
        for change, reason in (
            ("ADD thrice int GENERATED ALWAYS AS (id * 3) VIRTUAL",
             "column thrice added (integer) with a value"),
            ("ALTER thrice SET EXPRESSION AS (id * 4)", "column thrice changed from integer"
             " computed by (id * 3) to integer computed by (id * 4)"),
        ):  # fmt: skip
            connection.execute(f"ALTER TABLE t {change}".encode())
            assert load(here, rule).reason == reason
            here.assert_same("public.t", "raw_hr.t")
        # Its bytes are a finite interval in the warehouse.
        connection.execute("CREATE TABLE waits (waits interval[])")
        connection.execute("INSERT INTO waits VALUES ('{1 day -00:00:01.5}')")
        here.run("public.waits")
        here.assert_same("public.waits", "raw_hr.waits")
        connection.execute("INSERT INTO waits VALUES ('{infinity}')")
        with pytest.raises(RunFailedError, match="waits, column waits, row 2: expected it"):
            here.run("public.waits")
    assert world.rows(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'raw_hr.t'::regclass"
        " AND attnum > 0 AND attnotnull ORDER BY attnum"
    ) == [("id",), ("mail",), ("phone",)]


def test_bytes_that_are_no_text_are_named_and_other_tables_arrive(world: World) -> None:
    with database(world, "SQL_ASCII") as here:
        with psycopg.connect(here.source_admin) as connection:
            connection.execute("CREATE TABLE plain AS SELECT 1 AS id, 'a' AS t")
            connection.execute("CREATE TABLE odd AS SELECT 1 AS id, E'\\xe9' AS t")
        with pytest.raises(
            RunFailedError, match=r"source hr: table public\.odd: .*22021"
        ) as failure:
            here.run()
        assert "no text in the source's encoding: mend that row there" in failure.value.hint
        assert world.rows("SELECT id, t FROM raw_hr.plain") == [(1, "a")]


@contextmanager
def database(world: World, encoding: str) -> Iterator[World]:
    """Give the world a source in another encoding, on its own server."""
    name = f"source_{secrets.token_hex(3)}"
    with psycopg.connect(world.source_admin, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING {encoding} LOCALE 'C'".encode()
        )
        try:
            yield at(world, world.source_admin.rpartition("/")[0] + f"/{name}")
        finally:
            connection.execute(f"DROP DATABASE {name}".encode())


LONG = "é" * 40  # 40 bytes in a database of single bytes, 80 in UTF-8


def test_names_that_are_too_long_in_utf_8_are_named_and_other_tables_arrive(world: World) -> None:
    with database(world, "LATIN1") as here:
        with psycopg.connect(here.source_admin) as connection:
            for statement in (
                f"CREATE TYPE {LONG} AS ENUM ('a')", f"CREATE TYPE labelled AS ENUM ('{LONG}')",
                f"CREATE DOMAIN domain_{LONG} AS int", f"CREATE TYPE parts AS ({LONG} int)",
                f"CREATE TYPE range_{LONG} AS RANGE (subtype = int)",
                f"CREATE TYPE ranged AS RANGE (subtype = int, multirange_type_name = many_{LONG})",
                f"CREATE TYPE inner_ AS (deep {LONG}[])", "CREATE TYPE été AS ENUM ('à', 'é')",
                f"CREATE TABLE table_{LONG} (id int)", f"CREATE TABLE by_column ({LONG} int)",
                f"CREATE TABLE by_enum (v {LONG})", "CREATE TABLE by_label (v labelled)",
                f"CREATE TABLE by_domain (v domain_{LONG})", "CREATE TABLE by_attribute (v parts)",
                f"CREATE TABLE by_range (v range_{LONG})", "CREATE TABLE by_multirange (v ranged)",
                "CREATE TABLE by_part (v inner_)", "CREATE TABLE short (é été, n text)",
                "INSERT INTO short VALUES ('é', 'à la carte')",
            ):  # fmt: skip
                connection.execute(statement)
        due = run.foresee(here.job(), Scope())
        assert [str(plan) for plan in due.plans] == ["raw_hr.short"]
        assert len(due.failed) == 9
        for table, error in due.failed.items():
            assert LONG in error.message, table
            assert "at most 63 bytes" in error.message
        with pytest.raises(RunFailedError, match="expected 10 tables published, found 9 not"):
            here.run()
        here.assert_same("public.short", "raw_hr.short")
        assert (
            world.rows("SELECT typname FROM pg_type WHERE typname LIKE %s", f"%{LONG[:20]}%") == []
        )
