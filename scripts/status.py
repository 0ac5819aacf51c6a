#!.venv/bin/python
"""Show how everything is: jobs, Airflow, DAGs, marts, the gate, backups, drills, secrets."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import requests
import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from frame.application import Application, definitions, epilog, exit_codes
from frame.failure import ExitCode, Failure
from frame.output import AsJson, print_json, screen, table
from scripts import access
from scripts.cluster import NotFound
from scripts.dags import airflow, marts, pipelines
from scripts.delivered import delivery
from scripts.health.observing import health
from scripts.jobs import platform as platform_jobs
from scripts.jobs import runs as platform_runs
from scripts.limits import limits
from scripts.own_secrets import secrets
from scripts.proofs import backups, drill
from scripts.row import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console, RenderableType

    from scripts.access import Access

# A migration, and the service that starts after it.
MIGRATIONS = {"airflow-migrate": "airflow-webserver", "superset-migrate": "superset"}
# Where the way out stands, by section.
PAGES = {
    "vault": "docs/runbook.md#restore-vault-or-nomad",
    "jobs": "docs/runbook.md#see-how-it-is",
    "airflow": "docs/runbook.md#see-how-it-is",
    "pipelines": "docs/runbook.md#pipelines-what-happened-and-again",
    "marts": "docs/runbook.md#pipelines-what-happened-and-again",
    "delivery": "docs/runbook.md#a-push-that-the-gate-refused",
    "backups": "docs/runbook.md#see-what-is-covered",
    "drill": "docs/runbook.md#hold-a-drill",
    "limits": "docs/runbook.md#what-comes-to-an-end",
    "secrets": "docs/runbook.md#a-secret-in-airflows-own-database",
}
WATCH = 5  # seconds between two looks
MARKS = {True: "[green]✓[/]", False: "[red]✗[/]"}


@dataclass(frozen=True)
class Status:
    """All rows, by section."""

    sections: dict[str, list[Row]]

    @property
    def well(self) -> bool:
        """Whether every row is well and no section is empty."""
        return all(rows and all(row.well for row in rows) for rows in self.sections.values())

    @property
    def unwell(self) -> list[tuple[str, Row]]:
        """The rows that are not well, each with its section."""
        return [(name, row) for name, rows in self.sections.items() for row in rows if not row.well]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``--json``."""
        sections = {name: [asdict(row) for row in rows] for name, rows in self.sections.items()}
        return {"well": self.well, **sections}


def gather(platform: Access) -> Status:
    """Ask every part; one that does not answer is a row that is not well, never an exception."""
    parts: dict[str, Callable[[Access], Iterable[Row]]] = {
        "vault": vault,
        "jobs": jobs,
        "airflow": airflow,
        "pipelines": pipelines,
        "marts": marts,
        "delivery": delivery,
        "backups": backups,
        "drill": drill,
        "limits": limits,
        "secrets": secrets,
    }
    found = {name: ask(part, platform) for name, part in parts.items()}
    return Status(
        {
            name: [row if row.well else replace(row, page=PAGES[name]) for row in rows]
            for name, rows in found.items()
        }
    )


def ask(part: Callable[[Access], Iterable[Row]], platform: Access) -> list[Row]:
    """Return the rows of ``part``, or one that says why it could not answer."""
    try:
        return list(part(platform))
    except Failure as failure:
        return [Row(part.__name__, f"no answer: {failure.message}", well=False)]
    except Exception as error:
        return [Row(part.__name__, f"no answer: {error}", well=False)]


def vault(platform: Access) -> list[Row]:
    """Return whether Vault is unsealed: without it nothing new starts and no task connects."""
    found = requests.get(
        f"{platform.values['VAULT_ADDR']}/v1/sys/seal-status",
        verify=os.environ.get("VAULT_CACERT") or True,
        timeout=10,
    ).json()
    return [Row("vault", "sealed" if found["sealed"] else "unsealed", well=not found["sealed"])]


def jobs(platform: Access) -> list[Row]:
    """Return every job of the platform and what it may launch, and on one machine its stand-ins."""
    wanted = [*platform.stand_ins, *(each.id for each in platform_jobs())]
    states = {job_id: health(platform.nomad, job_id) for job_id in wanted}
    states |= {each.id: health(platform.runs, each.id) for each in platform_runs()}
    for job_id in _without_analysts_python(platform, wanted):
        if states[job_id].state == "absent":
            del states[job_id]
    for name, service in MIGRATIONS.items():
        if states[name].state == "absent" and states[service].well:
            # Nomad forgets a batch job some days after it ended. The service started after it.
            states[name] = replace(states[name], state="complete, collected", well=True)
    return [
        Row(state.id, state.state, state.well, {"reason": state.reason} if state.reason else {})
        for state in states.values()
    ]


def _without_analysts_python(platform: Access, job_ids: Iterable[str]) -> set[str]:
    """Return the jobs that nobody misses where analysts' Python does not run.

    That is so where the triggerer was deployed without the analysts' group.
    """
    try:
        groups = platform.nomad.job.get_job("airflow-triggerer")["TaskGroups"]
    except NotFound:
        return set()
    if any(group["Name"] == "triggerer-analysts" for group in groups):
        return set()
    others = {each.id for each in platform_jobs(analysts_python=False)}
    return {*job_ids} - others - {*platform.stand_ins}


def picture(status: Status) -> Group:
    """Return one table a section, and where the way out of each fault stands."""
    tables: list[RenderableType] = []
    for section, rows in status.sections.items():
        shown = table("", section, "state")
        shown.columns[1].min_width = 34
        if any("rows" in row.details for row in rows):
            shown.add_column("rows", justify="right")
        for row in rows:
            loaded = [f"{row.details['rows']:,}"] if "rows" in row.details else []
            shown.add_row(MARKS[row.well], escape(row.name), escape(row.state), *loaded)
        tables += [shown, ""]
    tables += [f"{MARKS[False]} {escape(row.name)}: see {row.page}" for _, row in status.unwell]
    return Group(*tables)


def fitting(status: Status, console: Console) -> RenderableType:
    """Return the picture if ``console`` is high enough for it, and otherwise what matters most.

    That is a line for each thing that is not well, then one for each section.
    """
    whole, height = picture(status), console.size.height
    if len(console.render_lines(whole)) <= height:
        return whole
    lines = [
        f"{MARKS[False]} {name}: {escape(f'{row.name}: {row.state}')}"
        for name, row in status.unwell
    ]
    for name, rows in status.sections.items():
        well = sum(row.well for row in rows)
        lines.append(f"{MARKS[well == len(rows) > 0]} {name}: {well} of {len(rows)} are well")
    if len(lines) > height:
        left = len(lines) - height + 1
        lines[-left:] = [f"and {left} lines more, on a higher terminal or by `make status`"]
    return Group(*map(_one_line, lines))


def _one_line(markup: str) -> Text:
    line = Text.from_markup(" ".join(markup.split()), overflow="ellipsis")
    line.no_wrap = True
    return line


app = Application("scripts/status.py")


@app.command(
    epilog=epilog(
        definitions("Environment, for another platform than this machine's", access.VARIABLES),
        exit_codes({0: "everything is well", 1: "something is not"}),
    )
)
def main(
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every few seconds until it is stopped.")
    ] = False,
) -> None:
    """Show how everything is.

    It asks this machine's platform, or the one that NOMAD_ADDR names.
    """
    platform = access.from_environment()
    if watch:
        _watch(platform)
    status = gather(platform)
    if as_json:
        print_json(status.to_json())
    else:
        screen().print(picture(status))
    if not status.well:
        raise typer.Exit(ExitCode.FAILED)


def _watch(platform: Access) -> NoReturn:
    console = screen()
    show = fitting if sys.stdout.isatty() else lambda status, _console: picture(status)
    with Live(console=console, auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while True:
            live.update(show(gather(platform), console), refresh=True)
            time.sleep(WATCH)


if __name__ == "__main__":
    app.run()
