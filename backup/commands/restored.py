"""What a look before a restore, and a restore, print."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from backup.commands.app import out
from frame.failure import ExitCode
from frame.output import print_json, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup.bucket.catalogue import Chosen
    from backup.restoration.finding import Finding
    from backup.restoration.steps import Restored

IN_PART = 3  # the exit code of a restore whose missing objects are listed
_STYLES = {"good": None, "note": "yellow", "blocks": "bold red"}


def show_findings(chosen: Chosen, findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print what a restore would meet and return the exit code of a dry run."""
    blocked = any(finding.state == "blocks" for finding in findings)
    if as_json:
        about = _about(chosen)
        print_json({**about, "findings": [asdict(finding) for finding in findings]})
    else:
        rows = table("what", "state", "found")
        for finding in findings:
            said = f"{finding.said}. {finding.hint}" if finding.hint else finding.said
            style = _STYLES[finding.state]
            rows.add_row(finding.about, finding.state, escape(said), style=style)
        out.print(rows)
    return ExitCode.FAILED if blocked else ExitCode.DONE


def show_restored(chosen: Chosen, restored: Restored, into: str, *, as_json: bool) -> int:
    """Print what came of a restore and return its exit code."""
    if as_json:
        print_json({**_about(chosen), "into": into, **asdict(restored)})
    else:
        _tell(chosen, restored, into)
    if restored.unexplained:
        return ExitCode.FAILED
    return IN_PART if restored.failed or restored.differences else ExitCode.DONE


def show_file(chosen: Chosen, into: str, *, as_json: bool) -> None:
    """Print that the plain dump is in a file."""
    if as_json:
        print_json({**_about(chosen), "into": into})
    else:
        typer.echo(f"restored {chosen.backup.id} of {chosen.backup.database} into {into}")


def _about(chosen: Chosen) -> dict[str, Any]:
    passed_over = [asdict(passed) for passed in chosen.passed_over]
    return {
        "database": chosen.backup.database,
        "id": chosen.backup.id,
        "passed_over": passed_over,
    }


def _tell(chosen: Chosen, restored: Restored, into: str) -> None:
    steps = restored.timings
    but = f", but for {len(restored.failed)} objects" if restored.failed else ""
    typer.echo(
        f"restored {chosen.backup.id} of {chosen.backup.database} into {into}{but}, "
        f"in {steps.total:.1f} s: {steps}"
    )
    if restored.failed:
        failed = table("not loaded", "why")
        for each in restored.failed:
            failed.add_row(escape(each.described), escape(each.error))
        out.print(failed)
    for left in restored.left_out:
        out.print(f"left out: {left.described}: {left.why}", style="yellow", markup=False)
    for note in restored.notes:
        out.print(f"not as it was: {note}", style="yellow", markup=False)
    for difference in restored.differences:
        out.print(f"different: {difference}", style="red", markup=False)
