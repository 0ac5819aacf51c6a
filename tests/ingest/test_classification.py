"""What may not leave a source does not, whatever its migrations call it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest.errors import RunFailedError

if TYPE_CHECKING:
    from tests.ingest.world import World

PEOPLE = (
    "CREATE TABLE people (id int PRIMARY KEY, name text, ssn text)",
    "INSERT INTO people SELECT n, 'name-' || n, 'ssn-' || n FROM generate_series(1, 5) n",
)
RENAMED_AND_MADE_ANEW = (
    "ALTER TABLE people RENAME ssn TO ssn_old", "ALTER TABLE people ADD ssn text",
    "UPDATE people SET ssn = ssn_old",
)  # fmt: skip
SWAPPED = (
    "ALTER TABLE people RENAME ssn TO x", "ALTER TABLE people RENAME name TO ssn",
    "ALTER TABLE people RENAME x TO name",
)  # fmt: skip
BOTH_RENAMED = (
    "ALTER TABLE people RENAME TO persons", "ALTER TABLE persons RENAME ssn TO number",
)  # fmt: skip
NEW = ("ALTER TABLE people ADD phone text DEFAULT 'ssn-0'",)


def everything(world: World) -> str:
    """Return all that the warehouse holds in tables, as text."""
    found = ""
    for schema, name in world.rows(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('raw_hr', 'ops',"
        " 'raw_hr_staging')"
    ):
        found += str(world.rows(f'SELECT * FROM "{schema}"."{name}"'))
    return found


@pytest.mark.parametrize("load", ["full", "incremental"])
@pytest.mark.parametrize(
    ("columns", "migration"),
    [
        ("exclude: [ssn]", RENAMED_AND_MADE_ANEW), ("exclude: [ssn]", SWAPPED),
        ("exclude: [ssn]", BOTH_RENAMED), ("hash: [ssn]", RENAMED_AND_MADE_ANEW),
        ("hash: [ssn]", SWAPPED), ("hash: [ssn]", BOTH_RENAMED),
        ("only: [id, name]", (*RENAMED_AND_MADE_ANEW, *NEW)), ("only: [id, name]", SWAPPED),
        ("only: [id, name]", BOTH_RENAMED), ("exclude: [ssn]", (*SWAPPED, *BOTH_RENAMED[:1])),
    ],
)  # fmt: skip
def test_no_migration_lets_a_withheld_column_out(
    world: World, columns: str, migration: tuple[str, ...], load: str
) -> None:
    text = f"name: public.*\n    load: {load}\n    columns: {{{columns}}}"
    world.at_source(*PEOPLE)
    world.run(text)
    world.at_source(*migration)
    try:
        world.run(text)
    except RunFailedError as error:
        assert "expected its source public.people, found it gone" in str(error)
        assert "TO persons" in str(migration)
    assert "ssn-" not in everything(world)


def test_no_migration_lets_a_withheld_column_into_an_append(world: World) -> None:
    cases = {
        f"p{place}": (columns, migration)
        for place, (columns, migration) in enumerate([
            ("exclude: [ssn]", RENAMED_AND_MADE_ANEW), ("exclude: [ssn]", SWAPPED),
            ("hash: [ssn]", RENAMED_AND_MADE_ANEW), ("hash: [ssn]", SWAPPED),
            ("only: [id, name]", (*RENAMED_AND_MADE_ANEW, *NEW)), ("only: [id, name]", SWAPPED),
        ])
    }  # fmt: skip
    rules = [
        f"name: public.{table}\n    load: append\n    cursor: id\n    columns: {{{columns}}}"
        for table, (columns, _) in cases.items()
    ]
    for table in cases:
        world.at_source(*(each.replace("people", table) for each in PEOPLE))
    world.run(*rules)
    more = "INSERT INTO people (id, ssn, name) SELECT 9, ssn, name FROM people WHERE id = 3"
    for table, (_, migration) in cases.items():
        world.at_source(*(each.replace("people", table) for each in (*migration, more)))
    with suppress(RunFailedError):  # a name of one that an append keeps may be another's now
        world.run(*rules)
    assert "ssn-" not in everything(world)
    assert world.rows("SELECT count(*) FROM raw_hr.p4") == [(6,)], "the others go on"


def test_the_file_decides_again_by_naming_the_column(world: World) -> None:
    world.at_source(*PEOPLE)
    text = "name: public.people\n    columns: {{exclude: [{}]}}"
    world.run(text.format("ssn"))
    world.at_source(*SWAPPED)
    world.run(text.format("ssn"))
    assert world.rows("SELECT to_jsonb(p) FROM raw_hr.people p WHERE id = 1") == [({"id": 1},)]
    world.run(text.format("name"))
    assert world.rows("SELECT to_jsonb(p) FROM raw_hr.people p WHERE id = 1") == [
        ({"id": 1, "ssn": "name-1"},)
    ]


def test_what_is_new_does_not_leave_until_it_is_listed(world: World) -> None:
    world.at_source(*PEOPLE)
    text = "name: public.people\n    columns: {{only: [{}], hash: [ssn]}}"
    world.run(text.format("id, name"))
    world.at_source("ALTER TABLE people ADD phone text DEFAULT '12'")
    world.run(text.format("id, name"))
    assert world.rows("SELECT to_jsonb(p) ? 'phone' FROM raw_hr.people p LIMIT 1") == [(False,)]
    world.run(text.format("id, name, phone"))
    assert world.rows("SELECT DISTINCT phone FROM raw_hr.people") == [("12",)]


def test_the_shape_of_an_older_release_withholds_by_name(world: World) -> None:
    text = "name: public.*\n    columns: {exclude: [ssn]}"
    world.at_source(*PEOPLE)
    world.run(text)
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute(
            "UPDATE ops.shapes SET shape = jsonb_set(shape, '{withheld}', '[\"ssn\"]')"
        )
    world.at_source("ALTER TABLE people RENAME ssn TO number")
    with pytest.raises(RunFailedError, match=r"table public\.people: columns: expected ssn"):
        world.run(text)
