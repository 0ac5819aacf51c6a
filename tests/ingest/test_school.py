"""The school's databases, loaded, changed and loaded again: the warehouse equals the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from standins.school.load import DATABASES, TABLES, load
from standins.school.mutate import mutate

if TYPE_CHECKING:
    from tests.ingest.world import World


@pytest.mark.parametrize("name", DATABASES)
def test_every_column_of_every_table_is_the_same_before_and_after_a_day(
    world: World, name: str
) -> None:
    with psycopg.connect(world.source_admin) as connection:
        load(connection, name, 0.01, 1)
    world.at_source()
    tables = {table.name for table in TABLES[name]}
    for seed in (1, 2):
        loaded = {found.table: found.rows for found in world.run().loaded}
        assert set(loaded) == {f"raw_hr.{table}" for table in tables}
        for table in tables:
            world.assert_same(f"public.{table}", f"raw_hr.{table}")
            assert loaded[f"raw_hr.{table}"] > 0
        with psycopg.connect(world.source_admin) as connection:
            mutate(connection, name, seed)


@pytest.mark.parametrize("name", DATABASES)
def test_increments_follow_a_school_week_row_by_row(world: World, name: str) -> None:
    with psycopg.connect(world.source_admin) as connection:
        load(connection, name, 0.01, 1)
    world.at_source()
    found = world.source_rows(
        "SELECT c.relname FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'updated_at'"
        " WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition"
    )
    rules = [
        f"name: public.{table}\n    load: incremental\n    cursor: updated_at\n    deletes: detect"
        for (table,) in found
    ]
    assert len(rules) > 1
    for day in range(5):
        for loaded in world.run(*rules).loaded:
            assert loaded.load == ("incremental" if day else "full")
        for (table,) in found:
            world.assert_same(f"public.{table}", f"raw_hr.{table}")
        with psycopg.connect(world.source_admin) as connection:
            mutate(connection, name, day)
