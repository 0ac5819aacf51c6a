"""What the job backup-coverage found last, as Nomad renders it into a file of this task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery.verdict import clean, read_json

if TYPE_CHECKING:
    from pathlib import Path

MOST = 200


@dataclass(frozen=True)
class Kept:
    """What is backed up of a database, or of what else coverage looks at.

    ``states`` are all that is wrong; ``made`` is when the newest backup was, of ``size`` bytes, and
    ``drilled`` when a drill last tried to restore one: ISO 8601, "" where there is none.
    """

    name: str
    states: tuple[str, ...]
    made: str
    size: int | None
    drilled: str
    notices: int


@dataclass(frozen=True)
class Backups:
    """What was found at the time ``at``; ``left`` rows had no room."""

    at: str
    rows: tuple[Kept, ...]
    left: int


def newest(file: Path) -> Backups | None:
    """Return what was found last; None if coverage has not reported yet."""
    value = read_json(file)
    if not isinstance(value, dict) or not isinstance(value.get("rows"), list):
        return None
    rows = tuple(_kept(row) for row in value["rows"][:MOST] if isinstance(row, dict))
    return Backups(clean(value.get("at") or ""), rows, _number(value.get("left")) or 0)


def _kept(row: dict[str, object]) -> Kept:
    states = row.get("states")
    return Kept(
        clean(row.get("name") or ""),
        tuple(clean(state) for state in states) if isinstance(states, list) else (),
        clean(row.get("made") or ""),
        _number(row.get("size")),
        clean(row.get("drilled") or ""),
        _number(row.get("notices")) or 0,
    )


def _number(value: object) -> int | None:
    return value if type(value) is int else None
