"""Schedules that run too close to themselves, as Airflow serialises them and croniter runs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from croniter import CroniterBadDateError, croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.crons import PRESETS
from delivery.schedules import MAX_CRONS, cron_too_close, too_close, unreadable

START = datetime(2026, 1, 1, tzinfo=UTC)
MULTIPLE = "airflow.timetables.trigger.MultipleCronTriggerTimetable"


def crons(*expressions: str) -> dict[str, Any]:
    return {"__type": MULTIPLE, "__var": {"expressions": list(expressions), "timezone": "UTC"}}


@pytest.mark.parametrize(
    ("expressions", "expected"),
    [
        (["0 4 * * *", "2 4 * * 1"], "runs at 04:00 and 04:02 on Mondays"),
        (["58 23 * * *", "1 0 * * *"], "runs at 23:58 every day and at 00:01 the day after"),
        (["58 23 * * 1", "1 0 * * 2"], "runs at 23:58 on Mondays and at 00:01 the day after"),
        (["58 23 28 2 *", "0 0 29 2 *"], "runs at 23:58 on 2028-02-28 and at 00:00 the day after"),
        (["0 4 13 * *", "1 4 * * 5"], "runs at 04:00 and 04:01 on 2026-02-13"),
        (["0 4 13 * 5", "1 4 * * 5"], "runs at 04:00 and 04:01 on Fridays"),
        (["0 4 * * 1#2", "1 4 8 * *"], "runs at 04:00 and 04:01 on 2026-06-08"),
        (["0 4 l * *", "1 4 28 2 *"], "runs at 04:00 and 04:01 on 2026-02-28"),
        (["0 4 15W * *", "1 4 16 * *"], "runs at 04:00 and 04:01 on 2026-02-16"),
        (["*/7 * * * *"], "runs at 00:56 and 01:00 every day"),
        (["0 4 * * * 0,30"], "runs at 04:00 and 04:00:30 every day"),
        (["0 4 * * *", "0 4 30 2 *"], "'0 4 30 2 *' never runs: there is no such day until 2099"),
        (["0 4 1 1 * 0 2020"], "'0 4 1 1 * 0 2020' never runs: there is no such day until 2099"),
        ([f"0 4 {day} {month} *" for month in (1, 3) for day in range(1, 32)],
         f"has 62 crons: at most {MAX_CRONS} are compared with each other"),
    ],
)  # fmt: skip
def test_crons_that_run_too_close_say_when(expressions: list[str], expected: str) -> None:
    assert too_close(crons(*expressions), 5) == expected


@pytest.mark.parametrize(
    "expressions",
    [
        ["0 4 * * 1", "3 4 * * 2"],
        ["*/5 * * * *"],
        ["0,5,10 * * * *"],
        ["0 4 * * *", "0 4 * * 1"],
        ["58 23 * * 0", "1 0 * * 2"],
        ["58 23 28 2 *", "0 0 2 3 *"],
        ["0 4 31 * *", "1 4 * 4,6,9,11 *"],
        ["0 4 * * 1#1", "1 4 8-14 * *"],
        ["0 0 29 2 *"],
        ["no cron"],
        [],
    ],
)
def test_crons_that_leave_time_pass(expressions: list[str]) -> None:
    assert too_close(crons(*expressions), 5) is None


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("trigger.CronTriggerTimetable", {"expression": "* * * * *"},
         "runs at 00:00 and 00:01 every day"),
        ("interval.CronDataIntervalTimetable", {"expression": "@hourly"}, None),
        ("trigger.CronPartitionTimetable", {"expression": "0,4 1 * * 0"},
         "runs at 01:00 and 01:04 on Sundays"),
        ("trigger.DeltaTriggerTimetable", {"delta": 299.5}, "runs every 299.5 seconds"),
        ("trigger.DeltaTriggerTimetable", {"delta": 300.0}, None),
        ("interval.DeltaDataIntervalTimetable", {"delta": {"minutes": 1}}, "runs every 60 seconds"),
        ("interval.DeltaDataIntervalTimetable", {"delta": {"seconds": 3}}, "runs every 3 seconds"),
        ("interval.DeltaDataIntervalTimetable", {"delta": {"months": 1}}, None),
        ("interval.DeltaDataIntervalTimetable", {"delta": {"weekday": [1]}}, None),
        ("simple.ContinuousTimetable", {}, "runs again as soon as it has ended"),
        ("simple.NullTimetable", {}, None),
        ("simple.OnceTimetable", {}, None),
        ("events.EventsTimetable",
         {"event_dates": ["2027-01-02T00:00:00+00:00", "2027-01-01T23:58:00+00:00"]},
         "runs at 2027-01-01 23:58:00 and 00:00:00"),
        ("events.EventsTimetable",
         {"event_dates": ["2027-01-01T04:00:00+00:00", "2027-01-01T04:00:00+02:00"]}, None),
    ],
)  # fmt: skip
def test_each_timetable_of_airflow_is_known(
    kind: str, values: dict[str, Any], expected: str | None
) -> None:
    timetable = {"__type": f"airflow.timetables.{kind}", "__var": values}
    assert too_close(timetable, 5) == expected
    assets = {"__type": "airflow.timetables.assets.AssetOrTimeSchedule",
              "__var": {"asset_condition": {}, "timetable": timetable}}  # fmt: skip
    assert too_close(assets, 5) == expected


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
_KINDS = ["trigger.MultipleCronTriggerTimetable", "trigger.CronTriggerTimetable",
          "trigger.DeltaTriggerTimetable", "events.EventsTimetable", "assets.AssetOrTimeSchedule",
          "another.Timetable"]  # fmt: skip
_KEYS = ["expression", "expressions", "delta", "event_dates", "timetable"]


_TIMETABLE = st.fixed_dictionaries(
    {
        "__type": st.sampled_from([f"airflow.timetables.{kind}" for kind in _KINDS]) | _JSON,
        "__var": st.dictionaries(st.sampled_from(_KEYS), _JSON | st.lists(_JSON)) | _JSON,
    }
)


@given(_JSON | _TIMETABLE)
def test_no_data_of_strangers_raises(timetable: Any) -> None:
    assert isinstance(too_close(timetable, 5), str | None)


@given(st.text(max_size=30) | st.text("0123456789*/,-#lLwWrR@ janmofi", max_size=30))
def test_no_text_of_strangers_raises(text: str) -> None:
    assert isinstance(cron_too_close(text, 5), str | None)
    assert unreadable(text) is None or "five cron fields" in (unreadable(text) or "")


def _numbers(low: int, high: int, most: int) -> st.SearchStrategy[str]:
    values = st.lists(st.integers(low, high), min_size=1, max_size=most, unique=True)
    return values.map(lambda chosen: ",".join(map(str, sorted(chosen))))


_DAYS = st.one_of(
    st.just("* * *"),
    st.builds("{} * *".format, _numbers(1, 4, 2) | st.sampled_from(["l", "15W", "1W", "28-31"])),
    st.builds("* * {}".format, _numbers(0, 7, 3) | st.sampled_from(["1#1", "L5", "2#5"])),
    st.builds("{} * {}".format, _numbers(1, 4, 2), _numbers(0, 6, 2) | st.just("1#1")),
)
_TIMES = st.builds(
    "{} {}".format,
    _numbers(0, 3, 2) | st.sampled_from(["57", "59", "20"]),
    st.sampled_from(["0", "4", "23", "0,23"]),
)
_CRON = st.builds("{} {}".format, _TIMES, _DAYS)
# Each day of month is each day of the week within a year.
YEAR = timedelta(days=400)


@settings(max_examples=60, deadline=None)
@given(st.lists(_CRON, min_size=1, max_size=3), st.integers(1, 6))
def test_what_is_too_close_is_what_croniter_runs_too_close(
    expressions: list[str], minutes: int
) -> None:
    runs: set[datetime] = set()
    for each in expressions:
        ticks = croniter(each, START - timedelta(minutes=1))
        while (run := ticks.get_next(datetime)) < START + YEAR:
            runs.add(run)
    ordered = sorted(runs)
    closest = min(
        (later - earlier for earlier, later in pairwise(ordered)),
        default=YEAR,
    )
    assert (too_close(crons(*expressions), minutes) is not None) == (
        closest < timedelta(minutes=minutes)
    )


@settings(deadline=None)
@given(st.integers(1, 31), _numbers(1, 12, 2), st.sampled_from(["*", "1#5", "5"]))
def test_a_cron_never_runs_when_croniter_finds_no_run(day: int, months: str, weekday: str) -> None:
    cron = f"0 4 {day} {months} {weekday}"
    try:
        croniter(cron, START).get_next()
        comes = True
    except CroniterBadDateError:
        comes = False
    assert (cron_too_close(cron, 5) is None) == comes


@pytest.mark.parametrize(
    "schedule", ["0 4 * * *", "0 4 * * * 30", "@daily", "@once", "@continuous", "0 0 * mar fri"]
)
def test_a_schedule_is_readable(schedule: str) -> None:
    assert unreadable(schedule) is None


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("@dayly", "did you mean @daily?"),
        ("0 4 * *", "five cron fields"),
        ("61 * * * *", "five cron fields"),
        ("R * * * *", "five cron fields"),
        ("", "@hourly"),
        ("0 " * 10**6, "five cron fields"),
    ],
)
def test_what_is_no_schedule_says_what_may_be(schedule: str, expected: str) -> None:
    said = unreadable(schedule)
    assert said
    assert expected in said
    assert len(said) < 300


@pytest.mark.slow
def test_airflow_serialises_them_as_they_are_read_here() -> None:
    from airflow.sdk import DAG, MultipleCronTriggerTimetable
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.utils.dates import cron_presets

    assert cron_presets == PRESETS
    several = MultipleCronTriggerTimetable("0 4 * * *", "2 4 * * 1", timezone="UTC")
    schedules: list[tuple[Any, str | None]] = [
        ("* * * * *", "runs at 00:00 and 00:01 every day"),
        ("@daily", None),
        ("@continuous", "runs again as soon as it has ended"),
        (timedelta(minutes=2), "runs every 120 seconds"),
        (several, "runs at 04:00 and 04:02 on Mondays"),
    ]
    for schedule, expected in schedules:
        dag = DAG("closeness", schedule=schedule, start_date=START, max_active_runs=1)
        timetable = DagSerialization.to_dict(dag)["dag"]["timetable"]
        assert too_close(timetable, 5) == expected
