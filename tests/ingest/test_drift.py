"""What counts as a change of a table's shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.drift import SHAPE, Shape, ShapeColumn, compare, fits, widens


def column(name: str, number: int, kind: str = "integer", **more: Any) -> ShapeColumn:
    return replace(ShapeColumn(name, kind, kind, not_null=False, number=number), **more)


def shape(*columns: ShapeColumn, oid: int = 1, key: tuple[str, ...] = ("id",)) -> Shape:
    return Shape("public.t", oid, columns, key)


ID, NAME = column("id", 1), column("name", 2, "text")
OLD = shape(ID, NAME)
TYPES = ("smallint", "integer", "bigint", "numeric", "text", "date", "character varying",
         *(f"character varying({length})" for length in (1, 5, 6, 99)))  # fmt: skip


# Which column is which.


def test_a_shape_is_no_change_of_itself_also_by_way_of_json() -> None:
    again = SHAPE.validate_python(SHAPE.dump_python(OLD, mode="json"))
    assert again == OLD
    assert not compare(OLD, again)


def test_a_column_that_keeps_its_number_is_renamed_and_its_key_with_it() -> None:
    found = compare(OLD, shape(column("no", 1), NAME, key=("no",)))
    assert found.describe() == ("column id renamed to no",)


def test_columns_that_swap_their_names_are_both_renamed() -> None:
    found = compare(OLD, shape(column("name", 1), column("id", 2, "text"), key=("name",)))
    assert found.renamed == (("id", "name"), ("name", "id"))
    assert found.rekeyed is None


def test_a_key_that_stays_by_name_while_its_columns_swap_theirs_is_another_one() -> None:
    found = compare(OLD, shape(column("name", 1), column("id", 2, "text"), key=("id",)))
    assert found.rekeyed == (("id",), ("id",))


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (column("id", 3), ("column id made anew (integer)",)),
        (column("id", 2, "text"), ("column id dropped", "column name renamed to id")),
    ],
)
def test_a_key_column_that_took_the_name_of_the_one_that_went_makes_another_key(
    new: ShapeColumn, told: tuple[str, ...]
) -> None:
    found = compare(OLD, shape(new))
    assert {*told, "key changed from (id) to (id)"} <= {*found.describe()}
    assert found.needs_rows()[-1] == "key changed from (id) to (id)"


def test_a_column_made_anew_under_its_old_name_is_another_one() -> None:
    found = compare(OLD, shape(ID, column("name", 3, "text")))
    assert found.describe() == ("column name made anew (text)",)
    assert found.needs_rows() == ("column name was made anew as text",)
    assert found.needs_rows(appends=True) == (), "its old values fit"
    narrow = compare(OLD, shape(ID, column("name", 3, "integer")))
    assert narrow.needs_rows(appends=True) == ("column name was made anew as integer",)


def test_what_an_append_kept_is_taken_up_again_or_told() -> None:
    kept = replace(shape(ID), kept=(column("name", 2, "text"),))
    assert compare(kept, shape(ID, column("name", 5, "text"))).needs_rows(appends=True) == ()
    back = compare(kept, shape(ID, column("name", 5, "date")))
    assert back.needs_rows(appends=True) == ("column name was made anew as date",)


def test_a_column_that_took_the_name_of_one_that_an_append_keeps_is_told() -> None:
    both = shape(column("value", 1), column("value_new", 2, "bigint"), key=())
    found = compare(both, shape(column("value", 2, "bigint"), key=()))
    assert found.needs_rows(appends=True) == (
        "column value_new took the name of value, which went",
    )


def test_columns_of_a_table_made_anew_are_known_by_name() -> None:
    assert not compare(OLD, shape(column("id", 7), column("name", 5, "text"), oid=2))


def test_a_column_renamed_in_a_table_made_anew_is_one_that_went_and_one_that_came() -> None:
    found = compare(OLD, shape(ID, column("full_name", 2, "text"), oid=2))
    assert found.describe() == ("column full_name added (text)", "column name dropped")


def test_the_order_of_columns_is_no_change() -> None:
    assert not compare(OLD, shape(NAME, ID))


def test_what_is_withheld_is_no_change_by_itself() -> None:
    assert not compare(OLD, replace(OLD, withheld=("ssn",)))


def test_a_key_and_a_source_that_changed_are_both_told() -> None:
    found = compare(OLD, replace(OLD, source="public.u", key=()))
    lines = ("key changed from (id) to none", "source changed from public.t to public.u")
    assert found.describe() == found.needs_rows() == lines


# What each change is, and whether rows must be read again for it.


@pytest.mark.parametrize(
    ("new", "told", "needs_rows"),
    [
        (shape(ID, replace(NAME, not_null=True)), "column name became NOT NULL", True),
        (shape(ID, NAME, key=()), "key changed from (id) to none", True),
        (shape(ID, NAME, key=("id", "name")), "key changed from (id) to (id, name)", True),
        (
            replace(OLD, source="public.u"),
            "source changed from public.t to public.u",
            True,
        ),
        (shape(ID, NAME, column("x", 3)), "column x added (integer)", False),
        (shape(ID, NAME, column("x", 3, not_null=True)), "column x added (integer)", True),
        (shape(ID), "column name dropped", False),
        (shape(ID, column("n", 2, "text")), "column name renamed to n", False),
        (
            shape(column("id", 1, "bigint"), NAME),
            "column id changed from integer to bigint",
            False,
        ),
        (
            shape(column("id", 1, "smallint"), NAME),
            "column id changed from integer to smallint",
            True,
        ),
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
    ("old", "new", "told", "needs_rows"),
    [
        (
            replace(NAME, not_null=True),
            NAME,
            ("column name may be NULL now",),
            (),
        ),
        (
            replace(NAME, hashed="ab"),
            replace(NAME, hashed="cd"),
            ("column name changed from a hash under key ab to a hash under key cd",),
            ("column name changed from a hash under key ab to a hash under key cd",),
        ),
        (
            replace(NAME, hashed="ab"),
            NAME,
            ("column name changed from a hash under key ab to text",),
            ("column name changed from a hash under key ab to text",),
        ),
        (
            column("name", 2, "mood", labels=("mood.a",)),
            column("name", 2, "mood", labels=("mood.a", "mood.b")),
            (),
            (),
        ),
        (
            column("name", 2, "mood", labels=("mood.a", "mood.b", "mood.c")),
            column("name", 2, "mood", labels=("mood.a",)),
            ("column name lost its labels mood.b, mood.c",),
            ("column name lost its labels mood.b, mood.c",),
        ),
        (
            NAME,
            column("label", 2, "date", not_null=True),
            (
                "column name renamed to label",
                "column label changed from text to date",
                "column label became NOT NULL",
            ),
            ("column label changed from text to date", "column label became NOT NULL"),
        ),
    ],
)
def test_a_column_that_changed_is_told_as_it_is_called_now(
    old: ShapeColumn, new: ShapeColumn, told: tuple[str, ...], needs_rows: tuple[str, ...]
) -> None:
    found = compare(shape(ID, old), shape(ID, new))
    assert (found.describe(), found.needs_rows()) == (told, needs_rows)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("smallint", "bigint", True),
        ("smallint", "integer", True),
        ("integer", "bigint", True),
        ("bigint", "integer", False),
        ("character varying(5)", "character varying(6)", True),
        ("character varying(5)", "character varying", True),
        ("character varying", "character varying(5)", False),
        ("character varying(6)", "character varying(5)", False),
        ("character varying(5)", "text", True),
        ("character varying", "text", True),
        ("text", "character varying", False),
        ("integer", "numeric", False),
        ("integer", "text", False),
        ("timestamp with time zone", "date", False),
        ("date", "timestamp with time zone", False),
    ],
)
def test_a_type_widens_if_every_text_stays_as_it_is(old: str, new: str, expected: bool) -> None:
    assert widens(column("c", 1, old), column("c", 1, new)) is expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (NAME, NAME, True),
        (column("c", 1, "character varying(5)"), column("c", 1, "text"), True),
        (column("c", 1, "text"), column("c", 1, "character varying(5)"), False),
        (column("c", 1, "mood", labels=("mood.a",)), column("c", 1, "mood"), True),
        (replace(NAME, hashed="ab"), NAME, False),
        (replace(NAME, hashed="ab"), replace(NAME, hashed="cd"), False),
        (replace(NAME, hashed="ab"), replace(NAME, hashed="ab"), True),
        # What has no place in the warehouse lands as text, and shows as text what it shows.
        (column("c", 1, "character varying"), column("c", 1, "money", lands="text"), False),
    ],
)
def test_values_that_are_there_may_stay_in_a_type_that_holds_them(
    old: ShapeColumn, new: ShapeColumn, expected: bool
) -> None:
    assert fits(old, new) is expected


# Any two shapes.

VALUES: tuple[dict[str, Any], ...] = (
    *({"kind": kind} for kind in TYPES),
    *({"kind": kind, "not_null": True} for kind in ("integer", "text")),
    *({"kind": "text", "hashed": key} for key in ("ab", "cd")),
    *({"kind": "mood", "labels": labels} for labels in ((), ("mood.a",), ("mood.a", "mood.b"))),
)
# Few names and numbers, so that two shapes have many in common.
COLUMNS = st.builds(
    lambda name, number, more: column(name, number, **more),
    st.sampled_from("abc"),
    st.integers(1, 4),
    st.sampled_from(VALUES),
)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    distinct = (lambda each: each.name, lambda each: each.number)
    columns = draw(st.lists(COLUMNS, max_size=3, unique_by=distinct))
    keys = [(), *((each.name,) for each in columns), tuple(each.name for each in columns)]
    source, oid = draw(st.sampled_from([("public.t", 1), ("public.t", 2), ("public.u", 1)]))
    return Shape(source, oid, tuple(columns), draw(st.sampled_from(keys)))


@given(shapes())
def test_no_shape_is_a_change_of_itself(found: Shape) -> None:
    assert compare(found, found).describe() == ()
    assert compare(found, found).needs_rows() == ()
    assert SHAPE.validate_json(SHAPE.dump_json(found)) == found


@given(shapes(), shapes())
def test_each_column_of_both_shapes_is_accounted_for_once(old: Shape, new: Shape) -> None:
    found = compare(old, new)
    added, dropped = ({each.name for each in side} for side in (found.added, found.dropped))
    renamed = dict(found.renamed)
    stayed = {each.name for each in old.columns} - dropped
    assert {renamed.get(name, name) for name in stayed} == {
        each.name for each in new.columns
    } - added
    assert len(stayed) == len(new.columns) - len(added)
    assert not renamed.keys() & dropped
    assert not {*renamed.values()} & added


@given(shapes(), shapes())
def test_a_key_stays_only_if_each_of_its_columns_does(old: Shape, new: Shape) -> None:
    if {*old.key} <= {each.name for each in new.columns}:
        new = replace(new, key=old.key)
    found = compare(old, new)
    same = {before.number: before.name for before in old.columns}
    told_by = [
        same.get(each.number) if old.oid == new.oid else name
        for name in new.key
        for each in new.columns
        if each.name == name
    ]
    assert (found.rekeyed is None) is (told_by == [*old.key])


@given(shapes(), shapes())
def test_whatever_needs_rows_is_a_change_and_a_change_is_seen_from_both_sides(
    old: Shape, new: Shape
) -> None:
    there, back = compare(old, new), compare(new, old)
    assert bool(there) is bool(there.describe())
    if there.needs_rows():
        assert there
    assert (len(there.added), len(there.dropped)) == (len(back.dropped), len(back.added))
    assert {*there.renamed} == {(new, old) for old, new in back.renamed}
    assert len(there.nullable) == len(back.nullable)
    assert bool(there.moved) is bool(back.moved)


@given(COLUMNS, COLUMNS)
def test_a_wider_type_never_narrows(old: ShapeColumn, new: ShapeColumn) -> None:
    assert not (widens(old, new) and widens(new, old) and old.lands != new.lands)
    if widens(old, new):
        assert fits(old, new)
        assert not old.hashed
        assert not new.hashed


@given(COLUMNS, COLUMNS, COLUMNS)
def test_what_widens_twice_widens_at_once(
    first: ShapeColumn, second: ShapeColumn, third: ShapeColumn
) -> None:
    if widens(first, second) and widens(second, third):
        assert widens(first, third)
