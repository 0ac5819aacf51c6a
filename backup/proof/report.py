"""What a drill found, as JSON for machines and as a table for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, computed_field
from rich.console import Group
from rich.text import Text

from backup.postgres.names import on_screen
from backup.restoration.timings import Timings
from frame.output import table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

KILO = 1000
PROMISE_SECONDS = 30 * 60  # from the bucket into a database that answers
AHEAD = timedelta(minutes=15)  # that clocks may differ
SHOWN = 3  # differences shown a database; the JSON has all
# Times its own size, a database of which no speed is told: what fits in memory, or is over in a
# second, says nothing about disks that are full of it.
FARTHEST = 1000
_WORDS = {
    "CONSTRAINT": "key",
    "FK CONSTRAINT": "foreign key",
    "INDEX": "index",
    "MATERIALIZED VIEW DATA": "materialised view",
    "TABLE DATA": "rows of",
}


class SlowObject(BaseModel):
    """One of the objects that took longest to load; those of a restore overlap in time."""

    model_config = ConfigDict(frozen=True)

    kind: str = Field(description="as pg_dump calls it, such as TABLE DATA or INDEX")
    schema_name: str = Field(description="empty for what is in none")
    name: str
    seconds: float

    def __str__(self) -> str:
        name = ".".join(filter(None, (self.schema_name, self.name)))
        return f"{_WORDS.get(self.kind, self.kind.lower())} {on_screen(name)}".strip()


class DrillResult(BaseModel):
    """One database: ``equal`` if restored whole, sound and in time, else why not."""

    model_config = ConfigDict(frozen=True)

    database: str
    verdict: Literal["equal", "different", "failed"]
    backup_id: str | None = None
    backup_bytes: int | None = None
    backup_age_seconds: float | None = None
    restore_seconds: float | None = None
    steps: Timings | None = Field(
        default=None, description="seconds; None: no database, or an old report"
    )
    slow_objects: tuple[SlowObject, ...] = Field(default=(), description="the slowest first")
    source_bytes: int | None = None
    tables_compared: int = 0
    rows_compared: int = 0
    digested: bool = Field(default=True, description="rows compared by digest, not only counted")
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = Field(default=(), description="what the backup does not prove or hold")
    object_name: str | None = Field(
        default=None, description="of the dump, all of which was read and is what is signed"
    )
    passed_over: tuple[str, ...] = Field(
        default=(), description="why newer backups are not trusted, newest first"
    )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def bytes_in_time(self) -> int | None:
        """The size at which the promise breaks for this database: its mix of rows and indexes.

        None for what has no tables: a start and no data would be extrapolated.
        """
        if not self.source_bytes or not self.restore_seconds or not self.tables_compared:
            return None
        steps = self.steps or Timings(data=self.restore_seconds)  # an old report tells no more
        return steps.size_in(PROMISE_SECONDS, self.source_bytes)

    @property
    def limit(self) -> str:
        """That size for people, who are not told more than the speed that was seen can say."""
        most = FARTHEST * (self.source_bytes or 0)
        if self.bytes_in_time is None or self.bytes_in_time <= most:
            return human_bytes(self.bytes_in_time)
        return f"> {human_bytes(most)}"


class CopyCheck(BaseModel):
    """One monthly copy that was read from end to end: its size, SHA-256 and that it decrypts."""

    model_config = ConfigDict(frozen=True)

    database: str
    backup_id: str
    object_name: str
    whole: bool
    finding: str | None = None


class DrillReport(BaseModel):
    """One drill of one or more databases."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    started: AwareDatetime
    finished: AwareDatetime
    at: AwareDatetime | None = Field(
        default=None, description="no younger backups; None: the newest"
    )
    databases: tuple[DrillResult, ...]
    copy_check: CopyCheck | None = Field(
        default=None, description="of the monthly copies the one whose turn it was, if any"
    )
    program_version: str = "unknown"

    @property
    def which(self) -> str:
        """Which backup of each database was restored, in words."""
        if self.at is None:
            return "the newest backup"
        return f"the newest backup from {self.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC or before"

    @property
    def passed(self) -> bool:
        """Whether every database was restored equal to its source, and the copy was whole."""
        equal = all(result.verdict == "equal" for result in self.databases)
        return equal and (self.copy_check is None or self.copy_check.whole)


def last_results(
    reports: Iterable[DrillReport], now: datetime
) -> dict[str, tuple[datetime, DrillResult]]:
    """Return when each database was drilled last, and how that ended; reports are oldest first.

    A drill of an older date proves nothing of the backups of today, and one from the future is not
    of this program.
    """
    return {
        result.database: (report.started, result)
        for report in reports
        if report.at is None and report.started - now <= AHEAD
        for result in report.databases
    }


def human_bytes(size: float | None) -> str:
    """Return ``size`` with a decimal unit."""
    if size is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if size < KILO:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= KILO
    return f"{size:.1f} TB"


def human_age(seconds: float | None) -> str:
    """Return an age in its largest whole unit."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _slowest(result: DrillResult) -> list[str]:
    """Return which objects took most of the time, as a line."""
    if not result.slow_objects:
        return []
    first, *rest = (f"{each}, {each.seconds:.1f} s" for each in result.slow_objects[:SHOWN])
    return ["; ".join([f"took longest: {first}", *rest])]


def _step_table(report: DrillReport) -> list[Table | Text]:
    """Return what of each restore took how long, if any tells it."""
    steps = _folding_names(">download", ">schema", ">rows", ">indexes", ">ANALYZE", ">other")
    steps.title = "What took how long, in seconds"
    for result in report.databases:
        if result.steps:
            seconds = (f"{each:.1f}" for each in vars(result.steps).values())
            steps.add_row(result.database, *seconds)
    return [Text(), steps] if steps.rows else []


def _folding_names(*headings: str) -> Table:
    """Return a table in which a long name gives way on a narrow terminal, and no number does."""
    made = table("database", *headings)
    made.columns[0].overflow = "fold"
    for column in made.columns[1:]:
        column.no_wrap = True
    return made


def drill_table(report: DrillReport) -> Group:
    """Return the report as tables, a row a database, and below them what was found."""
    results = _folding_names("verdict", ">restore", ">in 30 min", ">size", ">age", ">tables")
    results.title = f"Restore drill of {report.started:%Y-%m-%d %H:%M} UTC"
    found = []
    for result in report.databases:
        style = None if result.verdict == "equal" else "bold red"
        results.add_row(
            result.database,
            result.verdict,
            "-" if result.restore_seconds is None else f"{result.restore_seconds:.1f} s",
            result.limit,
            human_bytes(result.source_bytes),
            human_age(result.backup_age_seconds),
            f"{result.tables_compared}{'' if result.digested else ', counted'}",
            style=style,
        )
        found += [
            Text(f"{result.database}: {finding}", style="red")
            for finding in (*result.findings[:SHOWN], *result.passed_over[:SHOWN])
        ]
        found += [
            Text(f"{result.database}: {note}")
            for note in (*_slowest(result), *result.notes[:SHOWN])
        ]
    if check := report.copy_check:
        words = "is whole" if check.whole else f"is not whole: {check.finding}"
        copy = f"The monthly copy {check.backup_id} of {check.database} was read: it {words}."
        found.append(Text(copy, style="" if check.whole else "red"))
    about = Text(
        f"Of each database {report.which} was restored.\n"
        "In 30 min: the size that fits, at the same mix of rows and indexes."
    )
    return Group(results, about, *_step_table(report), *found)
