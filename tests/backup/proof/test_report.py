from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from backup.proof.report import DrillReport, DrillResult, drill_table, human_age, human_bytes

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
            slowest=("INDEX public.x, 1.5 s",),
            step_seconds={"download": 1, "data": 2, "indexes": 1.5, "analyse": 0.5},
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
    assert "hr: download and decrypt 1.0 s, rows 2.0 s, indexes 1.5 s, ANALYZE 0.5 s; sl" in text


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
