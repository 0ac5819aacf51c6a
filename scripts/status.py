#!.venv/bin/python
"""Show how everything is: jobs, Airflow, DAGs, marts, the gate, backups, drills, secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import requests
import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape

from backup.bucket.catalogue import Catalogue, open_catalogue
from backup.deadline import TimeOver, time_limit
from backup.proof.coverage import DRILLED, FRESH
from backup.proof.kept import LOOKED_AT, kept_reports
from backup.proof.report import DrillReport, human_age, human_bytes, last_results
from backup.registry import load_registry
from frame.application import Application, definitions, epilog, exit_codes
from frame.failure import ExitCode, Failure
from frame.output import AsJson, print_json, screen, table
from scripts import access
from scripts.health.observing import health
from scripts.jobs import platform as platform_jobs
from scripts.jobs import runs as platform_runs
from scripts.limits import limits
from scripts.own_secrets import secrets
from scripts.row import Row
from scripts.schedules import overdue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rich.console import RenderableType

    from scripts.access import Access

# A migration, and the service that starts after it.
MIGRATIONS = {"airflow-migrate": "airflow-webserver", "superset-migrate": "superset"}
MODELS = "models"  # the DAG of the template
PUBLISHED = timedelta(hours=26)  # as young as marts are: they are built every morning
B2_SECONDS = 10  # for one table
QUEUED = timedelta(minutes=10)  # longer than the workers of a school need to be free
SYNCED = timedelta(minutes=10)  # dag-sync looks every five
SYNC = "dag-sync"
INGEST = "ingest_"  # what the id of a pipeline's DAG begins with
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
PAGE = 100  # DAGs an answer of Airflow's API; it gives no more
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
    for name, service in MIGRATIONS.items():
        if states[name].state == "absent" and states[service].well:
            # Nomad forgets a batch job some days after it ended. The service started after it.
            states[name] = replace(states[name], state="complete, collected", well=True)
    return [
        Row(state.id, state.state, state.well, {"reason": state.reason} if state.reason else {})
        for state in states.values()
    ]


def airflow(platform: Access) -> list[Row]:
    """Return Airflow's own parts, by the body of an answer that is always 200, and its queue."""
    found = platform.airflow("monitor/health")
    rows = [
        Row(name, str(part["status"]), well=part["status"] == "healthy")
        for name, part in found.items()
    ]
    waiting = platform.airflow(
        "dags/~/dagRuns/~/taskInstances",
        params={"state": "queued", "limit": PAGE, "order_by": "run_after"},
    )
    queued = [each["queued_when"] for each in waiting["task_instances"] if each["queued_when"]]
    if queued:
        since = min(map(datetime.fromisoformat, queued))
        age = (datetime.now(UTC) - since).total_seconds()
        state = f"{waiting['total_entries']}, the first for {human_age(age)}"
        rows.append(Row("queued tasks", state, age < QUEUED.total_seconds(), {"age_seconds": age}))
    return rows


def pipelines(platform: Access) -> list[Row]:
    """Return each DAG with the state and the rows of its newest run."""
    rows = [_of_dag(platform, dag) for dag in _dags(platform)]
    errors = platform.airflow("importErrors", params={"limit": 100})["import_errors"]
    return rows + [Row(error["filename"], "does not import", well=False) for error in errors]


def _of_dag(platform: Access, dag: Mapping[str, Any]) -> Row:
    dag_id, schedule = dag["dag_id"], dag["timetable_summary"]
    if dag["is_paused"]:
        # What analysts pause of their own is theirs; a pipeline's tables grow old.
        return Row(dag_id, "paused", well=not dag_id.startswith(INGEST))
    newest = {"limit": 1, "order_by": "-run_after"}
    runs = platform.airflow(f"dags/{dag_id}/dagRuns", params=newest)["dag_runs"]
    if not runs:
        # One without a schedule runs when somebody wants it to.
        return Row(dag_id, "never ran", well=schedule is None)
    run, state = runs[0], runs[0]["state"]
    details = {"run": run["dag_run_id"], "ended": run["end_date"]}
    if late := overdue(schedule, run, datetime.now(UTC)):
        return Row(dag_id, late, well=False, details=details)
    if state == "success" and dag_id.startswith(INGEST):
        details |= _rows_loaded(platform, dag_id, run["dag_run_id"])
    return Row(dag_id, state, state in {"success", "running", "queued"}, details)


def marts(platform: Access) -> list[Row]:
    """Return how old what the dashboards show is: when the models last ran well.

    Failed models keep the marts that were there, so the newest run that ended well counts.
    """
    try:
        there = not platform.airflow(f"dags/{MODELS}")["is_stale"]
    except requests.HTTPError as error:
        if error.response.status_code != requests.codes.not_found:
            raise
        there = False
    if not there:
        return [Row(MODELS, "the analysts have none", well=True)]
    newest = {"state": "success", "limit": 1, "order_by": "-end_date"}
    runs = platform.airflow(f"dags/{MODELS}/dagRuns", params=newest)["dag_runs"]
    if not runs:
        return [Row(MODELS, "never published", well=False)]
    age = (datetime.now(UTC) - datetime.fromisoformat(runs[0]["end_date"])).total_seconds()
    well = age < PUBLISHED.total_seconds()
    return [Row(MODELS, f"published {human_age(age)} ago", well, {"age_seconds": age})]


def _dags(platform: Access) -> Iterator[dict[str, Any]]:
    seen = 0
    while True:
        page = {"limit": PAGE, "offset": seen, "order_by": "dag_id", "exclude_stale": True}
        found = platform.airflow("dags", params=page)
        yield from found["dags"]
        seen += len(found["dags"])
        if not found["dags"] or seen >= found["total_entries"]:
            return


def _rows_loaded(platform: Access, dag_id: str, run_id: str) -> dict[str, int]:
    path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/load/xcomEntries/return_value"
    try:
        value = platform.airflow(path, params={"deserialize": True})["value"]
    except requests.HTTPError as error:
        if error.response.status_code == requests.codes.not_found:
            return {}  # a run of an older release
        raise
    summary = value if isinstance(value, dict) else json.loads(value)
    counts = summary.get("counts") or {"rows": sum(map(int, summary["rows"].values()))}
    return {"rows": int(counts["rows"])}


def live(platform: Access, bundle: str) -> tuple[str, str]:
    """Return the commit that ``bundle`` has live, and git's words; "" for what there is not."""
    url = f"{platform.values['DAG_MIRROR_URL']}/{bundle}.git"
    answer = subprocess.run(
        ["git", "ls-remote", url, "refs/heads/live"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return answer.stdout.split("\t")[0], answer.stderr.strip()


def delivery(platform: Access) -> list[Row]:
    """Return the commit that each bundle of the mirror has live, and when the gate last looked."""
    rows = [_synced(platform)]
    for bundle in ("pipelines", "analysts"):
        commit, said = live(platform, bundle)
        rows.append(Row(bundle, commit[:12] or said, well=bool(commit)))
    return rows


def _synced(platform: Access) -> Row:
    """Return the age of the newest launch of dag-sync that ended well, whatever its verdict."""
    launches = platform.nomad.jobs.get_jobs(prefix=f"{SYNC}/periodic-")
    ended = [
        each["SubmitTime"] / 1e9
        for each in launches
        if each["Status"] == "dead"
        and any(group["Complete"] for group in each["JobSummary"]["Summary"].values())
    ]
    if not ended:
        return Row(SYNC, "no sync is known that ended well", well=False)
    age = datetime.now(UTC).timestamp() - max(ended)
    state = f"last good sync {human_age(age)} ago"
    return Row(SYNC, state, age < SYNCED.total_seconds(), {"age_seconds": age})


@contextmanager
def bucket(platform: Access) -> Iterator[Catalogue]:
    """Yield the backups in the bucket. Raises Failure, also if B2 does not answer in time."""
    try:
        with time_limit(B2_SECONDS), open_catalogue(platform.backups) as catalogue:
            yield catalogue
    except TimeOver as over:
        raise Failure(str(over), "Look whether B2 is well, and at the way to it.") from over


def backups(platform: Access) -> list[Row]:
    """Return the newest backup of all that is in the registry, with size and age."""
    now = datetime.now(UTC)
    settings = platform.backups
    with bucket(platform) as catalogue:
        entries = load_registry(settings.registry).entries
        backups = {entry.name: catalogue.backups(entry.name)[-1:] for entry in entries}
        newest = [each for found in backups.values() for each in found]
        opened = {
            backup.id: manifest
            for backup, manifest in zip(newest, catalogue.manifests(newest), strict=True)
        }
    rows = []
    for name, found in backups.items():
        if not found:
            rows.append(Row(name, "no backup", well=False))
            continue
        (backup,) = found
        manifest = opened[backup.id]
        age = backup.age_seconds(now)
        why = f": {manifest.message}" if isinstance(manifest, Failure) else ""
        rows.append(
            Row(
                name,
                f"{human_bytes(backup.size)}, {human_age(age)} old{why}",
                age < FRESH.total_seconds() and not why,
                {"id": backup.id, "bytes": backup.size, "age_seconds": age},
            )
        )
    return rows


def drill(platform: Access) -> list[Row]:
    """Return how the newest drill of all that is in the registry ended."""
    now = datetime.now(UTC)
    settings = platform.backups
    entries = load_registry(settings.registry).entries
    drilled = last_results(_reports(platform, LOOKED_AT), now)
    rows = []
    for entry in entries:
        if entry.name not in drilled:
            rows.append(Row(entry.name, "never drilled", well=False))
            continue
        when, result = drilled[entry.name]
        seconds = result.restore_seconds
        rows.append(
            Row(
                entry.name,
                result.verdict + (f", restored in {seconds:.1f} s" if seconds else ""),
                result.verdict == "equal" and now - when < DRILLED,
                result.model_dump(mode="json"),
            )
        )
    return rows


def newest_report(platform: Access) -> DrillReport | None:
    """Return the report of the last drill, ``None`` if there was none."""
    return next(iter(_reports(platform, 1)), None)


def _reports(platform: Access, count: int) -> list[DrillReport]:
    settings = platform.backups
    with bucket(platform) as catalogue:
        signers = catalogue.opener.signers
        return kept_reports(catalogue.store, settings.prefix, count, signers)


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
    with Live(console=screen(), auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while True:
            live.update(picture(gather(platform)), refresh=True)
            time.sleep(WATCH)


if __name__ == "__main__":
    app.run()
