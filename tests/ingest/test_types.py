"""Where columns land, and which types are made for them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ingest.shapes import SourceType, TypeReference, WarehouseType, WarehouseTypes
from ingest.types import TEXT, Landing, Landings, TypeStep, made

if TYPE_CHECKING:
    from collections.abc import Sequence

INT = SourceType(23, "pg_catalog", "int4", "b")
XML = SourceType(142, "pg_catalog", "xml", "b")
ENUM = SourceType(1, "public", "mood", "e", labels=("a", "b"))
BUILTIN = frozenset({"int4", "xml"})


def landings(
    *types: SourceType, tables: Sequence[str] = (), **warehouse: dict[str, WarehouseType]
) -> Landings:
    known = {each.oid: each for each in (INT, XML, *types)}
    return Landings("raw", known, WarehouseTypes(builtin=BUILTIN, **warehouse), frozenset(tables))


def use(found: SourceType, declaration: str = "") -> TypeReference:
    return TypeReference(found.oid, declaration or found.name)


def statements(found: Landings) -> list[str]:
    return [step.statement.as_string() for step in found.steps]


def mark(step: TypeStep) -> str:
    """Return the comment that a step gives its type."""
    return step.statement.as_string().split("'")[-2]


def enum(*labels: str, mark: str = "harmattan public.mood") -> WarehouseType:
    return WarehouseType("e", labels, mark)


@pytest.mark.parametrize(
    ("there", "labels", "steps"),
    [
        (
            None,
            "ab",
            [
                "CREATE TYPE \"raw\".\"mood\" AS ENUM ('a', 'b');"
                ' COMMENT ON TYPE "raw"."mood" IS \'harmattan public.mood\''
            ],
        ),
        ("ab", "ab", []),
        ("a", "abc", ["'b' AFTER 'a'", "'c' AFTER 'b'"]),
        ("b", "ab", ["'a' BEFORE 'b'"]),
        ("", "ab", ["'a'", "'b' AFTER 'a'"]),
        ("abc", "ac", []),
        ("axb", "ayb", ["'y' AFTER 'a'"]),
    ],
)
def test_an_enum_is_made_or_grows(there: str | None, labels: str, steps: list[str]) -> None:
    source = replace(ENUM, labels=tuple(labels))
    found = landings(source, here={} if there is None else {"mood": enum(*there)})
    assert found.of(use(source)) == Landing('"raw"."mood"', binary=True)
    grown = 'ALTER TYPE "raw"."mood" ADD VALUE IF NOT EXISTS '
    assert [statement.removeprefix(grown) for statement in statements(found)] == steps


@pytest.mark.parametrize(
    "here",
    [
        {"mood": enum("b", "a")},
        {"mood": enum("a", "b", mark="harmattan other.mood")},
        {"mood": enum("a", "b", "c", mark="")},
        {"mood": WarehouseType("c")},
        {"mood": WarehouseType("d", definition="harmattan of something else")},
    ],
)
def test_a_name_that_another_type_has_gets_a_suffix_and_keeps_it(
    here: dict[str, WarehouseType],
) -> None:
    first = landings(ENUM, here=here)
    landing = first.of(use(ENUM))
    assert landing.declaration.startswith('"raw"."mood_')
    name = first.steps[0].name
    again = landings(ENUM, here={**here, name: enum("a", "b")})
    assert again.of(use(ENUM)) == landing
    assert again.steps == []


def test_an_enum_of_an_older_release_is_marked_as_what_it_was_made_from() -> None:
    found = landings(ENUM, here={"mood": enum("a", mark="")})
    assert found.of(use(ENUM)).declaration == '"raw"."mood"'
    assert statements(found) == [
        'COMMENT ON TYPE "raw"."mood" IS \'harmattan public.mood\'',
        "ALTER TYPE \"raw\".\"mood\" ADD VALUE IF NOT EXISTS 'b' AFTER 'a'",
    ]


@pytest.mark.parametrize("first", ["billing", "hr"])
def test_which_of_two_enums_of_one_name_is_which_does_not_depend_on_who_comes(first: str) -> None:
    of = {schema: replace(ENUM, oid=oid, schema=schema) for oid, schema in ((7, "billing"),
                                                                           (8, "hr"))}  # fmt: skip
    second = "hr" if first == "billing" else "billing"
    found = landings(*of.values())
    landed = {schema: found.of(use(of[schema])).declaration for schema in (first, second)}
    here = {step.name: enum("a", "b", mark=mark(step)) for step in found.steps}
    for schema in (second, first):
        again = landings(*of.values(), here=here)
        assert again.of(use(of[schema])).declaration == landed[schema]
        assert again.steps == []


def test_a_type_makes_room_for_a_table_of_its_name() -> None:
    found = landings(ENUM, tables=["mood"], here={"mood": enum("a", "b")})
    (statement,) = statements(found)
    assert statement.startswith('ALTER TYPE "raw"."mood" RENAME TO "mood_')
    assert found.of(use(ENUM)).declaration == '"raw".' + statement.rpartition(" ")[2]
    assert statements(found) == [statement]


def test_a_type_named_like_a_table_gets_a_suffix() -> None:
    assert landings(ENUM, tables=["mood"]).of(use(ENUM)).declaration.startswith('"raw"."mood_')


def test_of_two_types_of_one_name_the_second_gets_a_suffix() -> None:
    other = replace(ENUM, oid=2, schema="other", labels=("b",))
    found = landings(ENUM, other)
    assert found.of(use(ENUM)).declaration == '"raw"."mood"'
    assert found.of(use(other)).declaration.startswith('"raw"."mood_')


def test_types_within_types_are_made_before_them_once() -> None:
    grade = SourceType(2, "public", "grade", "d", inner=use(INT, "integer"))
    pair = SourceType(3, "public", "pair", "c", attributes=(("a", use(ENUM)), ("b", use(grade))))
    pairs = SourceType(4, "public", "_pair", "b", element=3)
    found = landings(ENUM, grade, pair, pairs)
    assert found.of(use(pairs)) == Landing('"raw"."pair"[]')
    assert found.of(use(pair)) == Landing('"raw"."pair"')
    assert found.of(use(grade)) == Landing('"raw"."grade"', binary=True)
    assert [step.name for step in found.steps] == ["mood", "grade", "pair"]
    definitions = {step.name: WarehouseType("c", definition=mark(step)) for step in found.steps[1:]}
    again = landings(ENUM, grade, pair, pairs, here={"mood": enum("a", "b"), **definitions})
    assert again.of(use(pairs)) == Landing('"raw"."pair"[]')
    assert again.steps == []


@pytest.mark.parametrize(
    ("kind", "mark"),
    [
        ("grade", "harmattan 44a5abb64c0c7328"),
        ("pair", "harmattan 90ce9b46dd7cfe37"),
        ("span", "harmattan 19858843261ce8e7"),
    ],
)
def test_a_type_of_an_older_release_is_known_by_its_mark(kind: str, mark: str) -> None:
    parts = (("a", use(ENUM)), ('b "x"', TypeReference(2, "grade")))
    known = {
        "grade": SourceType(2, "public", "grade", "d", inner=use(INT, "integer")),
        "pair": SourceType(3, "public", "pair", "c", attributes=parts),
        "span": SourceType(4, "public", "span", "r", inner=use(INT, "integer"), multirange="spans"),
    }
    found = landings(ENUM, *known.values())
    found.of(use(known[kind]))
    assert statements(found)[-1].endswith(f""" "raw"."{kind}" IS '{mark}'""")
    here = {"mood": enum("a", "b"), kind: WarehouseType("c", definition=mark)}
    again = landings(ENUM, *known.values(), here=here)
    assert again.of(use(known[kind])).declaration == f'"raw"."{kind}"'
    assert kind not in {step.name for step in again.steps}


def test_a_range_brings_its_multirange() -> None:
    span = SourceType(2, "public", "span", "r", inner=use(INT, "integer"), multirange="spans")
    spans = SourceType(3, "public", "spans", "m", inner=use(span))
    found = landings(span, spans)
    assert found.of(use(spans)) == Landing('"raw"."spans"')
    assert [step.name for step in found.steps] == ["span"]
    assert 'subtype = integer, multirange_type_name = "raw"."spans"' in statements(found)[0]
    renamed = landings(span, spans, here={"span": WarehouseType("b")})
    assert renamed.of(use(spans)).declaration.startswith('"raw"."spans_')
    apart = landings(span, spans, here={"spans": WarehouseType("b")})
    assert apart.of(use(span)).declaration.startswith('"raw"."span_')


def test_what_has_no_place_lands_in_text_with_all_that_is_made_of_it() -> None:
    newer = SourceType(2, "pg_catalog", "uuid7", "b")
    newers = SourceType(3, "pg_catalog", "_uuid7", "b", element=2)
    local = SourceType(4, "pg_catalog", "regclass", "b")
    over = SourceType(5, "public", "over", "d", inner=use(newer))
    found = landings(newer, newers, local, over)
    for each in (newer, newers, local, over):
        assert found.of(use(each)) == TEXT
    assert found.steps == []


def test_xml_is_cast_so_that_its_declaration_stays_and_never_goes_in_binary() -> None:
    pages = SourceType(2, "pg_catalog", "_xml", "b", element=142)
    found = landings(pages)
    assert found.of(use(XML)) == Landing("xml", cast="text")
    assert found.of(use(pages, "xml[]")) == Landing("xml[]", cast="text[]")


def test_an_extensions_type_needs_the_extension_or_the_right_to_create_it() -> None:
    citext = SourceType(2, "public", "citext", "b", extension="citext")
    point = SourceType(3, "public", "geometry", "b", extension="postgis")
    assert landings(citext).of(use(citext)) == TEXT
    known = {9: citext, 2: citext, 3: point}
    warehouse = WarehouseTypes(
        extensions={("postgis", "geometry"): "gis"}, installable=frozenset({"citext"})
    )
    found = Landings("raw", known, warehouse, frozenset())
    assert found.of(use(citext)).declaration == '"extensions"."citext"'
    assert found.of(use(citext)).declaration == '"extensions"."citext"'
    assert statements(found) == [
        'CREATE EXTENSION IF NOT EXISTS "citext" SCHEMA "extensions" CASCADE'
    ]
    declared = TypeReference(3, "public.geometry(Point,4326)")
    assert found.of(declared).declaration == '"gis"."geometry"(Point,4326)'


@pytest.mark.parametrize(
    ("declaration", "expected"),
    [
        ('"raw"."mood"[][]', '"raw"."mood"'),
        ('"gis"."geometry"(Point,4326)[]', '"gis"."geometry"'),
        ('"raw"."a ""b"".""c"', '"raw"."a ""b"".""c"'),
        ("numeric(5,2)[]", "numeric(5,2)[]"),
    ],
)
def test_a_column_is_of_one_type_and_of_none_whose_name_begins_alike(
    declaration: str, expected: str
) -> None:
    assert made(declaration) == expected


def test_money_in_domains_and_their_arrays_is_cast_as_such() -> None:
    money = SourceType(790, "pg_catalog", "money", "b")
    fee = SourceType(2, "public", "fee", "d", inner=use(money))
    fees = SourceType(3, "public", "_fee", "b", element=2)
    bill = SourceType(4, "public", "bill", "c", attributes=(("fees", use(fees)),))
    known = {each.oid: each for each in (money, fee, fees, bill)}
    found = Landings("raw", known, WarehouseTypes(builtin=frozenset({"money"})), frozenset())
    assert found.of(use(fees)) == Landing('"raw"."fee"[]', cast="numeric[]")
    assert found.of(use(bill)) == TEXT
