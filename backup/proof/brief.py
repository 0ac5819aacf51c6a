"""What coverage found, left with Nomad in brief: Airflow's page shows it and needs no key of B2.

It holds names, sizes and times; nothing that was backed up, and no error's text.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import requests

from backup.settings import NOMAD_TOKEN
from frame import certificate
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from backup.proof.coverage import Row
    from backup.settings import Settings

MOST_BYTES = 48 * 1024  # Nomad takes 64 KiB a variable
_SECONDS = 10


def leave(settings: Settings, rows: Sequence[Row], now: datetime) -> None:
    """Put the brief into Nomad's variable that ``settings`` name. Raises Failure."""
    address = settings.address("nomad")
    try:
        answer = requests.put(
            f"{address}{settings.brief}",
            json={"Items": {"brief": brief(rows, now)}},
            headers={"X-Nomad-Token": settings.secret(NOMAD_TOKEN)},
            timeout=_SECONDS,
        )
    except requests.RequestException as error:
        raise certificate.failure(f"nomad at {address}", error) or Failure(
            f"nomad at {address} does not answer: {type(error).__name__}",
            hint="Look whether it is up, and reachable from here.",
        ) from error
    if not answer.ok:
        raise Failure(
            f"nomad at {address} takes no brief for Airflow's page: {answer.status_code}",
            hint="Run scripts/nomad_setup.py, which gives the job the right to write it.",
        )


def brief(rows: Sequence[Row], now: datetime) -> str:
    """Return the rows as JSON of MOST_BYTES at most, those that are not well first."""
    lines = [_line(row, now) for row in sorted(rows, key=lambda row: row.well)]
    left = 0
    while len(text := json.dumps({"at": _moment(now), "rows": lines, "left": left})) > MOST_BYTES:
        lines.pop()
        left += 1
    return text


def _line(row: Row, now: datetime) -> dict[str, Any]:
    made = None if row.age_seconds is None else now - timedelta(seconds=row.age_seconds)
    return {
        "name": row.name,
        "states": list(row.states),
        "made": _moment(made) if made else None,
        "size": row.size,
        "drilled": _moment(row.drilled) if row.drilled else None,
        "notices": len(row.notices),
    }


def _moment(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
