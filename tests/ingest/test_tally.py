"""Somebody's rules and triggers on published tables keep no row out without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest.errors import RunFailedError

if TYPE_CHECKING:
    from tests.ingest.world import World

MERGED = "load: incremental\n    deletes: detect"
RULES = [
    f"name: public.{name}\n    {load}"
    for name, load in {
        "whole": "load: full", "kept": "load: full\n    deletes: mark", "merged": MERGED,
        "stuck": MERGED, "added": "load: append\n    cursor: id", "watched": MERGED,
        "watched_whole": "load: full\n    deletes: mark",
    }.items()
]  # fmt: skip
# What is done in the place of each kind of change; what only watches, or returns the row.
CODE = """
    CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE FUNCTION public.same() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN RETURN coalesce(NEW, OLD); END';
    CREATE RULE r AS ON DELETE TO raw_hr.whole DO INSTEAD NOTHING;
    CREATE TRIGGER t BEFORE INSERT ON raw_hr.kept FOR EACH ROW EXECUTE FUNCTION public.nothing();
    CREATE TRIGGER t BEFORE UPDATE ON raw_hr.merged FOR EACH ROW EXECUTE FUNCTION public.nothing();
    CREATE RULE r AS ON DELETE TO raw_hr.stuck DO INSTEAD NOTHING;
    CREATE TRIGGER t BEFORE INSERT ON raw_hr.added FOR EACH ROW EXECUTE FUNCTION public.nothing();
"""
WATCHED = """
    CREATE TRIGGER before BEFORE INSERT OR UPDATE OR DELETE ON raw_hr.{0}
      FOR EACH ROW EXECUTE FUNCTION public.same();
    CREATE TRIGGER after AFTER INSERT OR UPDATE OR DELETE ON raw_hr.{0}
      FOR EACH ROW EXECUTE FUNCTION public.nothing();
"""


def test_what_a_rule_or_a_trigger_keeps_from_a_published_table_fails_that_table(
    world: World,
) -> None:
    tables = [rule.partition("\n")[0].removeprefix("name: public.") for rule in RULES]
    for table in tables:
        world.at_source(f"CREATE TABLE {table} (id int PRIMARY KEY, name text)",
                        f"INSERT INTO {table} VALUES (1, 'a'), (2, 'b'), (3, 'c')")  # fmt: skip
    world.run(*RULES)
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute(CODE)
        for table in tables[-2:]:
            connection.execute(WATCHED.format(table).encode())
    # As many come as go, so the number of rows alone would tell nothing.
    for table in tables:
        world.at_source(f"DELETE FROM {table} WHERE id = 1", f"INSERT INTO {table} VALUES (4, 'd')",
                        f"UPDATE {table} SET name = 'e' WHERE id = 2")  # fmt: skip
    with pytest.raises(RunFailedError) as failure:
        world.run(*RULES)
    assert "expected 7 tables published, found 5 not" in str(failure.value)
    assert str(failure.value).count("a rule or a trigger that somebody gave it keeps rows") == 5
    for table in tables[:-2]:
        assert world.rows(f"SELECT id, name FROM raw_hr.{table} ORDER BY id") == [
            (1, "a"), (2, "b"), (3, "c"),
        ], "what was published stays"  # fmt: skip
    for table in tables[-2:]:
        query = "SELECT id, name FROM {}.{} {} ORDER BY id"
        live = "WHERE _deleted_at IS NULL" if table == "watched_whole" else ""
        assert world.rows(query.format("raw_hr", table, live)) == world.source_rows(
            query.format("public", table, "")
        )
