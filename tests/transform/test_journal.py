"""What a run leaves in the warehouse for readers and for the next run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from transform import journal
from transform.results import Fault, Mart

if TYPE_CHECKING:
    from collections.abc import Iterator

SOUND = Mart("a")
UNSOUND = Mart("b", faults=(Fault("unique_b", "fail", "Key (name)=(Ama) exists"),))


@pytest.fixture
def warehouse(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA marts")
        yield connection


def rows(warehouse: psycopg.Connection) -> list[tuple[str, bool, str | None]]:
    return warehouse.execute(
        "SELECT mart, published_at IS NOT NULL, unsound FROM marts.published_marts ORDER BY mart"
    ).fetchall()


def test_each_run_says_of_each_mart_what_keeps_it_back_and_how_the_run_before_went(
    warehouse: psycopg.Connection,
) -> None:
    assert not journal.write(warehouse, [SOUND, UNSOUND], [])
    assert rows(warehouse) == [("a", True, None), ("b", False, "unique_b: fail")]
    assert journal.write(warehouse, [SOUND, Mart("b")], ["a"])
    assert rows(warehouse) == [("a", True, "not published"), ("b", True, None)]
    assert journal.write(warehouse, [Mart("b")], [])
    assert rows(warehouse) == [("b", True, None)], "a is no model any more"
    assert not journal.write(warehouse, [Mart("b")], [])


def test_a_mart_that_fails_keeps_the_time_at_which_its_rows_were_published(
    warehouse: psycopg.Connection,
) -> None:
    query = "SELECT published_at FROM marts.published_marts"
    journal.write(warehouse, [Mart("b")], [])
    before = warehouse.execute(query).fetchall()
    journal.write(warehouse, [UNSOUND], [])
    assert warehouse.execute(query).fetchall() == before


def test_a_run_without_results_is_followed_by_a_recovery(warehouse: psycopg.Connection) -> None:
    journal.write_failure(warehouse)  # of a first run: there is nothing yet
    journal.write(warehouse, [SOUND], [])
    journal.write_failure(warehouse)
    assert rows(warehouse) == [("a", True, journal.NO_RESULTS)]
    assert journal.write(warehouse, [SOUND], [])
