"""A pipeline file says something else: the next run has the right rows, by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.ingest.world import World

DETECT = "load: incremental\n    deletes: detect"
MARK = "load: incremental\n    deletes: mark"
IGNORE = "load: incremental\n    deletes: ignore"
APPEND = "load: append\n    cursor: id"
# By the name of a table: its rule before, its rule after, and whether rows 1 and 3, which go
# before and after the last run under the rule before, then are gone, marked or kept.
CASES = {
    "ignore_detect": (IGNORE, DETECT, ("gone", "gone")),
    "ignore_mark": (IGNORE, MARK, ("marked", "marked")),
    "ignore_full": (IGNORE, "load: full", ("gone", "gone")),
    "detect_ignore": (DETECT, IGNORE, ("gone", "kept")),
    "detect_mark": (DETECT, MARK, ("gone", "marked")),
    "mark_detect": (MARK, DETECT, ("gone", "gone")),
    "mark_ignore": (MARK, IGNORE, ("gone", "gone")),
    "full_mark": ("load: full", MARK, ("gone", "marked")),
    "id_badge": (DETECT, f"{DETECT}\n    key: [badge]", ("gone", "gone")),
    "badge_id": (f"{DETECT}\n    key: [badge]", DETECT, ("gone", "gone")),
    "append_detect": (APPEND, DETECT, ("gone", "gone")),
    "append_mark": (APPEND, MARK, ("marked", "marked")),
    "ignore_append": (IGNORE, APPEND, ("kept", "kept")),
}


def everywhere(world: World, *changes: str) -> None:
    world.at_source(*(change.format(table=table) for table in CASES for change in changes))


def loads(world: World, rule: int) -> dict[str, str]:
    """Run all tables by their rules of before (0) or after (1); return how each was loaded."""
    rules = (f"name: public.{table}\n    {case[rule]}" for table, case in CASES.items())
    return {each.table.removeprefix("raw_hr."): each.load for each in world.run(*rules).loaded}


def test_another_rule_has_the_right_rows_at_the_next_run_by_itself(world: World) -> None:
    everywhere(
        world,
        "CREATE TABLE {table} (id int PRIMARY KEY, badge int NOT NULL UNIQUE, name text)",
        "INSERT INTO {table} SELECT n, 100 + n, 'Name ' || n FROM generate_series(1, 9) n",
    )
    loads(world, 0)
    everywhere(
        world,
        "DELETE FROM {table} WHERE id = 1",
        "UPDATE {table} SET name = 'a' WHERE id = 2",
        "INSERT INTO {table} VALUES (10, 110, 'ten')",
    )
    loads(world, 0)
    everywhere(
        world,
        "DELETE FROM {table} WHERE id = 3",
        "UPDATE {table} SET name = 'b' WHERE id = 4",
        "UPDATE {table} SET badge = 200 WHERE id = 5",
        "INSERT INTO {table} VALUES (11, 111, 'eleven')",
    )
    loads(world, 1)
    for table, (_, after, fates) in CASES.items():
        assert published(world, table, marks=after is MARK) == expected(world, table, fates)
    everywhere(world, "INSERT INTO {table} VALUES (12, 112, 'twelve')")
    assert loads(world, 1) == {
        table: after.split()[1] for table, (_, after, _) in CASES.items()
    }  # by increments from here on


def published(world: World, table: str, *, marks: bool) -> dict[int, tuple[Any, ...]]:
    mark = "_deleted_at IS NOT NULL" if marks else "false"
    found = world.rows(f"SELECT id, badge, name, {mark} FROM raw_hr.{table}")
    return {row[0]: row[1:] for row in found}


def expected(world: World, table: str, fates: tuple[str, str]) -> dict[int, tuple[Any, ...]]:
    rows = world.source_rows(f"SELECT id, badge, name, false FROM {table}")
    found: dict[int, tuple[Any, ...]] = {row[0]: row[1:] for row in rows}
    for id_, fate in zip((1, 3), fates, strict=True):
        if fate != "gone":
            found[id_] = (100 + id_, f"Name {id_}", fate == "marked")
    if table == "ignore_append":  # which changes no row that is there
        found |= {4: (104, "Name 4", False), 5: (105, "Name 5", False)}
    return found
