from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from scripts.schedules import overdue

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def run(state: str, after: str, start: str | None = None) -> dict[str, Any]:
    return {"state": state, "run_after": after, "start_date": start or after}


@pytest.mark.parametrize(
    ("schedule", "newest", "said"),
    [
        ("0 2 * * *", run("success", "2026-03-10T02:00:00Z"), ""),
        ("0 2 * * *", run("success", "2026-03-09T02:00:00Z"), ""),
        ("0 2 * * *", run("success", "2026-03-08T02:00:00Z"), "no run for 2 d"),
        ("0 2 * * 1-5", run("failed", "2026-03-09T02:00:00Z"), ""),
        ("0 2 * * *", run("running", "2026-03-10T02:00:00Z"), ""),
        ("0 * * * *", run("running", "2026-03-10T12:00:00Z", "2026-03-10T08:00:00Z"),
         "running for 4 h"),
        ("0 * * * *", run("queued", "2026-03-10T08:00:00Z", None), "queued for 4 h"),
        (None, run("success", "2020-01-01T00:00:00Z"), ""),
        ("Asset", run("success", "2020-01-01T00:00:00Z"), ""),
    ],
)  # fmt: skip
def test_a_run_that_two_intervals_did_not_bring_or_end_is_told(
    schedule: str | None, newest: dict[str, Any], said: str
) -> None:
    assert overdue(schedule, newest, NOW) == said
