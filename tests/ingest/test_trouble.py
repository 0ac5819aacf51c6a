"""What goes wrong on either server is one clear error, and what was published stays as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psycopg
import pytest

from frame.failure import Failure
from tests.ingest.staff import STAFF, load, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ingest.world import World

FULL = rule(load="", cursor="", lookback="")


@contextmanager
def role_setting(uri: str, role: str, setting: str, value: str) -> Iterator[None]:
    """Let every new session of ``role`` begin with ``setting``."""
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {role} SET {setting} = {value}")
        try:
            yield
        finally:
            connection.execute(f"ALTER ROLE {role} RESET {setting}")


def assert_intact(world: World) -> None:
    assert world.rows("SELECT count(*), min(name), max(name) FROM raw_hr.staff") == [
        (100, "Name 1", "Name 99")
    ]


@pytest.mark.parametrize("text", [FULL, rule()], ids=["full", "incremental"])
def test_a_warehouse_that_only_reads_is_named(world: World, text: str) -> None:
    world.at_source(*STAFF)
    load(world, text)
    world.at_source("UPDATE staff SET name = 'new', updated_at = '2026-02-01'")
    with (
        role_setting(world.warehouse_admin, "ingest_loader", "default_transaction_read_only", "on"),
        pytest.raises(Failure, match=r"warehouse: .*read-only transaction") as failure,
    ):
        load(world, text)
    assert failure.value.hint.startswith("The server is read-only")
    assert_intact(world)
    assert load(world, text).rows == 100


def test_a_statement_that_takes_too_long_is_named_with_its_table(world: World) -> None:
    world.at_source(
        *STAFF, "CREATE VIEW slow AS SELECT id, pg_sleep(0.2)::text AS nap FROM staff LIMIT 20"
    )
    load(world, FULL)
    with (
        role_setting(world.source_admin, "ingest_reader", "statement_timeout", "'500ms'"),
        pytest.raises(
            Failure, match=r"source hr: table public\.slow: .*statement timeout"
        ) as failure,
    ):
        world.run(FULL, "public.slow")
    assert "raise it for the role at the source" in failure.value.hint
    assert_intact(world)


@pytest.fixture
def tiny_disk() -> Iterator[Path]:
    """A file system of 8 MB that belongs to PostgreSQL, where pytest closes no folder to others."""
    assert os.geteuid() == 0, "the tests run as root, as the platform does"
    with TemporaryDirectory(prefix="harmattan-tiny-") as name:
        folder = Path(name)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
        try:
            shutil.chown(folder, "postgres", "postgres")
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("text", [FULL, rule()], ids=["full", "incremental"])
def test_a_warehouse_whose_disk_is_full_says_so_and_loses_nothing(
    world: World, tiny_disk: Path, text: str
) -> None:
    world.at_source(*STAFF)
    load(world, text)
    world.at_source(
        "INSERT INTO staff SELECT n, repeat(md5(n::text), 20), '2026-02-01'"
        " FROM generate_series(1000, 40000) n"
    )
    with psycopg.connect(world.warehouse_admin, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE tiny LOCATION '{tiny_disk}'")
        connection.execute("GRANT CREATE ON TABLESPACE tiny TO ingest_loader")
        try:
            with (
                role_setting(world.warehouse_admin, "ingest_loader", "default_tablespace", "tiny"),
                pytest.raises(
                    Failure, match=r"table raw_hr\.staff.*could not extend file"
                ) as failure,
            ):
                load(world, text)
            assert "make room, then run again. Published data is intact." in failure.value.hint
            assert_intact(world)
            assert load(world, text).rows == 39_101
            world.assert_same("public.staff", "raw_hr.staff")
        finally:
            for table in connection.execute(
                "SELECT oid::regclass::text FROM pg_class WHERE reltablespace ="
                " (SELECT oid FROM pg_tablespace WHERE spcname = 'tiny') AND relkind = 'r'"
            ).fetchall():
                connection.execute(f"DROP TABLE {table[0]}")
            connection.execute("DROP TABLESPACE tiny")


def test_a_warehouse_session_that_is_ended_in_mid_audit_leaves_the_old(world: World) -> None:
    world.at_source(*STAFF, "CREATE TABLE other (id int)")
    load(world, FULL)
    world.at_source("UPDATE staff SET name = 'new'")

    def end_it() -> None:
        for _ in range(200):
            if world.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query LIKE '%pg_sleep(19)%' AND pid <> pg_backend_pid()"
            ):
                return
            time.sleep(0.05)

    check = '{sql: {slow: "select pg_sleep(19) is null from {table} limit 1"}}'
    with ThreadPoolExecutor(1) as pool:
        pool.submit(end_it)
        with pytest.raises(Failure, match=r"the connection is lost|terminating connection"):
            world.run(rule(load="", cursor="", lookback="", checks=check), "public.other")
    assert_intact(world)
    assert {each.rows for each in world.run(FULL, "public.other").loaded} == {100, 0}
