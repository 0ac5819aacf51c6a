"""Which columns of a source table are read, how they land, and by which key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from frame.failure import Failure
from ingest.classification import Withheld
from ingest.projection import project
from ingest.rules import DELETED_AT
from tests.ingest.tables import column, landings, rule, table

if TYPE_CHECKING:
    from ingest.projection import Projection
    from ingest.rules import TableRule
    from ingest.shapes import Column, TableShape

ID, NAME = column("id"), column("name", "text")
SEEN = column("seen", "timestamp with time zone", not_null=True)
STAFF = table(ID, NAME, SEEN)
MERGE: dict[str, Any] = {"load": "incremental", "cursor": "seen"}


def of(wanted: TableRule, source: TableShape = STAFF, hashed: str = "") -> Projection:
    return project(wanted, source, landings(), hashed)


def columns(found: Projection) -> dict[str, tuple[str, str]]:
    return {each.name: (each.select.as_string(), each.lands) for each in found.columns}


def test_columns_land_as_they_are_in_their_order() -> None:
    found = of(rule())
    assert columns(found) == {
        "id": ('"id"', "integer"),
        "name": ('"name"', "text"),
        "seen": ('"seen"', "timestamp with time zone"),
    }
    assert [each.not_null for each in found.columns] == [True, False, True]
    assert (found.why_text, found.key) == ("", ("id",))


def test_a_column_that_is_left_out_is_nowhere_and_remembered_as_withheld() -> None:
    found = of(rule(columns={"exclude": ["name"]}))
    assert [*columns(found)] == ["id", "seen"]
    assert [each.name for each in found.shape.columns] == ["id", "seen"]
    assert found.shape.withheld == (Withheld(2, "name", "exclude"),)


def test_a_hashed_column_leaves_the_source_as_text_that_the_key_marks() -> None:
    source = table(ID, column("born", "date"), column("mood", "mood"))
    found = of(rule(columns={"hash": ["born", "mood"]}), source, hashed="ab12")
    for name in ("born", "mood"):
        select, lands = columns(found)[name]
        assert select.startswith("encode(sha256(decode(current_setting('harmattan.outer_pad')")
        assert f"convert_to(\"{name}\"::text, 'UTF8')" in select
        assert lands == "text"
    assert found.why_text == ""
    remembered = [(each.name, each.lands, each.hashed, each.labels) for each in found.shape.columns]
    assert remembered == [
        ("id", "integer", "", ()),
        ("born", "text", "ab12", ()),
        ("mood", "text", "ab12", ()),
    ]
    assert [(each.name, each.how) for each in found.shape.withheld] == [
        ("born", "hash"),
        ("mood", "hash"),
    ]


def test_an_enum_is_remembered_with_its_labels() -> None:
    found = of(rule(), table(ID, column("mood", "mood")))
    assert columns(found)["mood"] == ('"mood"', '"raw_hr"."mood"')
    assert found.shape.columns[1].labels == ("mood.calm", "mood.glad")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ((column("page", "xml"),), "column page (xml)"),
        ((column("at", "point2"),), "column at (point2)"),
        ((column("at", "point2"), column("page", "xml")), "column at (point2)"),
        ((column("of", "regclass"), column("mood", "mood")), ""),
        ((), ""),
    ],
)
def test_the_first_column_that_binary_cannot_carry_is_named(
    more: tuple[Column, ...], why: str
) -> None:
    found = of(rule(), table(ID, *more))
    assert found.why_text == why


def test_a_table_without_columns_goes_as_text() -> None:
    found = of(rule(), table(key=()))
    assert (found.columns, found.why_text) == ((), "a table without columns")


def test_marked_rows_may_lack_a_column_that_came_after_they_went() -> None:
    assert not any(each.not_null for each in of(rule(deletes="mark")).columns)


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"columns": {"exclude": ["Name"]}}, "columns.exclude"),
        ({"columns": {"hash": ["Name"]}}, "columns.hash"),
        ({"checks": {"nulls": {"Name": 0.5}}}, "checks.nulls"),
        ({"checks": {"unique": [["id"], ["Name", "seen"]]}}, "checks.unique"),
        ({"checks": {"accepted": {"Name": ["x"]}}}, "checks.accepted"),
        ({"checks": {"freshness": {"column": "Name", "max_age": "1d"}}}, "checks.freshness"),
    ],
)
def test_a_column_that_a_rule_names_must_be_there_unless_the_rule_is_a_patterns(
    keys: dict[str, Any], where: str
) -> None:
    with pytest.raises(Failure) as failure:
        of(rule(**keys))
    assert failure.value.message == (
        f"table public.staff: {where}: expected its columns id, name, seen, found Name"
    )
    assert [*columns(of(rule(**keys, name="public.*")))] == ["id", "name", "seen"]


def test_a_check_of_a_column_that_is_left_out_is_refused() -> None:
    wanted = rule(columns={"exclude": ["name"]}, checks={"nulls": {"name": 0}})
    with pytest.raises(Failure, match=r"checks\.nulls: expected its columns id, seen, "):
        of(wanted)


# Keys.


@pytest.mark.parametrize(
    ("keys", "primary", "expected"),
    [
        ({}, ("id",), ("id",)),
        ({}, (), ()),
        ({"key": ["name", "id"]}, ("id",), ("name", "id")),
        ({"key": ["name"]}, (), ("name",)),
        ({**MERGE, "key": ["name"]}, (), ("name",)),
        ({"columns": {"exclude": ["id"]}}, ("id",), ()),
        ({"columns": {"exclude": ["id"]}}, ("id", "name"), ()),
        ({"columns": {"hash": ["id"]}}, ("id",), ("id",)),
        ({"load": "append", "cursor": "seen"}, (), ()),
    ],
)
def test_the_key_is_the_files_or_else_the_sources_as_far_as_it_is_read(
    keys: dict[str, Any], primary: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    found = of(rule(**keys), table(ID, NAME, SEEN, key=primary))
    assert found.key == found.shape.key == expected


@pytest.mark.parametrize(
    ("keys", "primary", "expected"),
    [
        ({"key": ["no", "id"]}, ("id",), "key: expected its columns, found no"),
        (MERGE, (), "expected a key for load: incremental, found no primary key"),
        ({"deletes": "mark"}, (), "expected a key for deletes: mark, found no primary key"),
        ({"deletes": "detect"}, (), "expected a key for deletes: detect, found no primary key"),
        ({**MERGE, "deletes": "mark"}, (), "expected a key for load: incremental, found no"),
        ({**MERGE, "columns": {"exclude": ["id"]}}, ("id",), "expected a key for load: incr"),
    ],
)
def test_a_table_without_the_key_that_its_load_needs_is_refused(
    keys: dict[str, Any], primary: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(Failure) as failure:
        of(rule(**keys), table(ID, NAME, SEEN, key=primary))
    assert failure.value.message.startswith(f"table public.staff: {expected}")


def test_a_column_of_the_name_that_mark_adds_is_refused_unless_it_is_left_out() -> None:
    source = table(ID, column(DELETED_AT, "date"))
    assert of(rule(), source).columns[1].name == DELETED_AT
    with pytest.raises(Failure, match="expected no column _deleted_at for deletes: mark"):
        of(rule(deletes="mark"), source)
    found = of(rule(deletes="mark", columns={"exclude": [DELETED_AT]}), source)
    assert [*columns(found)] == ["id"]


@pytest.mark.parametrize(
    "source",
    [table(ID, name="é" * 32), table(ID, column("é" * 32, "text"))],
)
def test_a_name_that_the_warehouse_would_cut_is_an_error(source: TableShape) -> None:
    with pytest.raises(Failure, match=r"at most 63 bytes, found 64 in UTF-8") as failure:
        of(rule(), source)
    assert "é" * 32 in failure.value.message
    kept = table(ID, column("é" * 31 + "e", "text"), name="é" * 31)
    assert of(rule(), kept).columns[1].name == "é" * 31 + "e"
