"""Whether a DAG's newest run is the one that its schedule wants. Pure: nobody is asked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from croniter import croniter

from backup.proof.report import human_age

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERVALS = 2  # after so many a run that is not there, or has not ended, is a fault


def overdue(schedule: str | None, run: Mapping[str, Any], now: datetime) -> str:
    """Return what is wrong with the newest run of a DAG, "" if nothing is.

    ``schedule`` is Airflow's summary of it; only cron says when the next one is due. ``run`` is as
    Airflow's API gives it.
    """
    if not schedule or not croniter.is_valid(schedule):
        return ""
    oldest = oldest_due(schedule, now)
    begun = _time(run.get("start_date"))
    if run["state"] in {"queued", "running"} and begun and begun < oldest:
        return f"{run['state']} for {human_age((now - begun).total_seconds())}"
    due = _time(run.get("run_after"))
    if due and due < oldest:
        return f"no run for {human_age((now - due).total_seconds())}"
    return ""


def oldest_due(schedule: str, now: datetime) -> datetime:
    """Return when, by a cron schedule, the oldest run was due that is not two intervals late."""
    ticks = croniter(schedule, now)
    due: list[datetime] = [ticks.get_prev(datetime) for _ in range(INTERVALS)]
    return due[-1]


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None
