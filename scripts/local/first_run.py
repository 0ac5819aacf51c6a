"""The platform's main job, done once on real input: DAGs delivered and run, backups made, a drill.

Each step looks first whether its result is there, so a second run finds it and changes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import requests
from rich.markup import escape

from backup.bucket import lifecycle
from backup.bucket.store import open_store
from backup.deadline import time_limit
from backup.settings import B2_KEY, Settings
from frame.failure import Failure
from frame.output import screen, table
from frame.progress import step
from scripts import delivered, launches, proofs, status
from scripts.health.observing import health
from scripts.launches import wait_until
from scripts.local.backblaze import key_file
from scripts.local.credentials import GIT_PORT, ssh_key
from scripts.local.home import ADDRESS, PORTS, VARIABLES, kept
from scripts.repository import ROOT
from scripts.variables import read_variables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.access import Access
    from scripts.status import Status

console = screen(stderr=True)

ENDED = {"success", "failed"}
TEMPLATE = ROOT / "airflow/analysts-template"
SETTLES = 60  # seconds: what was started is looked at every ten
# What works on what the pipelines published, and the one load that needs nobody's connection.
AFTERWARDS = ("models", "school_report", "load_lists")


def main_job(platform: Access) -> None:
    """Deliver, ingest, back up and drill, whatever of it has not been done."""
    with Checkout() as checkout:
        push_template(platform, checkout)
        # An older repository of theirs may not have all that the template has by now.
        afterwards = [each for each in AFTERWARDS if (checkout.tree / f"dags/{each}.py").exists()]
    run_dags(platform, afterwards)
    keep_backups(platform)
    back_up(platform)
    hold_drill(platform)
    look_back(platform)
    deliver_dashboards(platform)


class Checkout(TemporaryDirectory[str]):
    """A clone of the analysts' remote in a directory of its own, with their SSH key."""

    def __enter__(self) -> Checkout:  # type: ignore[override]
        """Clone; an empty remote gives an empty checkout."""
        super().__enter__()
        self.home = Path(self.name)
        key = self.home / "key"
        key.touch(mode=0o600)
        key.write_text(ssh_key("analysts").private)
        (self.home / "known_hosts").write_text(f"[{ADDRESS}]:{GIT_PORT} {ssh_key('host').public}\n")
        self.tree = self.home / "analysts"
        remote = str(read_variables(VARIABLES)["analysts_remote"])
        self.git("clone", "--quiet", remote, str(self.tree), cwd=self.home)
        return self

    def git(self, *words: str, cwd: Path | None = None) -> str:
        """Run git as the analyst; raises :class:`Failure` with its words when it fails."""
        ssh = f"ssh -i {self.home}/key -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=10"
        done = subprocess.run(
            ["git", *words],
            cwd=cwd or self.tree,
            env={
                **os.environ,
                "GIT_SSH_COMMAND": f"{ssh} -o UserKnownHostsFile={self.home}/known_hosts",
                "GIT_AUTHOR_NAME": "An analyst",
                "GIT_AUTHOR_EMAIL": "analyst@localhost",
                "GIT_COMMITTER_NAME": "An analyst",
                "GIT_COMMITTER_EMAIL": "analyst@localhost",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise Failure(
                f"git {words[0]} of the analysts' repository failed: {done.stderr.strip()}",
                "Look at the job local-git: nomad alloc logs -job local-git",
            )
        return done.stdout.strip()

    def commit_and_push(self, message: str) -> str:
        """Commit everything in the tree, push it as ``main`` and return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
        return self.git("rev-parse", "HEAD")


def push_template(platform: Access, checkout: Checkout) -> None:
    """Push the template into an empty remote and wait until the gate has judged what is there.

    Raises :class:`Failure` if it refuses the template; what analysts pushed since then is
    theirs to mend, so a refusal of that is only told.
    """
    empty = not checkout.git("ls-remote", "--heads", "origin", "main")
    if empty:
        with step("push the analysts' template"):
            caches = shutil.ignore_patterns("__pycache__", ".*_cache")
            shutil.copytree(TEMPLATE, checkout.tree, dirs_exist_ok=True, ignore=caches)
            commit = checkout.commit_and_push("Start from the template")
    else:
        commit = checkout.git("rev-parse", "origin/main")
    # After an upgrade what is live may be of the older release, until the gate has looked again.
    if live(platform) == commit and not platform.airflow("importErrors")["total_entries"]:
        return
    with step("let the DAG gate judge it"):
        child = launches.force(platform, "dag-sync")
        launches.finish(platform, child, timeout=240)
        wait_until(lambda: _published(platform, child), "the task publish to end", 90)
    if live(platform) != commit:
        what = f"the gate did not let {commit[:12]} through"
        findings = "Its findings are in the log of dag-sync's last launch, task publish."
        if empty:
            raise Failure(what, findings)
        console.print(f"[yellow]![/] {what}. {findings}")


def _published(platform: Access, child: str) -> bool:
    allocations = platform.nomad.job.get_allocations(child)
    return all(each["TaskStates"]["publish"]["State"] == "dead" for each in allocations)


def live(platform: Access) -> str:
    """Return the commit of the analysts that is live."""
    return delivered.live(platform, "analysts")[0]


def run_dags(platform: Access, afterwards: Sequence[str] = AFTERWARDS) -> None:
    """Wait for the template's DAGs and run each that never succeeded, pipelines first."""
    pipelines = [f"ingest_{file.stem}" for file in sorted((TEMPLATE / "pipelines").glob("*.yaml"))]
    wanted = [*pipelines, *afterwards]
    missing = [dag_id for dag_id in wanted if not is_parsed(platform, dag_id)]
    if missing:
        with step(f"wait until Airflow has parsed {', '.join(missing)}"):
            wait_until(lambda: all(is_parsed(platform, each) for each in missing), "them", 240)
    first_runs(platform, [dag_id for dag_id in pipelines if not _succeeded(platform, dag_id)])
    # What a pipeline has published may have started one of these already.
    wait_until(lambda: not any(is_at_work(platform, each) for each in afterwards), "them", 600)
    run(platform, [dag_id for dag_id in afterwards if not _succeeded(platform, dag_id)])


def first_runs(platform: Access, dag_ids: Sequence[str]) -> None:
    """Wait for the run that a pipeline starts with when Airflow first sees it; mend what failed."""
    if not dag_ids:
        return
    with step(f"run {', '.join(dag_ids)}"):
        wait_until(lambda: all(_runs(platform, each) for each in dag_ids), "their first runs", 60)
        wait_until(lambda: not any(is_at_work(platform, each) for each in dag_ids), "them", 900)
    run(platform, [dag_id for dag_id in dag_ids if not _succeeded(platform, dag_id)])


def is_parsed(platform: Access, dag_id: str) -> bool:
    """Tell whether Airflow knows the DAG, from a file that it parsed lately."""
    try:
        found = platform.airflow(f"dags/{dag_id}")
    except requests.HTTPError as error:
        if error.response.status_code == requests.codes.not_found:
            return False
        raise
    return not found["is_stale"]


def is_at_work(platform: Access, dag_id: str) -> bool:
    """Tell whether a run of the DAG has not ended."""
    return bool(_runs(platform, dag_id, "queued", "running"))


def _succeeded(platform: Access, dag_id: str) -> bool:
    return bool(_runs(platform, dag_id, "success"))


def _runs(platform: Access, dag_id: str, *states: str) -> int:
    """Return how many runs a DAG has, in one of ``states`` if some are named."""
    wanted = {"state": list(states), "limit": 1}
    return int(platform.airflow(f"dags/{dag_id}/dagRuns", params=wanted)["total_entries"])


def run(platform: Access, dag_ids: Sequence[str], *, timeout: float = 900) -> None:
    """Trigger the DAGs together and wait for success; ``timeout`` is in seconds."""
    if not dag_ids:
        return
    with step(f"run {', '.join(dag_ids)}"):
        started = {
            dag_id: platform.airflow(
                f"dags/{dag_id}/dagRuns", method="POST", json={"logical_date": None}
            )["dag_run_id"]
            for dag_id in dag_ids
        }
        paths = [f"dags/{dag_id}/dagRuns/{run_id}" for dag_id, run_id in started.items()]
        wait_until(
            lambda: all(platform.airflow(path)["state"] in ENDED for path in paths),
            "the runs to end",
            timeout,
        )
        for path in paths:
            if platform.airflow(path)["state"] != "success":
                raise Failure(
                    f"the run {path} failed",
                    f"Read its log in the UI at {platform.values['AIRFLOW_URL']}.",
                )


def deliver_dashboards(platform: Access) -> None:
    """Bring the analysts' dashboards into Superset, unless that was done and well."""
    job_id = "superset-dashboards"
    if any(launches.children(platform, job_id)) and health(platform.nomad, job_id).well:
        return
    try:
        with step("bring the dashboards into Superset"):
            launches.finish(platform, launches.force(platform, job_id), timeout=300)
    except Failure as failure:  # such as one that somebody changed by hand: theirs to mend
        console.print(f"[yellow]![/] {failure.message}. {failure.hint}")


def keep_backups(platform: Access) -> None:
    """Put the bucket's lifecycle rules in place, which is done with a key of the whole account."""
    with TemporaryDirectory() as folder:
        (Path(folder) / B2_KEY).write_text(json.dumps(kept("b2-master")))
        settings = Settings.from_environment({**platform.values, "BACKUP_SECRETS_DIR": folder})
        with time_limit(proofs.B2_SECONDS), open_store(settings, settings.b2_key()) as store:
            lifecycle.apply(store, settings.prefix)


def back_up(platform: Access) -> None:
    """Force the backup job of all that has no fresh backup, and wait for all."""
    stale = [row.name for row in proofs.backups(platform) if not row.well]
    if not stale:
        return
    with step(f"back up {', '.join(stale)}"):
        children = [launches.force(platform, f"backup-{name}") for name in stale]
        for child in children:
            launches.finish(platform, child, timeout=300)


def hold_drill(platform: Access) -> None:
    """Force the restore drill unless the newest one proved every database."""
    if all(row.well for row in proofs.drill(platform)):
        return
    with step("hold a restore drill"):
        launches.finish(platform, launches.force(platform, "restore-drill"), timeout=600)


def look_back(platform: Access) -> None:
    """Have this month's copies made and the coverage checked, unless that was done and well."""
    wanted = [
        job_id
        for job_id in ("backup-monthly", "backup-coverage")
        if not any(launches.children(platform, job_id)) or not health(platform.nomad, job_id).well
    ]
    if wanted:
        with step("copy the month's backups and check what is covered"):
            for child in [launches.force(platform, job_id) for job_id in wanted]:
                launches.finish(platform, child, timeout=300)


def summary(platform: Access) -> bool:
    """Print how everything is and how to log in; return whether it is all well."""
    found = _settled(platform)
    screen().print(status.picture(found))
    values = platform.values
    shown = table("where", "address", "user", "secret")
    for row in (
        ("Airflow", values["AIRFLOW_URL"], "admin", "airflow-admin"),
        ("Superset", f"http://{ADDRESS}:{PORTS['Superset'][0]}", "admin", "superset-admin"),
        ("Nomad", values["NOMAD_ADDR"], "", "nomad-platform"),
        ("Vault", values["VAULT_ADDR"], "", "vault"),
        ("PostgreSQL", f"{ADDRESS}:{PORTS['PostgreSQL'][0]}", "postgres", "postgres"),
        ("B2", values["BACKUP_B2_REALM"], "", key_file("drill")),
        ("git", str(read_variables(VARIABLES)["analysts_remote"]), "", "ssh-analysts"),
    ):
        shown.add_row(*row)
    console.print(shown)
    console.print("Show a secret: scripts/show.py airflow-admin")
    console.print(f"[dim]{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC[/]")
    for section, unwell in found.unwell:
        reason = f": {unwell.details['reason']}" if "reason" in unwell.details else ""
        said = escape(f"{section} {unwell.name} {unwell.state}{reason}")
        console.print(f"{status.MARKS[False]} {said}", highlight=False)
    return found.well


def _settled(platform: Access) -> Status:
    """Return how everything is once it is well, or as it is after ``SETTLES`` seconds.

    A busy machine misses a check of a service that has just started.
    """
    deadline = time.monotonic() + SETTLES
    while not (found := status.gather(platform)).well and time.monotonic() < deadline:
        time.sleep(5)
    return found
