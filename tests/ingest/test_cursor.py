"""Which columns can be cursors, and which rows each asks the source for."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frame.failure import Failure
from ingest import cursor as cursors
from ingest.cursor import Cursor, Interval
from tests.ingest.tables import column, rule, table

if TYPE_CHECKING:
    from ingest.rules import TableRule
    from ingest.shapes import TableShape

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
RANGES = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
NUMBERS = (*RANGES, "numeric")
TIMES = ("timestamp with time zone", "timestamp without time zone", "date")


def incremental(**keys: object) -> TableRule:
    return rule(**{"load": "incremental", "cursor": "seen", **keys})


def staff(declaration: str, *, not_null: bool = True) -> TableShape:
    return table(column("id"), column("seen", declaration, not_null=not_null))


def counter(kind: str = "bigint", lookback: int = 0, *, nullable: bool = False) -> Cursor:
    return Cursor("seen", kind, nullable, lookback)


def clock(
    kind: str = "timestamp with time zone", lookback: timedelta = HOUR, *, nullable: bool = False
) -> Cursor:
    return Cursor("seen", kind, nullable, lookback)


@pytest.mark.parametrize(
    ("declaration", "kind", "lookback"),
    [
        ("smallint", "smallint", 0),
        ("integer", "integer", 0),
        ("bigint", "bigint", 0),
        ("numeric", "numeric", 0),
        ("numeric(12,2)", "numeric", 0),
        ("date", "date", DAY),
        ("timestamp with time zone", "timestamp with time zone", HOUR),
        ("timestamp(3) with time zone", "timestamp with time zone", HOUR),
        ("timestamp(0) without time zone", "timestamp without time zone", HOUR),
    ],
)
@pytest.mark.parametrize("not_null", [True, False])
def test_a_number_a_date_or_a_time_stamp_can_be_a_cursor(
    declaration: str, kind: str, lookback: timedelta | int, not_null: bool
) -> None:
    found = cursors.of(incremental(), staff(declaration, not_null=not_null))
    assert found == Cursor("seen", kind, nullable=not not_null, lookback=lookback)
    assert found.is_number is (kind in NUMBERS)


def test_a_full_load_has_no_cursor() -> None:
    assert cursors.of(rule(), staff("bigint")) is None


@pytest.mark.parametrize(
    ("declaration", "keys", "expected"),
    [
        ("bigint", {"cursor": "Seen"}, "cursor: expected one of its columns, found Seen"),
        ("text", {}, "cursor seen: expected a number, a date or a time stamp, found text"),
        ("double precision", {}, "expected a number, a date or a time stamp, found double precis"),
        ("mood", {}, "cursor seen: expected a number, a date or a time stamp, found mood"),
        ("bigint", {"lookback": "2h"}, "expected a whole number for seen (bigint), found 2h"),
        ("numeric(9,0)", {"lookback": "90s"}, "a whole number for seen (numeric), found 90s"),
        ("date", {"lookback": 3}, "expected a duration such as 2h for seen (date), found 3"),
        ("date", {"lookback": 0}, "expected a duration such as 2h for seen (date), found 0"),
    ],
)
def test_a_column_that_cannot_be_a_cursor_is_named(
    declaration: str, keys: dict[str, object], expected: str
) -> None:
    with pytest.raises(Failure) as failure:
        cursors.of(incremental(**keys), staff(declaration))
    assert failure.value.message.startswith("table public.staff: ")
    assert expected in failure.value.message


@pytest.mark.parametrize(
    ("lookback", "expected"),
    [
        ("2h", "2h"),
        ("120m", "2h"),
        ("90m", "90m"),
        ("90s", "90s"),
        ("2w", "14d"),
        ("48h", "2d"),
        ("0s", "0s"),
    ],
)
def test_a_lookback_reads_as_the_file_would_write_it(lookback: str, expected: str) -> None:
    found = cursors.of(incremental(lookback=lookback), staff("timestamp with time zone"))
    assert found is not None
    assert found.lookback_text() == expected
    again = cursors.of(incremental(lookback=expected), staff("timestamp with time zone"))
    assert again == found


@pytest.mark.parametrize(
    ("cursor", "value", "expected"),
    [
        (counter(), "7", "\"seen\" >= '7'::bigint"),
        (counter(lookback=5), "7", "\"seen\" >= '2'::bigint"),
        (counter("smallint", 5), "-32766", "\"seen\" >= '-32768'::smallint"),
        (counter("numeric"), "7.50", "\"seen\" >= '7.50'::numeric"),
        (counter("numeric", 5), "7.50", "\"seen\" >= ('7.50'::numeric - 5)"),
        (counter(nullable=True), "7", '("seen" >= \'7\'::bigint OR "seen" IS NULL)'),
        (clock("date", timedelta()), "2026-03-01", "\"seen\" >= '2026-03-01'::date"),
        (
            clock("date", DAY),
            "2026-03-01",
            "\"seen\" >= CASE WHEN '2026-03-01'::date < '4000-01-01 BC'::date"
            " THEN '-infinity'::date"
            " ELSE ('2026-03-01'::date - '86400 seconds'::interval)::date END",
        ),
    ],
)
def test_rows_are_asked_for_from_the_last_value_less_the_lookback(
    cursor: Cursor, value: str, expected: str
) -> None:
    assert cursor.reaching(value).as_string() == expected


@given(kind=st.sampled_from(sorted(RANGES)), lookback=st.integers(0, 2**65), data=st.data())
def test_a_lookback_never_moves_a_whole_number_forward_nor_out_of_its_type(
    kind: str, lookback: int, data: st.DataObject
) -> None:
    value = data.draw(st.integers(-RANGES[kind], RANGES[kind] - 1))
    found = re.fullmatch(
        rf"\"seen\" >= '(-?\d+)'::{kind}", counter(kind, lookback).reaching(str(value)).as_string()
    )
    assert found is not None
    start = int(found[1])
    assert -RANGES[kind] <= start <= value
    assert start in (value - lookback, -RANGES[kind])


@given(kind=st.sampled_from(TIMES), seconds=st.integers(1, 999_999 * 604_800))
def test_a_lookback_never_moves_a_time_forward(kind: str, seconds: int) -> None:
    text = clock(kind, timedelta(seconds=seconds)).reaching("2026-03-01").as_string()
    taken = re.search(rf"'2026-03-01'::{kind} - '(\d+) seconds'::interval", text)
    assert taken is not None
    assert int(taken[1]) == seconds


@given(kind=st.sampled_from((*NUMBERS, *TIMES)), nullable=st.booleans())
def test_rows_whose_cursor_is_null_are_read_each_time_where_there_may_be_any(
    kind: str, nullable: bool
) -> None:
    cursor = Cursor("seen", kind, nullable, lookback=0)
    assert ('"seen" IS NULL' in cursor.reaching("1").as_string()) is nullable
    assert "NULL" not in cursor.between(Interval("1", "2")).as_string()


def test_an_interval_holds_its_beginning_and_not_its_end() -> None:
    assert (
        counter(lookback=5, nullable=True).between(Interval("3", "9")).as_string()
        == "\"seen\" >= '3'::bigint AND \"seen\" < '9'::bigint"
    )


# Of text without a backslash, which makes an escape string of a literal.
TEXTS = st.text(st.characters(exclude_characters="\0\\", exclude_categories=["Cs"]), min_size=1)


@given(column=TEXTS, value=TEXTS)
def test_names_and_values_stay_within_their_quotes(column: str, value: str) -> None:
    cursor = Cursor(column, "date", nullable=False, lookback=timedelta())
    name, literal = column.replace('"', '""'), value.replace("'", "''")
    assert cursor.reaching(value).as_string() == f"\"{name}\" >= '{literal}'::date"


@pytest.mark.parametrize(
    ("kind", "sane"),
    [
        ("smallint", "true"),
        ("integer", "true"),
        ("bigint", "true"),
        ("numeric", "\"seen\" < 'Infinity'"),
        (
            "timestamp with time zone",
            'isfinite("seen") AND "seen" <= \'2026-03-01 12:00+00\'::timestamptz',
        ),
        *(
            (
                kind,
                'isfinite("seen") AND "seen" <= \'2026-03-01 12:00+00\'::timestamptz'
                " AT TIME ZONE 'UTC' + interval '14 hours'",
            )
            for kind in ("timestamp without time zone", "date")
        ),
    ],
)
def test_the_newest_value_is_none_of_the_future_and_never_before_the_last_one(
    kind: str, sane: str
) -> None:
    newest = f'greatest(max("seen") FILTER (WHERE {sane})'
    cursor = Cursor("seen", kind, nullable=True, lookback=0)
    now = "2026-03-01 12:00+00"
    assert cursor.newest(now, since="7").as_string() == f"{newest}, '7'::{kind})"
    assert cursor.newest(now, since=None).as_string() == f"{newest}, NULL::{kind})"


@pytest.mark.parametrize(
    ("interval", "numbers", "times"),
    [
        (Interval("1", "9"), True, False),
        (Interval("-1.5", "1e3"), True, False),
        (Interval("2026-03-01", "2026-04-01"), False, True),
        (Interval("2026-03-01T00:00:00+00:00", "2026-03-02T00:00:00+00:00"), False, True),
        (Interval("1", "2026-04-01"), False, True),
        (Interval("", ""), False, True),
    ],
)
def test_an_interval_of_numbers_suits_numbers_and_any_other_suits_times(
    interval: Interval, numbers: bool, times: bool
) -> None:
    assert {interval.suits(counter(kind)) for kind in NUMBERS} == {numbers}
    assert {interval.suits(clock(kind)) for kind in TIMES} == {times}
