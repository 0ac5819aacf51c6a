"""What a run does with a table, and why."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frame.failure import Failure
from ingest import alterations, planning
from ingest.classification import Withheld
from ingest.cursor import Interval
from ingest.errors import SchemaChangedError
from ingest.origin import UNKNOWN, Leaf, Origin
from tests.ingest.tables import MOMENT, column, landings, pipeline, rule, state, table

if TYPE_CHECKING:
    from psycopg import sql

    from ingest.plan import State, TablePlan
    from ingest.rules import TableRule
    from ingest.shapes import TableShape

ID, NAME = column("id", number=1), column("name", "text", 2)
SEEN = column("seen", "timestamp with time zone", 3, not_null=True)
STAFF = table(ID, NAME, SEEN)
FULL = rule()
MERGE: dict[str, Any] = {"load": "incremental", "cursor": "seen"}
INCREMENTAL = rule(**MERGE)
APPEND = rule(load="append", cursor="seen")
NOON = "2026-03-01 12:00:00+00"
MARCH = Interval("2026-03-01", "2026-04-01")


def build(
    wanted: TableRule, source: TableShape = STAFF, last: State | None = None, **more: Any
) -> TablePlan:
    return planning.build(pipeline(wanted), wanted, source, landings(), state=last, **more)


def text(condition: sql.Composable | None) -> str:
    return condition.as_string() if condition else ""


def where(planned: TablePlan) -> str:
    return text(planned.read.condition)


def window(planned: TablePlan) -> str:
    return text(planned.read.window)


def altered(planned: TablePlan) -> tuple[str, ...]:
    return tuple(map(text, alterations.of(planned)))


def published(
    wanted: TableRule,
    source: TableShape = STAFF,
    value: str | None = NOON,
    rows: int = 10,
    **more: Any,
) -> State:
    """Return what the warehouse holds once ``source`` was loaded as ``wanted`` says."""
    return state(build(wanted, source, **more).target.shape, wanted.cursor, value, rows)


# What a run does.


@pytest.mark.parametrize(
    ("wanted", "value", "more", "action", "reason"),
    [
        (FULL, None, {}, "full", "load: full"),
        (FULL, None, {"full_refresh": True}, "full", "full refresh asked for"),
        (FULL, None, {"interval": MARCH}, "full", "load: full"),
        (INCREMENTAL, NOON, {}, "incremental", f"seen from {NOON} less 1h"),
        (rule(**MERGE, lookback="0s"), NOON, {}, "incremental", f"seen from {NOON}"),
        (INCREMENTAL, None, {}, "full", "no value of seen is known yet"),
        (INCREMENTAL, None, {"interval": MARCH}, "full", "no value of seen is known yet"),
        (INCREMENTAL, NOON, {"full_refresh": True}, "full", "full refresh asked for"),
        (
            INCREMENTAL,
            NOON,
            {"interval": MARCH},
            "incremental",
            "seen from 2026-03-01 until 2026-04-01",
        ),
        (APPEND, NOON, {}, "append", f"seen from {NOON} less 1h"),
        (APPEND, None, {}, "append", "no value of seen is known yet"),
        (APPEND, NOON, {"full_refresh": True}, "full", "full refresh asked for"),
        (APPEND, NOON, {"interval": MARCH}, "append", "seen from 2026-03-01 until 2026-04-01"),
        (APPEND, None, {"interval": MARCH}, "append", "seen from 2026-03-01 until 2026-04-01"),
        (
            INCREMENTAL,
            NOON,
            {"interval": MARCH, "full_refresh": True},
            "full",
            "full refresh asked for",
        ),
    ],
)
def test_a_table_of_the_same_shape_is_loaded_as_its_file_says(
    wanted: TableRule, value: str | None, more: dict[str, Any], action: str, reason: str
) -> None:
    found = build(wanted, last=published(wanted, value=value), **more)
    assert (found.read.load, found.read.reason) == (action, reason)
    assert (found.changes.base, found.changes.describe(), altered(found)) == ("load-1", (), ())


@pytest.mark.parametrize("wanted", [FULL, INCREMENTAL, APPEND])
@pytest.mark.parametrize("more", [{}, {"full_refresh": True}, {"interval": MARCH}])
def test_what_is_not_published_is_loaded_whole(wanted: TableRule, more: dict[str, Any]) -> None:
    found = build(wanted, **more)
    assert (found.read.load, found.read.reason, found.changes.base) == ("full", "first load", None)
    assert (where(found), found.read.since, found.read.interval) == ("", None, None)


@pytest.mark.parametrize(
    ("wanted", "more", "condition"),
    [
        (rule(**MERGE, lookback="0s"), {}, f"\"seen\" >= '{NOON}'::timestamp with time zone"),
        (
            INCREMENTAL,
            {"interval": MARCH},
            "\"seen\" >= '2026-03-01'::timestamp with time zone"
            " AND \"seen\" < '2026-04-01'::timestamp with time zone",
        ),
        (INCREMENTAL, {"full_refresh": True}, ""),
    ],
)
def test_only_the_rows_that_are_due_are_read(
    wanted: TableRule, more: dict[str, Any], condition: str
) -> None:
    assert where(build(wanted, last=published(wanted), **more)) == condition


@pytest.mark.parametrize(
    ("wanted", "action"), [(INCREMENTAL, "full"), (APPEND, "append"), (FULL, "full")]
)
def test_the_value_of_another_cursor_is_not_this_ones(wanted: TableRule, action: str) -> None:
    last = replace(published(wanted), cursor="changed")
    found = build(wanted, last=last)
    assert (found.read.load, where(found), found.read.since) == (action, "", None)


@pytest.mark.parametrize("wanted", [INCREMENTAL, APPEND])
def test_a_backfill_moves_no_cursor(wanted: TableRule) -> None:
    found = build(wanted, last=published(wanted), interval=MARCH)
    assert (found.read.interval, found.read.moves_cursor, found.read.since) == (MARCH, False, NOON)
    assert build(wanted, last=published(wanted)).read.moves_cursor
    assert build(wanted).read.moves_cursor
    assert not build(FULL).read.moves_cursor


@pytest.mark.parametrize(
    ("keys", "interval", "expected"),
    [
        ({}, None, False),
        ({"deletes": "detect"}, None, True),
        ({"deletes": "mark"}, None, True),
        ({"deletes": "detect"}, MARCH, False),
        ({"deletes": "mark"}, MARCH, False),
    ],
)
def test_deletes_are_looked_for_if_the_file_says_so_and_all_rows_are_in_sight(
    keys: dict[str, Any], interval: Interval | None, expected: bool
) -> None:
    wanted = rule(**MERGE, **keys)
    last = published(wanted)
    assert build(wanted, last=last, interval=interval).compares_keys is expected
    assert not build(wanted, last=last, full_refresh=True).compares_keys


def test_a_load_that_missed_rows_starts_over_as_a_full_one() -> None:
    wanted = rule(**MERGE, deletes="detect", on_schema_change="evolve")
    merge = build(wanted, table(ID, NAME, SEEN, column("new")), published(wanted))
    assert (merge.read.load, bool(altered(merge))) == ("incremental", True)
    found = merge.started_over()
    assert (found.read.load, where(found), found.read.since, altered(found)) == (
        "full",
        "",
        None,
        (),
    )
    assert found.read.reason == "rows are missing that seen does not show"
    assert (found.changes.base, found.target.shape, found.changes.describe()) == (
        merge.changes.base,
        merge.target.shape,
        merge.changes.describe(),
    )


def test_a_table_keeps_its_name_in_the_pipelines_two_schemas() -> None:
    found = build(FULL)
    assert (str(found), str(found.source)) == ("raw_hr.staff", "public.staff")
    assert (found.target.schema, found.target.staging) == ("raw_hr", "raw_hr_staging")


@pytest.mark.parametrize(("kind", "binary"), [("date", True), ("xml", False)])
def test_rows_go_as_binary_unless_a_column_cannot(kind: str, binary: bool) -> None:
    found = build(FULL, table(ID, column("page", kind)))
    assert (found.read.format == "binary", found.read.why_text) == (
        binary,
        "" if binary else "column page (xml)",
    )


@pytest.mark.parametrize(("heap", "blocks"), [(True, 9), (False, 0)])
def test_ranges_are_read_of_ordinary_tables_only(heap: bool, blocks: int) -> None:
    relation = replace(STAFF.relation, heap=heap, rows=5)
    source = replace(STAFF, relation=relation, blocks=9, bytes=6)
    found = build(FULL, source)
    assert (found.source.blocks, found.source.rows, found.source.bytes) == (blocks, 5, 6)


# A shape that changed.

ADDED = table(ID, NAME, SEEN, column("new"))
ADDED_NOT_NULL = table(ID, NAME, SEEN, column("new", not_null=True))
DROPPED = table(ID, SEEN)
RENAMED = table(ID, column("full_name", "text", 2), SEEN)
WIDENED = table(column("id", "bigint"), NAME, SEEN)
NARROWED = table(column("id", "smallint"), NAME, SEEN)
MADE_NOT_NULL = table(ID, column("name", "text", not_null=True), SEEN)
KEY_ANEW = table(column("id", number=9), NAME, SEEN)
REKEYED = table(ID, NAME, SEEN, key=("id", "seen"))
CHANGES = {
    "added": (ADDED, "column new added (integer)", ('ADD COLUMN "new" integer',)),
    "added not null": (ADDED_NOT_NULL, "column new added as NOT NULL", ()),
    "dropped": (DROPPED, "column name dropped", ('DROP COLUMN "name"',)),
    "renamed": (
        RENAMED,
        "column name renamed to full_name",
        (
            'RENAME COLUMN "name" TO "renaming 0"',
            'RENAME COLUMN "renaming 0" TO "full_name"',
        ),
    ),
    "widened": (
        WIDENED,
        "column id changed from integer to bigint",
        ('ALTER COLUMN "id" TYPE bigint',),
    ),
    "narrowed": (NARROWED, "column id changed from integer to smallint", ()),
    "not null": (MADE_NOT_NULL, "column name became NOT NULL", ()),
    "key anew": (
        KEY_ANEW,
        "column id was made anew as integer; key changed from (id) to (id)",
        (),
    ),
    "rekeyed": (REKEYED, "key changed from (id) to (id, seen)", ()),
}


@pytest.mark.parametrize(("source", "reason", "_clauses"), CHANGES.values(), ids=CHANGES)
def test_refresh_loads_a_changed_table_whole(
    source: TableShape, reason: str, _clauses: tuple[str, ...]
) -> None:
    found = build(INCREMENTAL, source, published(INCREMENTAL))
    assert (found.read.load, found.read.reason, altered(found)) == ("full", reason, ())
    assert found.changes.describe()


@pytest.mark.parametrize(("source", "reason", "clauses"), CHANGES.values(), ids=CHANGES)
def test_evolve_alters_the_table_where_no_row_must_be_read_again(
    source: TableShape, reason: str, clauses: tuple[str, ...]
) -> None:
    wanted = rule(**MERGE, on_schema_change="evolve")
    found = build(wanted, source, published(wanted))
    assert altered(found) == clauses
    if clauses:
        assert (found.read.load, found.read.since) == ("incremental", NOON)
    else:
        assert (found.read.load, found.read.reason) == ("full", reason)


@pytest.mark.parametrize(("source", "reason", "clauses"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("mode", ["refresh", "evolve"])
def test_append_alters_the_table_or_refuses_for_it_never_loses_a_row(
    mode: str, source: TableShape, reason: str, clauses: tuple[str, ...]
) -> None:
    wanted = rule(load="append", cursor="seen", on_schema_change=mode)
    last = published(wanted)
    if clauses:
        found = build(wanted, source, last)
        drops = [clause for clause in clauses if clause.startswith("DROP")]
        assert (found.read.load, altered(found)) == ("append", () if drops else clauses)
        assert len(found.target.shape.kept) == len(drops), "what goes from the source stays"
        return
    # Its old values fit where it was made anew, and only the key is another one.
    reason = reason.removeprefix("column id was made anew as integer; ")
    with pytest.raises(SchemaChangedError) as failure:
        build(wanted, source, last)
    assert failure.value.message == (
        "table raw_hr.staff: expected to add rows to those that are there, found " + reason
    )
    empty = build(wanted, source, replace(last, rows=0))
    assert (empty.read.load, empty.read.reason) == ("full", reason)


@pytest.mark.parametrize(("source", "reason", "_clauses"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("keys", [{}, MERGE, {"load": "append", "cursor": "seen"}])
def test_fail_refuses_each_change_until_a_full_refresh_accepts_it(
    keys: dict[str, Any], source: TableShape, reason: str, _clauses: tuple[str, ...]
) -> None:
    wanted = rule(**keys, on_schema_change="fail")
    last = published(wanted)
    with pytest.raises(SchemaChangedError) as failure:
        build(wanted, source, last)
    assert failure.value.message.startswith(
        "table raw_hr.staff: expected the shape of the last load, found column"
        if source is not REKEYED
        else "table raw_hr.staff: expected the shape of the last load, found key"
    )
    found = build(wanted, source, last, full_refresh=True)
    assert (found.read.load, found.read.reason) == ("full", "full refresh asked for")
    assert found.changes.describe()
    assert build(wanted, last=last).changes.describe() == ()


@pytest.mark.parametrize(("source", "_reason", "_clauses"), CHANGES.values(), ids=CHANGES)
def test_a_full_load_follows_any_change(
    source: TableShape, _reason: str, _clauses: tuple[str, ...]
) -> None:
    found = build(FULL, source, published(FULL))
    assert (found.read.load, found.read.reason, altered(found)) == ("full", "load: full", ())
    assert found.changes.describe()


def test_two_columns_that_swap_their_names_go_by_way_of_names_that_are_nobodys() -> None:
    source = table(ID, column("seen", "text", 2), column("name", SEEN.type.declaration, 3))
    wanted = rule(load="append", cursor="name", on_schema_change="evolve")
    found = build(wanted, source, published(rule(load="append", cursor="seen")))
    assert found.changes.drift.renamed == (("name", "seen"), ("seen", "name"))
    assert altered(found)[:4] == (
        'RENAME COLUMN "name" TO "renaming 0"',
        'RENAME COLUMN "seen" TO "renaming 1"',
        'RENAME COLUMN "renaming 0" TO "seen"',
        'RENAME COLUMN "renaming 1" TO "name"',
    )


def test_a_column_that_may_be_null_now_is_let_be_so_unless_it_is_in_the_key() -> None:
    before = table(ID, column("name", "text", 2, not_null=True), SEEN)
    wanted = rule(**MERGE, on_schema_change="evolve", key=["id"])
    found = build(wanted, table(ID, NAME, SEEN), published(wanted, before))
    assert altered(found) == ('ALTER COLUMN "name" DROP NOT NULL',)
    in_key = rule(**MERGE, on_schema_change="evolve", key=["name"])
    found = build(in_key, table(ID, NAME, SEEN), published(in_key, before))
    assert (found.read.load, found.read.reason) == ("full", "column name may be NULL now")


def test_rows_are_not_merged_by_a_key_that_old_rows_have_no_value_of() -> None:
    before, after = (table(column("badge", number=number), SEEN, key=()) for number in (1, 4))
    merge = rule(**MERGE, on_schema_change="evolve", key=["badge"])
    found = build(merge, after, published(merge, before))
    assert (found.read.load, found.read.reason) == (
        "full", "column badge was made anew as integer; key changed from (badge) to (badge)"
    )  # fmt: skip
    append = rule(load="append", cursor="seen", key=["badge"])
    with pytest.raises(SchemaChangedError, match="expected to add rows to those that are there"):
        build(append, after, published(append, before))


def test_a_table_without_a_key_gets_no_new_column_for_rows_that_have_no_value_in_it() -> None:
    before, after = (table(*each.columns, key=()) for each in (STAFF, ADDED))
    last = published(APPEND, before)
    with pytest.raises(SchemaChangedError, match="found column new added"):
        build(APPEND, after, last)
    dropped = build(APPEND, table(*DROPPED.columns, key=()), last)
    assert (dropped.read.load, altered(dropped)) == ("append", ())


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        (ADDED, False),
        (RENAMED, False),
        (WIDENED, False),
        (table(column("no", number=1), NAME, SEEN, key=("no",)), False),
        (NARROWED, True),
        (REKEYED, True),
        (KEY_ANEW, True),
        (table(ID, NAME, SEEN, key=("seen",)), True),
    ],
)
@pytest.mark.parametrize("keys", [{}, MERGE])
def test_marked_rows_stay_only_as_long_as_their_key_tells_them_apart(
    keys: dict[str, Any], source: TableShape, refused: bool
) -> None:
    wanted = rule(**keys, deletes="mark")
    last = published(wanted)
    if not refused:
        assert build(wanted, source, last).changes.describe()
        return
    with pytest.raises(SchemaChangedError, match="the key by which its marked rows are known"):
        build(wanted, source, last)
    assert build(wanted, source, last, full_refresh=True).read.load == "full"


@pytest.mark.parametrize("way", ["hash", "exclude"])
@pytest.mark.parametrize("source", [RENAMED, DROPPED])
def test_a_withheld_column_that_is_gone_stops_the_load_lest_it_have_another_name(
    source: TableShape, way: str
) -> None:
    # A name that a rule of one table withholds must be there at all; a pattern's need not.
    wanted = rule(name="public.*", columns={way: ["name"]})
    last = published(wanted, hashed="ab")
    by_name = (Withheld(0, "name", "exclude"),)  # an older release's
    last = replace(last, shape=replace(last.shape, withheld=by_name))
    with pytest.raises(SchemaChangedError) as failure:
        build(wanted, source, last, hashed="ab")
    assert failure.value.message == (
        "table raw_hr.staff: expected its columns name, which are not to be published as they are,"
        " found none of that name"
    )
    assert build(wanted, source, last, hashed="ab", full_refresh=True).target.shape.withheld == ()
    # The file withholds it no more.
    assert build(rule(name="public.*"), source, last).read.load == "full"


@pytest.mark.parametrize(
    ("before", "after", "unfit"),
    [
        ({"hash": ["name"]}, {"hash": ["name"]}, ()),
        ({}, {"hash": ["name"]}, ("name",)),
        ({"hash": ["name"]}, {}, ("name",)),
        ({"exclude": ["name"]}, {"hash": ["name"]}, ()),
        ({"exclude": ["name"]}, {}, ()),
    ],
)
def test_values_that_were_hashed_do_not_fit_a_column_in_clear_nor_the_other_way_round(
    before: dict[str, Any], after: dict[str, Any], unfit: tuple[str, ...]
) -> None:
    last = published(rule(columns=before), hashed="ab")
    assert build(rule(columns=after), last=last, hashed="ab").changes.drift.unfit == {*unfit}


def test_hashes_under_another_key_are_another_columns_values() -> None:
    wanted = rule(**MERGE, columns={"hash": ["name"]}, on_schema_change="evolve")
    found = build(wanted, last=published(wanted, hashed="ab"), hashed="cd")
    assert (found.read.load, found.changes.drift.unfit) == ("full", {"name"})
    assert found.read.reason == (
        "column name changed from a hash under key ab to a hash under key cd"
    )


def test_a_label_that_went_needs_rows_and_old_values_fit_for_all_that() -> None:
    source = table(ID, column("mood", "mood", 2), SEEN)
    last = published(INCREMENTAL, source)
    mood = last.shape.columns[1]
    before = replace(mood, labels=(*mood.labels, "mood.sad"))
    shape = replace(last.shape, columns=(last.shape.columns[0], before, last.shape.columns[2]))
    found = build(INCREMENTAL, source, replace(last, shape=shape))
    assert (found.read.load, found.read.reason) == ("full", "column mood lost its labels mood.sad")
    assert found.changes.drift.unfit == frozenset()


# What cannot be seen.


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (MERGE, ("deletes",)),
        ({**MERGE, "deletes": "detect"}, ()),
        (
            {"load": "append", "cursor": "seen"},
            ("changes of rows that are already there", "deletes"),
        ),
        ({}, ()),
    ],
)
def test_what_a_way_of_loading_cannot_see_is_said(
    keys: dict[str, Any], expected: tuple[str, ...]
) -> None:
    wanted = rule(**keys)
    assert build(wanted, last=published(wanted)).read.unseen == expected


def test_a_column_that_came_with_values_for_old_rows_has_them_read() -> None:
    filled = table(ID, NAME, SEEN, replace(column("new"), filled=True))
    wanted = rule(**MERGE, on_schema_change="evolve")
    found = build(wanted, filled, published(wanted))
    assert (found.read.load, found.read.reason) == (
        "full",
        "column new added (integer) with a value",
    )
    kept = build(APPEND, filled, published(APPEND))
    assert (kept.read.load, altered(kept)) == ("append", ('ADD COLUMN "new" integer',))


# Where rows come from.

HERE = STAFF.origin
OTHERS = {
    "the source is another server": replace(HERE, moment=replace(MOMENT, system="7302")),
    UNKNOWN: replace(HERE, moment=replace(MOMENT, system="")),
    "the source is another database": replace(HERE, moment=replace(MOMENT, database=16385)),
    "the source had a failover or was restored": replace(HERE, moment=replace(MOMENT, timeline=2)),
    "the source has another history of transactions": replace(
        HERE, moment=replace(MOMENT, oldest=900, newest=999)
    ),
    "the source table was made anew": replace(HERE, table=8, leaves=(Leaf(8, 8),)),
}
FOLLOWING = rule(load="incremental")


def held(wanted: TableRule, origin: Origin = HERE) -> State:
    """Return what the warehouse holds of STAFF, loaded from ``origin``."""
    return replace(published(wanted, value=NOON if wanted.cursor else None), origin=origin)


@pytest.mark.parametrize("wanted", [INCREMENTAL, FOLLOWING])
@pytest.mark.parametrize(("why", "origin"), OTHERS.items(), ids=OTHERS)
def test_another_source_is_loaded_whole(wanted: TableRule, why: str, origin: Origin) -> None:
    found = build(wanted, replace(STAFF, origin=origin), held(wanted))
    assert (found.read.load, found.read.reason, where(found)) == ("full", why, "")


@pytest.mark.parametrize(("why", "origin"), OTHERS.items(), ids=OTHERS)
def test_nothing_of_another_source_is_appended(why: str, origin: Origin) -> None:
    with pytest.raises(SchemaChangedError, match=re.escape(why)):
        build(APPEND, replace(STAFF, origin=origin), held(APPEND))


def test_columns_of_another_database_are_known_by_their_names() -> None:
    """The oids of a database that is restored every night may be the same by chance."""
    restored = replace(
        table(ID, column("seen", "timestamp with time zone", 2, not_null=True)),
        origin=OTHERS["the source is another server"],
    )
    found = build(INCREMENTAL, restored, held(INCREMENTAL))
    assert found.changes.drift.renamed == ()
    assert found.changes.describe() == ("column name dropped",)


def test_a_table_that_was_rewritten_is_loaded_whole_and_appended_from_its_cursor() -> None:
    rewritten = replace(STAFF, origin=replace(HERE, leaves=(Leaf(7, 99),)))
    found = build(INCREMENTAL, rewritten, held(INCREMENTAL))
    assert (found.read.load, found.read.reason) == (
        "full",
        "the source table was rewritten or emptied",
    )
    added = build(APPEND, rewritten, held(APPEND))
    assert (added.read.load, added.read.restarted) == ("append", True)


def test_a_partition_that_came_or_was_rewritten_is_read_whole() -> None:
    then = replace(HERE, leaves=(Leaf(20, 20), Leaf(21, 21)))
    now = replace(STAFF, origin=replace(HERE, leaves=(Leaf(20, 20), Leaf(21, 50), Leaf(22, 22))))
    found = build(FOLLOWING, now, held(FOLLOWING, then))
    assert found.read.load == "incremental"
    assert where(found).endswith(" OR tableoid IN (21, 22)")
    assert text(found.source.leaves) == "tableoid IN (20, 21, 22)"
    added = build(APPEND, now, held(APPEND, then))
    assert where(added).endswith(" OR tableoid IN (22)")
    assert "tableoid" not in window(added), "what is published has no such partition"


def test_rows_are_found_by_the_transactions_that_wrote_them() -> None:
    found = build(FOLLOWING, last=held(FOLLOWING))
    assert (found.read.load, found.read.reason) == (
        "incremental", "rows that were written since the last load"
    )  # fmt: skip
    written = "pg_catalog.age(xmin) <= (SELECT pg_catalog.age('1000'::pg_catalog.xid))"
    assert where(found) == written
    assert found.read.unseen == ("deletes",)
    late = build(INCREMENTAL, last=held(INCREMENTAL))
    assert where(late) == written, "which shows all that the cursor would"
    assert late.read.unseen == ("deletes",)


def test_a_load_whose_transactions_are_not_known_is_whole() -> None:
    found = build(FOLLOWING, last=published(FOLLOWING, value=None))
    assert (found.read.load, found.read.reason) == (
        "full", "the transactions of the last load are not known"
    )  # fmt: skip


def test_an_append_without_a_key_reads_no_row_again_that_was_written_again() -> None:
    keyless = table(NAME, SEEN, key=())
    found = build(APPEND, keyless, replace(published(APPEND, keyless), origin=HERE))
    assert where(found) == window(found)
    assert "xmin" not in where(found)


@pytest.mark.parametrize("kind", ["v", "m", "f"])
def test_what_does_not_say_who_wrote_a_row_needs_a_cursor(kind: str) -> None:
    view = table(ID, NAME, SEEN, kind=kind, heap=False)
    with pytest.raises(Failure, match="expected a cursor for load: incremental"):
        build(rule(load="incremental", key=["id"]), view)
    assert build(INCREMENTAL, view, published(INCREMENTAL)).read.unseen


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({**MERGE, "deletes": "mark"}, MERGE, "deletes changed from mark"),
        ({**MERGE, "deletes": "detect"}, {**MERGE, "deletes": "mark"}, "deletes changed to mark"),
        ({"load": "append", "cursor": "seen"}, MERGE, "load changed from append"),
    ],
)
def test_rows_that_were_treated_in_another_way_are_read_again(
    before: dict[str, Any], after: dict[str, Any], why: str
) -> None:
    found = build(rule(**after), last=published(rule(**before)))
    assert (found.read.load, found.read.reason) == ("full", why)


def test_an_older_release_that_did_not_say_how_rows_were_treated_changes_nothing() -> None:
    last = published(INCREMENTAL)
    silent = replace(last, shape=replace(last.shape, marks=None, appends=None))
    assert build(INCREMENTAL, last=silent).read.load == "incremental"


# Any table, any rule, any past.

COLUMNS = st.lists(
    st.tuples(
        st.sampled_from(["name", "email", "grade", "born"]),
        st.sampled_from(["text", "integer", "bigint", "varchar(5)", "varchar(9)", "date", "xml"]),
        st.integers(4, 8),
        st.booleans(),
    ),
    max_size=3,
    unique_by=(lambda each: each[0], lambda each: each[2]),
)
RULES = st.fixed_dictionaries(
    {
        "on_schema_change": st.sampled_from(["refresh", "evolve", "fail"]),
        "lookback": st.sampled_from(["0s", "1h", "3d"]),
    }
).flatmap(
    lambda keys: st.sampled_from(
        [
            {"on_schema_change": keys["on_schema_change"]},
            {"on_schema_change": keys["on_schema_change"], "deletes": "mark"},
            {**MERGE, **keys},
            {**MERGE, **keys, "deletes": "detect"},
            {**MERGE, **keys, "deletes": "mark"},
            {"load": "append", "cursor": "seen", **keys},
        ]
    )
)


def any_table(drawn: list[tuple[str, str, int, bool]]) -> TableShape:
    more = [
        column(name, kind.replace("varchar", "character varying"), number, not_null=not_null)
        for name, kind, number, not_null in drawn
    ]
    return table(ID, column("seen", SEEN.type.declaration, 3, not_null=True), *more)


@given(
    before=COLUMNS,
    after=COLUMNS,
    keys=RULES,
    value=st.sampled_from([None, NOON]),
    rows=st.sampled_from([0, 10]),
    full_refresh=st.booleans(),
    interval=st.sampled_from([None, MARCH]),
)
def test_whatever_changed_a_plan_holds_together(
    before: list[tuple[str, str, int, bool]],
    after: list[tuple[str, str, int, bool]],
    keys: dict[str, Any],
    value: str | None,
    rows: int,
    full_refresh: bool,
    interval: Interval | None,
) -> None:
    wanted = rule(**keys)
    last = published(wanted, any_table(before), value, rows)
    try:
        found = build(wanted, any_table(after), last, full_refresh=full_refresh, interval=interval)
    except SchemaChangedError as error:
        assert not full_refresh
        assert error.hint
        assert last.shape != build(wanted, any_table(after)).target.shape
        return
    assert found.read.reason
    assert found.read.load in ("full", wanted.load)
    assert found.changes.base == last.load_id
    assert (not found.changes.describe()) is (found.target.shape == last.shape)
    if found.read.load == "full":
        assert (where(found), found.read.since, altered(found)) == ("", None, ())
        assert found.read.interval is None
        assert wanted.load != "append" or full_refresh or not rows
    else:
        assert found.read.since == value
        assert found.read.interval == interval
        assert found.read.moves_cursor is (interval is None)
        # From an append a column only goes at the source.
        stays = {change for change in found.changes.describe() if change.endswith(" dropped")}
        assert (
            bool({*found.changes.describe()} - stays)
            <= bool(altered(found))
            <= bool(found.changes.describe())
        )
        assert wanted.load == "append" or bool(altered(found)) is bool(found.changes.describe())
        assert not found.changes.drift.unfit
    if full_refresh:
        assert found.read.load == "full"
    if found.compares_keys:
        assert found.target.key
        assert found.read.interval is None
    names = [*found.target.names]
    assert names == [each.name for each in found.target.shape.columns]
    assert {each.name for each in found.changes.drift.added} | {
        new for _, new in found.changes.drift.renamed
    } <= {*names}
