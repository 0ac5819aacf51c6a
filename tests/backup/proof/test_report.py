from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest
from rich.console import Console

from backup.proof.report import (
    DrillReport,
    DrillResult,
    SlowObject,
    drill_table,
    human_age,
    human_bytes,
)
from backup.restoration.timings import Timings

NOW = datetime(2026, 11, 21, 5, tzinfo=UTC)


def report(*results: DrillResult) -> DrillReport:
    return DrillReport(started=NOW, finished=NOW, databases=results)


def test_a_report_passes_only_if_every_database_is_equal() -> None:
    equal = DrillResult(database="hr", verdict="equal")
    different = DrillResult(database="hr", verdict="different")
    assert report(equal).passed
    assert not report(equal, different).passed


def test_a_report_survives_json() -> None:
    made = report(DrillResult(database="hr", verdict="failed", findings=("why",)))
    assert DrillReport.model_validate_json(made.model_dump_json()) == made


def test_the_table_tells_what_differs() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    shown = report(
        DrillResult(
            database="hr",
            verdict="equal",
            source_bytes=1500,
        ),
        DrillResult(database="records", verdict="different", findings=("a has 1",)),
    )
    console.print(drill_table(shown))
    text = console.export_text(clear=False)
    assert "Of each database the newest backup was" in text
    console.print(drill_table(shown.model_copy(update={"at": NOW})))
    assert "the newest backup from 2026-11-21 05:00:00 UTC or before" in console.export_text()
    assert "1.5 kB" in text
    assert "records: a has 1" in text


def test_the_table_tells_what_took_how_long_and_fits_80_columns() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    restored = warehouse()
    console.print(drill_table(report(restored, DrillResult(database="hr", verdict="failed"))))
    text = console.export_text()
    row = next(line for line in text.splitlines() if line.startswith("student_wa") and "44" in line)
    assert row.split() == [
        "student_warehouse", "44.1", "2.0", "512.0", "377.4", "61.5", "3.0",
    ]  # fmt: skip
    assert "15.5 GB   8.6 GB   25 h     1204" in text
    assert "at the same mix of rows and indexes" in text
    took = "student_warehouse: took longest: index public.words_gin, 351.2 s;"
    assert took in " ".join(text.split())
    assert "rows of public.texts, 300.0 s" in " ".join(text.split())
    assert "…" not in text


def test_a_long_name_takes_no_number_from_the_table() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    long = warehouse().model_copy(update={"database": "d" * 63, "digested": False})
    console.print(drill_table(report(long)))
    text = console.export_text()
    assert "1204, counted" in text
    assert "15.5 GB" in text
    assert "…" not in text


def warehouse() -> DrillResult:
    return DrillResult(
        database="student_warehouse",
        verdict="equal",
        restore_seconds=1000,
        source_bytes=8_600_000_000,
        backup_age_seconds=90_000,
        tables_compared=1204,
        steps=Timings(44.1, 2, 512, 377.4, 61.5, 3),
        slow_objects=(
            SlowObject(kind="INDEX", schema_name="public", name="words_gin", seconds=351.2),
            SlowObject(kind="TABLE DATA", schema_name="public", name="texts", seconds=300),
        ),
    )


def test_the_size_that_breaks_the_promise_leaves_out_what_does_not_grow() -> None:
    result = warehouse()
    assert result.bytes_in_time == int(8_600_000_000 * (1800 - 5) / 995)
    assert result.limit == "15.5 GB"
    assert json.loads(result.model_dump_json())["bytes_in_time"] == result.bytes_in_time


def test_a_short_restore_does_not_promise_the_moon() -> None:
    result = warehouse().model_copy(
        update={"steps": Timings(data=0.1, other=0.3), "restore_seconds": 0.4}
    )
    assert result.bytes_in_time == int(8_600_000_000 * 1799.7 / 0.1)
    assert result.limit == "> 8.6 TB"
    empty = DrillResult(database="hr", verdict="equal", source_bytes=8, restore_seconds=0.4)
    assert (empty.bytes_in_time, empty.limit) == (None, "-")


def test_reports_of_older_versions_are_read() -> None:
    old: dict[str, object] = {
        "database": "hr", "verdict": "equal", "restore_seconds": 100.0, "source_bytes": 1000,
        "tables_compared": 2, "step_seconds": {"download": 100.0}, "slowest": ["INDEX a.b, 1.0 s"],
    }  # fmt: skip
    result = DrillResult.model_validate_json(json.dumps(old))
    assert (result.steps, result.slow_objects) == (None, ())
    assert result.bytes_in_time == 18_000
    Console(file=io.StringIO()).print(drill_table(report(result)))


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("TABLE DATA", "people", "rows of public.people"),
        ("CONSTRAINT", "people people_pkey", "key public.people people_pkey"),
        ("STATISTICS", "odd", "statistics public.odd"),
        ("INDEX", "a\x1b[2J\nb", "index public.a [2J b"),
    ],
)
def test_slow_objects_are_named_for_people(kind: str, name: str, text: str) -> None:
    assert str(SlowObject(kind=kind, schema_name="public", name=name, seconds=1)) == text


@pytest.mark.parametrize(
    ("size", "text"), [(None, "-"), (0, "0 B"), (999, "999 B"), (2.5e9, "2.5 GB"), (7e12, "7.0 TB")]
)
def test_sizes_are_read_by_people(size: float | None, text: str) -> None:
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (59, "59 s"), (600, "10 min"), (7200, "2 h"), (9e5, "10 d")]
)
def test_ages_are_read_by_people(seconds: float | None, text: str) -> None:
    assert human_age(seconds) == text
