"""What a drill found, as JSON for machines and as a table for people."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict
from rich.table import Table

from backup import __version__

KILO = 1000
SHOWN = 3  # differences shown a database; the JSON has all


class DrillResult(BaseModel):
    """One database: ``equal`` if restored with every table's rows, else why not."""

    model_config = ConfigDict(frozen=True)

    database: str
    verdict: Literal["equal", "different", "failed"]
    backup_id: str | None = None
    backup_bytes: int | None = None
    backup_age_seconds: float | None = None
    restore_seconds: float | None = None
    tables_compared: int = 0
    rows_compared: int = 0
    findings: tuple[str, ...] = ()


class DrillReport(BaseModel):
    """One drill of one or more databases."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    started: AwareDatetime
    finished: AwareDatetime
    databases: tuple[DrillResult, ...]
    program_version: str = __version__

    @property
    def passed(self) -> bool:
        """Whether every database was restored equal to its source."""
        return all(result.verdict == "equal" for result in self.databases)


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


def drill_table(report: DrillReport) -> Table:
    """Return the report as a table, a row a database."""
    headings = ("database", "backup", "size", "age", "restore", "tables", "verdict")
    table = Table(*headings, title=f"Restore drill of {report.started:%Y-%m-%d %H:%M} UTC")
    for result in report.databases:
        findings = "".join(f"\n{finding}" for finding in result.findings[:SHOWN])
        table.add_row(
            result.database,
            result.backup_id or "-",
            human_bytes(result.backup_bytes),
            human_age(result.backup_age_seconds),
            "-" if result.restore_seconds is None else f"{result.restore_seconds:.1f} s",
            str(result.tables_compared),
            f"{result.verdict}{findings}",
            style=None if result.verdict == "equal" else "bold red",
        )
    return table
