#!.venv/bin/python
"""Deploy the platform's jobs with ``nomad job run``, in their order, and wait until each is well.

Every file of nomad/jobs runs as it is: once, or once a bundle, queue or database. What differs
between environments comes from one variables file (nomad/vars).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import nomad.api.exceptions
import requests
import typer

import nomad
from backup.registry import load_registry
from scripts.console import OperatorError, command, console, step
from scripts.local import REGISTRY, ROOT
from scripts.tools import NOMAD, ensure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NomadErrors = nomad.api.exceptions.BaseNomadException
JOBS = ROOT / "nomad/jobs"


@dataclass(frozen=True)
class Deployment:
    """One ``nomad job run``: the file, the job's id and the variables of its own."""

    file: Path
    id: str
    variables: dict[str, str] = field(default_factory=dict)


def job(name: str, suffix: str = "", **variables: str) -> Deployment:
    """Return the deployment of nomad/jobs/NAME.nomad.hcl; ``suffix`` is what its id ends with."""
    return Deployment(JOBS / f"{name}.nomad.hcl", name + suffix, variables)


def platform() -> Iterator[Deployment]:
    """Yield all jobs of the platform, in the order in which they are run."""
    yield job("redis")
    yield job("dag-mirror")
    yield job("airflow-migrate")
    yield job("airflow-logs")
    yield job("airflow-webserver")
    yield job("airflow-scheduler")
    for bundle in ("pipelines", "analysts"):
        yield job("airflow-dag-processor", f"-{bundle}", bundle=bundle)
    yield job("airflow-triggerer")
    for queue in ("ingest", "analysts"):
        yield job("airflow-worker", f"-{queue}", queue=queue)
    yield job("dag-sync")
    registry = load_registry(REGISTRY)
    for entry in registry.entries:
        if entry.vault_path:
            yield job(
                "backup",
                f"-{entry.name}",
                database=entry.name,
                database_path=entry.vault_path,
                backup_schedule=entry.schedule,
            )
        else:
            yield Deployment(
                JOBS / "backup-snapshot.nomad.hcl",
                f"backup-{entry.name}",
                {"snapshot": entry.name, "backup_schedule": entry.schedule},
            )
    servers = {server.name: server.vault_path for server in registry.server}
    yield job("backup-coverage", servers=json.dumps(servers))
    yield job("backup-monthly")
    yield job("restore-drill")
    yield job("restore-drill", "-now", drill_start="dispatch")


def stand_ins() -> list[Deployment]:
    """Return the jobs that stand in, on one machine, for what a real cluster already has."""
    folder = ROOT / "nomad/local"
    return [
        Deployment(folder / f"{name}.nomad.hcl", name)
        for name in ("local-postgres", "local-b2", "local-git")
    ]


def run(
    deployment: Deployment, variable_files: Sequence[Path], environment: dict[str, str]
) -> None:
    """Hand ``deployment`` to Nomad without waiting; an unchanged job stays as it is.

    Raises :class:`OperatorError` with Nomad's words when it is refused.
    """
    variables = [f"-var={name}={value}" for name, value in deployment.variables.items()]
    files = [f"-var-file={path}" for path in variable_files]
    # One file of variables serves all jobs, so a job is given some that it does not declare;
    # a test holds that each variable of the file is declared by some job.
    done = subprocess.run(
        [str(ensure(NOMAD)), "job", "run", "-detach", "-hcl2-strict=false", *files, *variables,
         str(deployment.file)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        said = [line for line in said if "was set but was not found" not in line]
        raise OperatorError(
            f"Nomad refused {deployment.id}:\n" + "\n".join(said),
            f"Mend {deployment.file.relative_to(ROOT)} or its variables and deploy again.",
        )


@dataclass(frozen=True)
class Health:
    """How a job is: ``state`` is what Nomad calls it, ``well`` whether that is as it should be.

    ``failed``: it will not become well. ``deployed``: it is there, and no waiting makes its last
    launch another one.
    """

    id: str
    state: str
    well: bool
    failed: bool = False
    deployed: bool = False


def health(client: nomad.Nomad, job_id: str) -> Health:
    """Ask Nomad how a job is; a job that never ran or was stopped is not well."""
    try:
        found = client.job.get_job(job_id)
    except nomad.api.exceptions.URLNotFoundNomadException:
        return Health(job_id, "absent", well=False)
    if found["Stop"]:
        return Health(job_id, "stopped", well=False)
    if found.get("Periodic") or found.get("ParameterizedJob"):
        return _launched_health(client, job_id, found)
    allocations = [
        each
        for each in client.job.get_allocations(job_id)
        if each["JobVersion"] == found["Version"]
    ]
    if found["Type"] == "batch":
        return _batch_health(job_id, {each["ClientStatus"] for each in allocations})
    deployment = client.job.get_deployment(job_id) or {}
    if deployment.get("Status") == "failed" and deployment["JobVersion"] == found["Version"]:
        return Health(job_id, "not deployed", well=False, failed=True)
    running = [each for each in allocations if each["ClientStatus"] == "running"]
    if found["Type"] == "system":  # one a node that fits, so the nodes say how many are wanted
        wanted = max(1, sum(each["DesiredStatus"] == "run" for each in allocations))
    else:
        wanted = sum(group["Count"] for group in found["TaskGroups"])
    well = [each for each in running if _checks_pass(client, each)]
    return Health(job_id, f"{len(well)}/{wanted} healthy", well=len(well) == wanted)


def _launched_health(client: nomad.Nomad, job_id: str, found: dict[str, Any]) -> Health:
    """Judge by the newest launch that ended; a job that has none yet is well.

    So is one that waits to be dispatched: how that ends is for whoever does it.
    """
    if not found.get("Periodic"):
        return Health(job_id, "on demand", well=True)
    launches = client.jobs.get_jobs(prefix=f"{job_id}/periodic-")
    ended = [each for each in launches if each["Status"] == "dead"]
    if ended:
        newest = max(ended, key=lambda each: int(each["ID"].rpartition("-")[2]))
        failed = [
            task
            for each in client.job.get_allocations(newest["ID"])
            for task, state in (each["TaskStates"] or {}).items()
            # The judge fails when it says no, which is the analysts' to mend.
            if state["Failed"] and task != "judge"
        ]
        if failed:
            told = f"last launch failed in {', '.join(failed)}"
            return Health(job_id, told, well=False, deployed=True)
    return Health(job_id, f"periodic {found['Periodic']['Specs'][0]}", well=True)


def _batch_health(job_id: str, states: set[str]) -> Health:
    if "complete" in states:
        return Health(job_id, "complete", well=True)
    failed = bool(states) and not states & {"pending", "running"}
    return Health(job_id, "failed" if failed else "running", well=False, failed=failed)


def _checks_pass(client: nomad.Nomad, allocation: dict[str, object]) -> bool:
    answer = client.client.allocation.request(str(allocation["ID"]), "checks", method="get").json()
    return all(check["Status"] == "success" for check in (answer or {}).values())


def wait(client: nomad.Nomad, job_ids: Sequence[str], *, timeout: float = 600) -> None:
    """Wait until every job is well, at most ``timeout`` seconds.

    Of a periodic one it is enough that it is there: how its last launch ended is for `make status`.
    Raises :class:`OperatorError` that names those that are not.
    """
    deadline = time.monotonic() + timeout
    waiting = list(job_ids)
    while waiting:
        try:
            states = [health(client, job_id) for job_id in waiting]
        except (NomadErrors, requests.RequestException) as error:
            raise OperatorError(
                f"Nomad did not say how its jobs are: {error}",
                "Check NOMAD_ADDR and the rights of NOMAD_TOKEN, and deploy again.",
            ) from None
        states = [state for state in states if not (state.well or state.deployed)]
        waiting = [state.id for state in states]
        failed = [state for state in states if state.failed]
        if failed or time.monotonic() > deadline:
            what = ", ".join(f"{state.id} is {state.state}" for state in states)
            raise OperatorError(
                f"not every job is well after {timeout:.0f} s: {what}",
                f"Ask Nomad why: nomad job status {waiting[0]}",
            )
        if waiting:
            time.sleep(1)


app = typer.Typer(add_completion=False, help=__doc__)


@app.command(epilog="Exit codes: 0 every job is well, 1 one is not, 2 wrong use.")
def main(
    variables: Annotated[
        list[Path],
        typer.Option("--var-file", help="nomad/vars/production.hcl, and a file of image tags."),
    ],
    only: Annotated[
        list[str] | None, typer.Argument(help="Job ids; all of the platform if none is named.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the jobs.")] = 900,
) -> None:
    """Deploy with the environment's NOMAD_ADDR and NOMAD_TOKEN (and NOMAD_CACERT for TLS)."""

    def work() -> None:
        client = nomad.Nomad(
            address=os.environ.get("NOMAD_ADDR", "http://127.0.0.1:4646"),
            token=os.environ.get("NOMAD_TOKEN"),
            verify=os.environ.get("NOMAD_CACERT") or True,
            timeout=30,
        )
        wanted = [each for each in platform() if not only or each.id in only]
        if only and (unknown := set(only) - {each.id for each in wanted}):
            raise OperatorError(
                f"there is no job {', '.join(sorted(unknown))}",
                "The jobs are: " + ", ".join(each.id for each in platform()),
            )
        for deployment in wanted:
            run(deployment, [path.resolve() for path in variables], {})
            console.print(f"[green]✓[/] {deployment.id}")
        with step("wait until every job is well"):
            wait(client, [each.id for each in wanted], timeout=timeout)

    command(work)


if __name__ == "__main__":
    app()
