"""Schedules: what passes here, Airflow's cron library takes, and it comes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from ingest import schedule

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["0 2 * * *", "*/15 6-18 * * mon-fri", "0 0 1,15 jan-mar *", "5/10 * * * 7", "@daily",
     "0 0 29 2 *", "0 0 31 2 mon", "59 23 31 12 0"],
)  # fmt: skip
def test_a_schedule_passes_and_comes(text: str) -> None:
    schedule.check(text)
    assert croniter(text, START).get_next() > START.timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "five cron fields"),
        ("0 2 * *", "five cron fields"),
        ("0 0 2 * * *", "five cron fields"),
        ("@reboot", "five cron fields"),
        ("60 * * * *", "0 to 59 as the minute, found '60'"),
        ("* * 0 * *", "1 to 31 as the day of month"),
        ("* * * foo *", "1 to 12 as the month, found 'foo'"),
        ("* * * * 8", "0 to 7 as the day of week"),
        ("5-1 * * * *", "a rising range"),
        ("*/0 * * * *", "a rising range and a step"),
        ("1,,2 * * * *", "ranges or steps as the minute, found ''"),
        ("0 0 30 2 *", "a day that one of these months has"),
        ("0 0 31 apr,jun *", "a day that one of these months has"),
        ("0 0 L * *", "found 'l'"),
        ("H * * * *", "found 'h'"),
    ],
)
def test_what_is_no_schedule_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^expected .*{expected}"):
        schedule.check(text)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low - 1, high + 1)
    item = st.one_of(
        st.just("*"),
        number.map(str),
        st.builds("{}-{}".format, number, number),
        st.builds("{}-{}/{}".format, number, number, number),
        st.builds("*/{}".format, number),
        st.builds("{}/{}".format, number, number),
    )
    return st.lists(item, min_size=1, max_size=2).map(",".join)


@given(st.tuples(_field(0, 59), _field(0, 23), _field(1, 31), _field(1, 12), _field(0, 7)))
def test_airflow_takes_whatever_passes(fields: tuple[str, ...]) -> None:
    text = " ".join(fields)
    try:
        schedule.check(text)
    except ValueError:
        return
    assert croniter(text, START).get_next() > START.timestamp()
