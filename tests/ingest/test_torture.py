"""Whatever a table of PostgreSQL can hold arrives as the same type with the same value."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ingest import run
from ingest.job import Scope
from tests.ingest import torture
from tests.ingest.world import SHOWN

if TYPE_CHECKING:
    from tests.ingest.world import World

# What a session shows of a value must not depend on what a database sets for itself.
PLAIN = (
    "-c search_path=pg_catalog -c lc_monetary=C -c timezone=UTC -c datestyle=ISO"
    " -c xmloption=content"
)
ALL = ("public.*", "odd.*", "name: '\"Other schema\".*'", "odd.seen", "odd.kept")
INCREMENTAL = "load: incremental\n    cursor: stamp\n    deletes: detect"
Side = dict[str, dict[str, Any]]
_QUALIFIED = re.compile(r'^(?:"(?:[^"]|"")+"|[a-z_]+)\.')
_SUFFIX = re.compile(r"_[0-9a-f]{8}")  # of a type whose own name another type has


@pytest.fixture
def torn(world: World) -> World:
    torture.create(world.source_admin)
    return world


def at(uri: str, schemas: tuple[str, ...]) -> Side:
    """Return of every relation its columns' types and its rows' texts, each as often as it is."""
    found: Side = {}
    with psycopg.connect(uri, options=PLAIN) as connection:
        relations = connection.execute(
            "SELECT oid, relname, oid::regclass::text FROM pg_class"
            " WHERE relnamespace = ANY(%s::regnamespace[]) AND relkind IN ('r', 'p', 'v', 'm')"
            " AND NOT relispartition",
            [[f'"{schema}"' for schema in schemas]],
        ).fetchall()
        for oid, name, shown in relations:
            columns = connection.execute(
                f"SELECT attname, format_type(atttypid, atttypmod), {SHOWN}"
                " FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
                " ORDER BY attnum",
                [oid],
            ).fetchall()
            texts = ", ".join(f"{quoted}::text" for *_, quoted in columns)
            query = f"SELECT {texts} FROM {shown}".encode()
            found[name] = {
                "types": {column: plain(kind) for column, kind, _ in columns},
                "rows": Counter(connection.execute(query).fetchall()),
            }
    return found


def plain(declaration: str) -> str:
    return _SUFFIX.sub("", _QUALIFIED.sub("", declaration))


def lands(declaration: str) -> str:
    """Return the type that a column of the source must have in the warehouse."""
    local = declaration in torture.AS_TEXT or declaration.startswith("reg")
    return "text" if local else declaration.replace("money", "numeric")


def source(world: World) -> Side:
    found = at(world.source_admin, ("public", "odd", "Other schema"))
    for table in found.values():
        table["types"] = {column: lands(kind) for column, kind in table["types"].items()}
    return found


def warehouse(world: World) -> Side:
    return at(world.warehouse_admin, ("raw_hr",))


def assert_same(found: Side, expected: Side) -> None:
    assert found.keys() == expected.keys()
    for table, wanted in expected.items():
        assert list(found[table]["types"].items()) == list(wanted["types"].items()), table
        if found[table]["rows"] != wanted["rows"]:
            missing = wanted["rows"] - found[table]["rows"]
            more = found[table]["rows"] - wanted["rows"]
            pytest.fail(f"{table}: missing {str(missing)[:3000]}\nmore {str(more)[:3000]}")


def test_every_type_and_value_arrives_by_a_full_load_and_again_after_changes(torn: World) -> None:
    torn.run(*ALL)
    assert_same(warehouse(torn), source(torn))
    torture.change(torn.source_admin)
    torture.change_odd(torn.source_admin)
    torn.run(*ALL)
    assert_same(warehouse(torn), source(torn))


def test_tables_go_by_binary_copy_unless_a_type_forbids_it(torn: World) -> None:
    due = run.foresee(torn.job("public.*"), Scope())
    assert not due.failed
    binary = {
        plan.target.name: plan.read.format == "binary"
        for plan in due.plans
        if plan.target.name in torture.KEYED
    }
    forbidden = {*torture.TEXTUAL, "documents"}  # an empty tsquery has no binary form
    assert binary == {table: table not in forbidden for table in torture.KEYED}


def test_every_type_and_value_arrives_by_an_incremental_load(torn: World) -> None:
    rule = f"name: public.*\n    {INCREMENTAL}"
    torn.run(rule)
    torture.change(torn.source_admin)
    report = torn.run(rule)
    assert {loaded.load for loaded in report.loaded} == {"incremental"}
    changed = [each for each in report.loaded if each.source[7:] in torture.KEYED]
    assert {(each.inserted, each.updated, each.deleted) for each in changed} == {(2, 1, 1)}
    expected = at(torn.source_admin, ("public",))
    for table in expected.values():
        table["types"] = {column: lands(kind) for column, kind in table["types"].items()}
    assert_same(warehouse(torn), expected)
    again = torn.run(rule)
    assert {(each.inserted, each.updated, each.deleted) for each in again.loaded} == {(0, 0, 0)}
    assert_same(warehouse(torn), expected)


def test_every_type_and_value_is_appended_and_no_row_changes(torn: World) -> None:
    rule = "name: public.*\n    load: append\n    cursor: stamp"
    torn.run(rule)
    before = warehouse(torn)
    torture.change(torn.source_admin)
    torn.run(rule)
    now = at(torn.source_admin, ("public",))
    for name, table in before.items():
        keys = {row[0] for row in table["rows"]}
        new = {row: count for row, count in now[name]["rows"].items() if row[0] not in keys}
        assert len(new) == 2 * (name in torture.KEYED)
        table["rows"].update(new)
    assert_same(warehouse(torn), before)


def test_what_databases_set_for_themselves_changes_no_value(
    torn: World, request: pytest.FixtureRequest
) -> None:
    settings = {
        "array_nulls": ("on", "off"),
        "bytea_output": ("escape", "hex"),
        "datestyle": ("'SQL, DMY'", "'German'"),
        "default_transaction_isolation": ("'serializable'", "'serializable'"),
        "extra_float_digits": ("0", "-15"),
        "intervalstyle": ("iso_8601", "sql_standard"),
        "quote_all_identifiers": ("on", "on"),
        "search_path": ("public", "pg_temp"),
        "standard_conforming_strings": ("off", "off"),
        "timezone": ("'Asia/Kathmandu'", "'America/St_Johns'"),
        "transform_null_equals": ("on", "on"),
        "xmloption": ("document", "document"),
    }
    expected = source(torn)
    for place, role in enumerate(("ingest_reader", "ingest_loader")):
        reset = f"ALTER ROLE {role} RESET ALL"
        request.addfinalizer(lambda reset=reset: execute(torn.warehouse_admin, reset))
        for setting, values in settings.items():
            execute(torn.warehouse_admin, f"ALTER ROLE {role} SET {setting} = {values[place]}")
    torn.run(*ALL)
    assert_same(warehouse(torn), expected)
    dated = "name: odd.long_key\n    load: incremental\n    cursor: day"
    assert not run.foresee(torn.job(dated), Scope()).failed, "types are known by their names"


def test_one_of_two_tables_whose_names_begin_alike_can_be_loaded_alone(torn: World) -> None:
    torn.run("odd.*")
    torture.change_odd(torn.source_admin)
    torn.run("odd.*", only=(f"{torture.FIRST_58}bcdef",))
    found = torn.rows(f"SELECT * FROM raw_hr.{torture.FIRST_58}bcdef")
    assert found == [(1,)]


def execute(uri: str, statement: str) -> None:
    with psycopg.connect(uri) as connection:
        connection.execute(statement.encode())
