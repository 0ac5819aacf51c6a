"""Where columns land, and how enum types grow."""

from __future__ import annotations

import pytest
from ingest import types
from ingest.shapes import Column, Relation, SourceType, TableShape, WarehouseTypes


def enum(name: str, *labels: str, schema: str = "public") -> SourceType:
    return SourceType(name, schema, name, "e", labels=labels)


def table(*columns: SourceType, name: str = "t") -> TableShape:
    relation = Relation(1, "public", name, "r", readable=True)
    return TableShape(relation, tuple(Column(f"c{n}", kind) for n, kind in enumerate(columns)))


@pytest.mark.parametrize(
    ("there", "labels", "additions"),
    [
        (None, "ab", None),
        ("ab", "ab", []),
        ("a", "abc", [("b", "a"), ("c", "b")]),
        ("b", "ab", [("a", None)]),
        ("", "ab", [("a", None), ("b", "a")]),
        ("abc", "ac", []),
        ("axb", "ayb", [("y", "a")]),
    ],
)
def test_an_enum_is_created_or_grown(
    there: str | None, labels: str, additions: list[tuple[str, str | None]] | None
) -> None:
    warehouse = WarehouseTypes(enums={} if there is None else {"e": tuple(there)})
    plan = types.plan_enums([table(enum("e", *labels))], warehouse)
    assert plan.usable == {"e": tuple(labels)}
    assert plan.create == (("e",) if there is None else ())
    assert plan.additions == tuple(("e", *addition) for addition in additions or [])


@pytest.mark.parametrize(
    "warehouse",
    [WarehouseTypes(enums={"e": ("b", "a")}), WarehouseTypes(other=frozenset({"e"}))],
)
def test_an_enum_that_does_not_fit_the_warehouse_lands_in_text(warehouse: WarehouseTypes) -> None:
    source = enum("e", "a", "b")
    plan = types.plan_enums([table(source)], warehouse)
    landing = types.landing(source, schema="raw", enums=plan, warehouse=warehouse)
    assert landing.declaration.as_string() == "text"


def test_an_enum_named_like_a_table_lands_in_text() -> None:
    assert not types.plan_enums([table(enum("t", "a"))], WarehouseTypes()).usable


def test_of_two_enums_of_one_name_the_first_gets_it() -> None:
    first, second = enum("e", "a"), enum("e", "b", schema="other")
    plan = types.plan_enums([table(first, second)], WarehouseTypes())
    landings = [
        types.landing(kind, schema="raw", enums=plan, warehouse=WarehouseTypes())
        for kind in (first, second)
    ]
    assert [landing.declaration.as_string() for landing in landings] == ['"raw"."e"', "text"]


def test_a_builtin_type_that_the_warehouse_does_not_know_lands_in_text() -> None:
    newer = SourceType("uuid7", "pg_catalog", "uuid7", "b")
    enums = types.plan_enums([], WarehouseTypes())
    assert types.builtin_declarations([table(newer)]) == ("uuid7",)
    for known, expected in ((frozenset({"uuid7"}), "uuid7"), (frozenset[str](), "text")):
        warehouse = WarehouseTypes(builtin=known)
        landing = types.landing(newer, schema="raw", enums=enums, warehouse=warehouse)
        assert landing.declaration.as_string() == expected
