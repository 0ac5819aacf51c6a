"""The pages as HTML. What they show is strangers' text: one line each, cleaned, cut and escaped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from delivery.verdict import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery.contents import Contents
    from delivery.history import Sync
    from delivery.report import Report
    from delivery.verdict import Finding
    from harmattan.overview.backups import Backups
    from harmattan.overview.night import Night
    from harmattan.overview.remembered import Known

TEMPLATES = Path(__file__).parent / "templates"
STYLE = TEMPLATES / "style.css"
MOST_CHARACTERS = 2000  # of one value; the gate's own are shorter
SHORT = 10  # letters of a commit's id: enough to find it, few enough for a phone
MOST_PATHS = 100  # of a list on a page
LATE_SECONDS = 11 * 60
"""A round begins every five minutes and may take as long: two that are missed are worth a word."""
_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_THOUSAND = 1000
_EXACT = 2  # of the next larger unit, from which it is used


@dataclass(frozen=True)
class Difference:
    """What became of the findings between two pushes, each named by file, rule and what it says."""

    gone: tuple[Finding, ...]
    new: tuple[Finding, ...]
    same: int


def difference(older: Sequence[Finding], newer: Sequence[Finding]) -> Difference:
    """Return what ``newer`` has beside ``older``; a finding that only moved to a line stays it."""

    def name(finding: Finding) -> tuple[str, str, str]:
        return finding.file, finding.rule, finding.what

    before, after = {name(each) for each in older}, {name(each) for each in newer}
    return Difference(
        tuple(each for each in older if name(each) not in after),
        tuple(each for each in newer if name(each) not in before),
        len(before & after),
    )


@dataclass(frozen=True)
class Files:
    """What became of the files between two pushes, by their paths."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


def files(older: Contents, newer: Contents) -> Files:
    """Return which paths ``newer`` has beside ``older``, and which hold something else."""
    return Files(
        tuple(sorted(newer.keys() - older.keys())),
        tuple(sorted(path for path, mark in newer.items() if older.get(path, mark) != mark)),
        tuple(sorted(older.keys() - newer.keys())),
    )


def overview(
    gate: Known[Report], night: Known[Night] | None, backups: Backups | None, now: datetime
) -> str:
    """Return the first page, without a section for what is None."""
    return _render(
        "overview.html.j2", now, gate=gate, report=gate.value, night=night, backups=backups
    )


def commit(gate: Known[Report], sync: Sync, other: Sync | None, now: datetime) -> str:
    """Return the page of ``sync``, whose findings and files are compared with ``other``'s."""
    changes = difference(other.verdict.findings, sync.verdict.findings) if other else None
    return _render(
        "commit.html.j2", now, gate=gate, report=gate.value, sync=sync, other=other,
        by_file=by_file(sync.verdict.findings), changes=changes, moved=_moved(gate, other, sync),
    )  # fmt: skip


def _moved(gate: Known[Report], older: Sync | None, newer: Sync) -> Files | None:
    known = gate.value.contents if gate.value else {}
    pair = [known.get(each.verdict.commit) for each in (older, newer) if each]
    match pair:
        case [before, after] if before is not None and after is not None:
            return files(before, after)
        case _:
            return None


def unknown(gate: Known[Report], now: datetime) -> str:
    """Return the page of a commit that is not among the last."""
    return _render("unknown.html.j2", now, gate=gate, report=gate.value)


def by_file(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """Return the findings of each file, in order; those of the whole push are under ""."""
    ordered = sorted(findings)
    return [(file, list(group)) for file, group in groupby(ordered, key=lambda each: each.file)]


def moment(text: object) -> datetime | None:
    """Return the time that ISO 8601, or a time, says; None if it says none."""
    try:
        found = text if isinstance(text, datetime) else datetime.fromisoformat(str(text))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def age(since: object, now: datetime) -> str:
    """Return how long ago it was, in words; "" if that is not known."""
    then = moment(since)
    if then is None:
        return ""
    seconds = max(0, int((now - then).total_seconds()))
    for size, unit in _STEPS:
        if seconds >= size * (1 if size == 1 else _EXACT):
            return f"{seconds // size} {unit} ago"
    return "just now" if seconds == 0 else f"{seconds} s ago"


def late(since: str, now: datetime, seconds: int = LATE_SECONDS) -> bool:
    """Whether something that was to come again by now, such as a round of the gate, has not."""
    then = moment(since)
    return then is not None and (now - then).total_seconds() > seconds


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < _THOUSAND:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _THOUSAND
    return f"{amount:,.1f} TB"


def _render(template: str, now: datetime, **values: object) -> str:
    return _environment().get_template(template).render(now=now, **values)


def _as_text(value: object) -> object:
    return clean(value, MOST_CHARACTERS) if type(value) is str else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_as_text,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "moment": moment,
        "age": age,
        "short": lambda text: text[:SHORT],
        "number": "{:,}".format,
        "size": size,
    }
    environment.globals |= {"group": by_file, "late": late, "most_paths": MOST_PATHS}
    return environment
