"""Marts move in front of readers whole, quickly, and with all that belongs to them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from transform import publish as publishing
from transform.publish import publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer


@pytest.fixture
def warehouse(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA marts")
        connection.execute("CREATE SCHEMA marts_build")
        yield connection


def build(warehouse: psycopg.Connection, day: int, *names: str) -> None:
    for name in names:
        warehouse.execute(f"CREATE TABLE marts_build.{name} AS SELECT {day} AS day".encode())


def rows(warehouse: psycopg.Connection, name: str) -> list[tuple[int]]:
    return warehouse.execute(f"SELECT * FROM marts.{name}".encode()).fetchall()


def test_a_mart_comes_with_its_index_comment_and_rights(
    warehouse: psycopg.Connection, postgres: PostgresServer
) -> None:
    warehouse.execute("CREATE ROLE reader")
    try:
        for day in (1, 2):
            build(warehouse, day, "a")
            warehouse.execute("CREATE INDEX ON marts_build.a (day)")
            warehouse.execute("COMMENT ON TABLE marts_build.a IS 'One row a day.'")
            warehouse.execute("GRANT SELECT ON marts_build.a TO reader")
            assert publish(warehouse, ["a"]) == {}
            assert rows(warehouse, "a") == [(day,)]
        found = warehouse.execute(
            "SELECT obj_description('marts.a'::regclass), has_table_privilege('reader', 'marts.a',"
            " 'SELECT'), (SELECT count(*) FROM pg_indexes WHERE schemaname = 'marts')"
        ).fetchone()
        assert found == ("One row a day.", True, 1)
    finally:
        warehouse.execute("DROP OWNED BY reader")
        warehouse.execute("DROP ROLE reader")


def test_what_stands_in_the_way_of_one_is_named_and_the_others_are_published(
    warehouse: psycopg.Connection,
) -> None:
    build(warehouse, 1, "a", "b", "c")
    assert publish(warehouse, ["a", "b"]) == {}
    warehouse.execute("CREATE VIEW marts.mine AS SELECT * FROM marts.a")
    warehouse.execute("CREATE VIEW marts.c AS SELECT 7 AS day")
    build(warehouse, 2, "a", "b")
    refused = publish(warehouse, ["a", "b", "c", "d"])
    assert {name: error.message for name, error in refused.items()} == {
        "a": "mart marts.a: expected nothing that depends on it, found view marts.mine depends on"
        " table marts.a",
        "c": 'mart marts.c: expected a table or nothing, found: "c" is not a table',
        "d": 'mart marts.d: PostgreSQL refused to publish it: relation "marts_build.d" does not'
        " exist",
    }
    assert rows(warehouse, "a") == [(1,)]
    assert rows(warehouse, "b") == [(2,)]
    assert rows(warehouse, "mine") == [(1,)]


def test_it_waits_for_a_reader_in_short_turns_and_other_readers_do_not_wait_long(
    warehouse: psycopg.Connection, database: str
) -> None:
    build(warehouse, 1, "a")
    publish(warehouse, ["a"])
    build(warehouse, 2, "a")
    waited: list[float] = []
    with psycopg.connect(database) as slow, psycopg.connect(database, autocommit=True) as other:
        slow.execute("SELECT * FROM marts.a")  # its transaction stays open
        swap = threading.Thread(target=publish, args=(warehouse, ["a"]))
        swap.start()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            began = time.monotonic()
            assert rows(other, "a") == [(1,)]
            waited.append(time.monotonic() - began)
            time.sleep(0.05)
        slow.rollback()
        swap.join(30)
        assert rows(other, "a") == [(2,)]
    assert max(waited) < 2.5


def test_a_reader_that_never_ends_is_told_and_nothing_is_lost(
    warehouse: psycopg.Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "ATTEMPTS", 2)
    monkeypatch.setattr(publishing, "LOCK_TIMEOUT", "20ms")
    build(warehouse, 1, "a")
    publish(warehouse, ["a"])
    build(warehouse, 2, "a")
    with psycopg.connect(database) as slow:
        slow.execute("SELECT * FROM marts.a")
        refused = publish(warehouse, ["a"])
    assert "expected a moment without a reader" in refused["a"].message
    assert rows(warehouse, "a") == [(1,)]
    assert publish(warehouse, ["a"]) == {}
    assert rows(warehouse, "a") == [(2,)]
