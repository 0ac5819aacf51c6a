"""A day changes what it says it does, moves updated_at, and is the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from standins.school.digest import digests
from standins.school.errors import SchoolError
from standins.school.load import DATABASES, TABLES, load
from standins.school.mutate import Changes, mutate

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

SMALL, SEED = 0.01, 7


def snapshot(connection: Connection, table: str) -> dict[str, tuple[str, Any]]:
    """Return each row's text and updated_at by its primary key."""
    query = (
        "SELECT string_agg(format('%I::text', attname), ' || ' ORDER BY attnum) FROM pg_index"
        " JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey::int[])"
        f" WHERE indisprimary AND indrelid = '{table}'::regclass"
    )
    ((key,),) = connection.execute(query.encode()).fetchall()
    rows = connection.execute(f"SELECT {key}, t::text, updated_at FROM {table} t".encode())
    return {name: (text, at) for name, text, at in rows}


@pytest.mark.parametrize("scale", [SMALL, 0.1])
@pytest.mark.parametrize("database_", DATABASES)
def test_a_day_changes_what_it_says_and_moves_updated_at(
    connection: Connection, database_: str, scale: float
) -> None:
    load(connection, database_, scale, SEED)
    for day in range(3):
        before = {table.name: snapshot(connection, table.name) for table in TABLES[database_]}
        latest = max(at for rows in before.values() for _, at in rows.values())
        told = mutate(connection, database_, 1)
        for table, old in before.items():
            new = snapshot(connection, table)
            moved = {k for k in new if k not in old or new[k] != old[k]}
            assert told.get(table, Changes()) == Changes(
                inserted=len(new.keys() - old.keys()),
                updated=len(moved & old.keys()),
                deleted=len(old.keys() - new.keys()),
            ), (table, day)
            assert all(new[k][1] > latest for k in moved)
        total = [sum(part) for part in zip(*map(_counts, told.values()), strict=True)]
        assert min(total) > 0, (day, told)


def _counts(done: Changes) -> tuple[int, int, int]:
    return done.inserted, done.updated, done.deleted


@pytest.mark.parametrize("database_", DATABASES)
def test_days_are_the_same_for_the_same_seed(
    connection: Connection, other: Connection, database_: str
) -> None:
    for each in (connection, other):
        load(each, database_, SMALL, SEED)
        mutate(each, database_, 1)
    other.execute("SET TimeZone = 'America/Lima'; SET DateStyle = 'SQL, DMY'")
    assert mutate(connection, database_, 2) == mutate(other, database_, 2)
    other.execute("RESET TimeZone; RESET DateStyle")
    assert digests(connection) == digests(other)
    mutate(connection, database_, 3)
    mutate(other, database_, 4)
    assert digests(connection) != digests(other)


def test_a_day_needs_the_school_it_is_named_for(connection: Connection) -> None:
    with pytest.raises(SchoolError, match="found no school"):
        mutate(connection, "hr", 1)
    load(connection, "hr", SMALL, SEED)
    with pytest.raises(SchoolError, match=r"expected the school's records, found .* hr"):
        mutate(connection, "records", 1)
