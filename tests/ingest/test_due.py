"""What is due of every table of a pipeline, from what both sides say of themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frame.failure import Failure
from ingest import due
from ingest.cursor import Interval
from ingest.due import Due, LeftOver, Published
from ingest.errors import SchemaChangedError
from ingest.job import Scope
from ingest.plan import State
from ingest.selection import select
from ingest.shapes import SourceTables, WarehouseType
from tests.ingest.tables import TYPES, column, pipeline, rule, table, warehouse_types

if TYPE_CHECKING:
    from ingest.contract import Pipeline
    from ingest.rules import TableRule
    from ingest.shapes import TableShape

ID, NAME = column("id"), column("name", "text")
STAFF = table(ID, NAME, column("seen", "date"), oid=1)
PUPILS = table(ID, NAME, column("no", "bigint"), name="pupils", oid=2)
CLUBS = table(ID, column("mood", "mood"), name="clubs", oid=3)
MARCH, NUMBERS = Interval("2026-03-01", "2026-04-01"), Interval("1", "9")
MERGE: dict[str, Any] = {"load": "incremental", "cursor": "seen"}
COUNT: dict[str, Any] = {"load": "append", "cursor": "no"}


def source(wanted: Pipeline, *shapes: TableShape) -> SourceTables:
    rules = select(wanted, [shape.relation for shape in shapes]).rules
    by_relation = {shape.relation: shape for shape in shapes}
    return SourceTables(rules, tuple(by_relation[relation] for relation in rules), TYPES)


def warehouse(
    states: dict[str, State] | None = None, *left_over: LeftOver, **types: Any
) -> Published:
    return Published(warehouse_types(**types), states or {}, left_over)


def decide(
    rules: tuple[TableRule, ...],
    *shapes: TableShape,
    published: Published | None = None,
    **scope: Any,
) -> Due:
    wanted = pipeline(*rules)
    return due.decide(
        wanted, source(wanted, *shapes), published or warehouse(), Scope(**scope), hashed="ab"
    )


def state_after(found: Due, table: str, **values: Any) -> dict[str, State]:
    """Return the state of ``table`` once it was loaded as it was due."""
    (planned,) = [each for each in found.plans if str(each) == table]
    return {table: replace(State("load-1", planned.target.shape, None, None, 10), **values)}


def actions(found: Due) -> dict[str, str]:
    return {str(each): each.read.load for each in found.plans}


def test_tables_are_due_by_the_rule_of_each_and_by_what_is_known_of_each() -> None:
    rules = (
        rule(**MERGE),
        rule(name="public.pupils", **COUNT),
        rule(name="public.*", columns={"exclude": ["mood"]}),
    )
    shapes = (CLUBS, PUPILS, STAFF)
    first = decide(rules, *shapes)
    assert actions(first) == {
        "raw_hr.clubs": "full",
        "raw_hr.pupils": "full",
        "raw_hr.staff": "full",
    }
    assert {each.read.reason for each in first.plans} == {"first load"}
    states = state_after(first, "raw_hr.staff", cursor="seen", cursor_value="2026-03-01")
    states |= state_after(first, "raw_hr.clubs")
    then = decide(rules, *shapes, published=warehouse(states))
    assert {str(each): each.read.reason for each in then.plans} == {
        "raw_hr.clubs": "load: full",
        "raw_hr.pupils": "first load",
        "raw_hr.staff": "seen from 2026-03-01 less 1d",
    }
    again = decide(rules, *shapes, published=warehouse(states), full_refresh=True)
    assert {each.read.reason for each in again.plans} == {"full refresh asked for", "first load"}


def test_a_table_without_a_plan_keeps_no_other_from_its_own() -> None:
    rules = (rule(key=["nobody"]), rule(name="public.pupils"))
    found = decide(rules, PUPILS, STAFF)
    assert actions(found) == {"raw_hr.pupils": "full"}
    assert [*found.failed] == ["raw_hr.staff"]
    assert "key: expected its columns, found nobody" in found.failed["raw_hr.staff"].message


def test_types_are_made_where_they_are_missing_and_only_there() -> None:
    rules = (rule(name="public.clubs"),)
    found = decide(rules, CLUBS)
    assert [each.statement.as_string() for each in found.steps] == [
        "CREATE TYPE \"raw_hr\".\"mood\" AS ENUM ('calm', 'glad');"
        ' COMMENT ON TYPE "raw_hr"."mood" IS \'harmattan public.mood\''
    ]
    here = {"mood": WarehouseType("e", ("calm", "glad"), "harmattan public.mood")}
    assert decide(rules, CLUBS, published=warehouse(here=here)).steps == ()


def test_a_type_leaves_its_name_to_a_table() -> None:
    mood = table(ID, name="mood", oid=4)
    found = decide((rule(name="public.*"),), CLUBS, mood)
    (step,) = found.steps
    assert step.name.startswith("mood_")


# An interval.


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (None, ["raw_hr.clubs", "raw_hr.pupils", "raw_hr.staff"]),
        (MARCH, ["raw_hr.staff"]),
        (NUMBERS, ["raw_hr.pupils"]),
    ],
)
def test_an_interval_is_due_of_tables_whose_cursor_it_suits(
    interval: Interval | None, expected: list[str]
) -> None:
    rules = (rule(**MERGE), rule(name="public.pupils", **COUNT), rule(name="public.clubs"))
    found = decide(rules, CLUBS, PUPILS, STAFF, interval=interval)
    assert [*actions(found)] == expected
    assert not found.failed


def test_an_interval_that_suits_no_table_is_an_error_unless_another_says_more() -> None:
    with pytest.raises(Failure) as failure:
        decide((rule(**MERGE),), STAFF, interval=NUMBERS)
    assert failure.value.message == (
        "source hr: expected a table whose cursor has such values as 1 and 9, found none"
    )
    broken = (rule(**MERGE), rule(name="public.pupils", key=["nobody"]))
    found = decide(broken, PUPILS, STAFF, interval=NUMBERS)
    assert (found.plans, [*found.failed]) == ((), ["raw_hr.pupils"])


# A pattern that withholds columns.

GUARDED = rule(name="public.*", columns={"hash": ["name", "ssn"]})


@pytest.mark.parametrize("way", ["hash", "exclude"])
def test_a_column_that_a_pattern_withholds_and_no_table_has_stops_them_all(way: str) -> None:
    wanted = rule(name="public.*", columns={way: ["name", "ssn"]})
    found = decide((wanted,), PUPILS, STAFF)
    assert found.plans == ()
    assert {table: error.message for table, error in found.failed.items()} == {
        f"raw_hr.{name}": f"table public.{name}: columns: expected ssn in a table of public.*,"
        " found none"
        for name in ("pupils", "staff")
    }


@pytest.mark.parametrize(
    ("more", "scope"),
    [
        ((table(column("ssn", "text"), name="clubs", key=(), oid=3),), {}),  # one table has it
        ((), {"only": "staff"}),
        ((), {"full_refresh": True}),
    ],
)
def test_it_stops_none_if_one_has_it_or_the_others_are_not_in_sight_or_all_is_accepted(
    more: tuple[TableShape, ...], scope: dict[str, Any]
) -> None:
    found = decide((GUARDED,), PUPILS, STAFF, *more, **scope)
    assert not found.failed
    assert {"raw_hr.pupils", "raw_hr.staff"} <= actions(found).keys()


def test_tables_of_other_rules_are_not_stopped_by_it() -> None:
    found = decide((GUARDED, rule(name="public.staff")), PUPILS, STAFF)
    assert actions(found) == {"raw_hr.staff": "full"}
    assert [*found.failed] == ["raw_hr.pupils"]


def test_a_rule_of_one_table_says_itself_which_column_is_not_there() -> None:
    found = decide((rule(columns={"hash": ["ssn"]}),), STAFF)
    assert found.failed["raw_hr.staff"].message == (
        "table public.staff: columns.hash: expected its columns id, name, seen, found ssn"
    )


# Tables that went.


@pytest.mark.parametrize(
    ("name", "left_over", "gone"),
    [
        ("public.*", LeftOver("raw_hr.clubs", "clubs", "public.clubs"), True),
        ("public.s*", LeftOver("raw_hr.songs", "songs", "public.songs"), True),
        ("public.*", LeftOver('raw_hr."Clubs"', "Clubs", 'public."Clubs"'), True),
        ("public.s*", LeftOver("raw_hr.clubs", "clubs", "public.clubs"), False),
        ("public.*", LeftOver("raw_hr.clubs", "clubs", "archive.clubs"), False),
        ("public.staff", LeftOver("raw_hr.clubs", "clubs", "public.clubs"), False),
        ("public.*", None, False),
    ],
)
def test_a_published_table_of_a_pattern_whose_source_is_gone_is_an_error(
    name: str, left_over: LeftOver | None, gone: bool
) -> None:
    rules = (rule(),) if name == "public.staff" else (rule(), rule(name=name))
    shapes = (STAFF, PUPILS, table(ID, name="shelves", oid=5))
    known = warehouse({}, *([left_over] if left_over else []))
    found = decide(rules, *shapes, published=known)
    assert "raw_hr.staff" in actions(found)
    if not gone or left_over is None:
        assert not found.failed
        return
    (error,) = found.failed.values()
    assert [*found.failed] == [left_over.table]
    assert isinstance(error, SchemaChangedError)
    assert error.message == (
        f"table {left_over.table}: expected its source {left_over.source}, found it gone"
    )
    # Of one table alone nothing is known of the others.
    assert not decide(rules, *shapes, published=known, only=("staff",)).failed


def test_only_patterns_choose_tables_that_may_go() -> None:
    wanted = pipeline(rule(), rule(name="public.p*"), rule(name="archive.*"))
    assert [each.name for each in due.patterns(wanted)] == ["public.p*", "archive.*"]
    assert due.patterns(pipeline(rule())) == []


@pytest.mark.parametrize(
    ("name", "expected"), [("staff", "raw_hr.staff"), ("Weird name", 'raw_hr."Weird name"')]
)
def test_a_table_keeps_its_name(name: str, expected: str) -> None:
    assert due.published_name(pipeline(), table(ID, name=name).relation) == expected


NAMES = st.sets(st.sampled_from(["staff", "pupils", "clubs", "Staff", "a b"]), min_size=1)


@given(
    names=NAMES,
    broken=NAMES,
    known=NAMES,
    full_refresh=st.booleans(),
)
def test_each_table_has_a_plan_or_an_error_and_never_both(
    names: set[str], broken: set[str], known: set[str], full_refresh: bool
) -> None:
    shapes = [
        table(ID, NAME, name=name, oid=oid, key=() if name in broken else ("id",))
        for oid, name in enumerate(sorted(names), start=1)
    ]
    wanted = pipeline(rule(name="public.*", deletes="detect"))
    first = due.decide(wanted, source(wanted, *shapes), warehouse(), Scope(), hashed="")
    states: dict[str, State] = {}
    for each in first.plans:
        if each.target.name in known:
            states |= state_after(first, str(each))
    found = due.decide(
        wanted,
        source(wanted, *shapes),
        warehouse(states),
        Scope(full_refresh=full_refresh),
        hashed="",
    )
    planned = {str(each) for each in found.plans}
    assert planned | found.failed.keys() == {
        due.published_name(wanted, shape.relation) for shape in shapes
    }
    assert not planned & found.failed.keys()
    assert all(each.read.reason for each in found.plans)
    assert {str(each) for each in found.plans if each.changes.base} == {*states}
