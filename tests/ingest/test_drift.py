"""What counts as a change of a table's shape."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingest.drift import SHAPE, Shape, ShapeColumn, compare, widens


def column(name: str, number: int, kind: str = "integer", **more: object) -> ShapeColumn:
    return replace(ShapeColumn(name, kind, kind, not_null=False, number=number), **more)


def shape(*columns: ShapeColumn, oid: int = 1, key: tuple[str, ...] = ("id",)) -> Shape:
    return Shape("public.t", oid, columns, key)


ID, NAME = column("id", 1), column("name", 2, "text")
OLD = shape(ID, NAME)


def test_a_shape_is_no_change_of_itself_also_by_way_of_json() -> None:
    again = SHAPE.validate_python(SHAPE.dump_python(OLD, mode="json"))
    assert again == OLD
    assert not compare(OLD, again)


def test_a_column_that_keeps_its_number_is_renamed_and_its_key_with_it() -> None:
    found = compare(OLD, shape(column("no", 1), NAME, key=("no",)))
    assert found.describe() == ("column id renamed to no",)


def test_a_column_made_anew_under_its_old_name_is_another_one() -> None:
    found = compare(OLD, shape(ID, column("name", 3, "text")))
    assert found.describe() == ("column name added (text)", "column name dropped")


def test_columns_of_a_table_made_anew_are_known_by_name() -> None:
    assert not compare(OLD, shape(column("id", 7), column("name", 5, "text"), oid=2))


@pytest.mark.parametrize(
    ("new", "told", "needs_rows"),
    [
        (shape(ID, replace(NAME, not_null=True)), "column name became NOT NULL", True),
        (shape(ID, NAME, key=()), "key changed from (id) to none", True),
        (
            replace(OLD, source="public.u"),
            "source changed from public.t to public.u",
            True,
        ),
        (shape(ID, NAME, column("x", 3)), "column x added (integer)", False),
        (shape(ID, NAME, column("x", 3, not_null=True)), "column x added (integer)", True),
        (shape(ID), "column name dropped", False),
        (
            shape(ID, replace(NAME, hashed="ab")),
            "column name changed from text to a hash under key ab",
            True,
        ),
        (
            shape(ID, replace(NAME, lands='"raw"."t"')),
            'column name changed from text to text (as "raw"."t")',
            True,
        ),
    ],
)
def test_each_change_is_told_and_whether_rows_must_be_read_again(
    new: Shape, told: str, needs_rows: bool
) -> None:
    found = compare(OLD, new)
    assert found.describe() == (told,)
    assert bool(found.needs_rows()) is needs_rows


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("smallint", "bigint", True),
        ("bigint", "integer", False),
        ("character varying(5)", "character varying(6)", True),
        ("character varying(5)", "character varying", True),
        ("character varying", "character varying(5)", False),
        ("character varying(6)", "character varying(5)", False),
        ("character varying(5)", "text", True),
        ("text", "character varying", False),
        ("integer", "numeric", False),
        ("timestamp with time zone", "date", False),
    ],
)
def test_a_type_widens_if_every_text_stays_as_it_is(old: str, new: str, expected: bool) -> None:
    assert widens(column("c", 1, old), column("c", 1, new)) is expected
