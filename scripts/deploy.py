#!.venv/bin/python
"""Deploy the platform's jobs with ``nomad job run``, in their order, and wait until each is well.

Every file of nomad/jobs runs as it is: once, or once a bundle, queue or database. What differs
between environments comes from one variables file (nomad/vars).
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import requests
import typer

from frame.application import Application, exit_codes
from frame.failure import Failure
from frame.output import screen
from frame.progress import step
from scripts.cluster import NomadError, connect
from scripts.health import health
from scripts.jobs import platform
from scripts.repository import ROOT
from scripts.tools import NOMAD, ensure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.cluster import Nomad
    from scripts.jobs import Deployment


console = screen(stderr=True)


def run(
    deployment: Deployment, variable_files: Sequence[Path], environment: dict[str, str]
) -> None:
    """Hand ``deployment`` to Nomad without waiting; an unchanged job stays as it is.

    Raises :class:`Failure` with Nomad's words when it is refused.
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
        raise Failure(
            f"Nomad refused {deployment.id}:\n" + "\n".join(said),
            f"Mend {deployment.file.relative_to(ROOT)} or its variables and deploy again.",
        )


def wait(client: Nomad, job_ids: Sequence[str], *, timeout: float = 600) -> None:
    """Wait until every job is well, at most ``timeout`` seconds.

    Of a periodic one it is enough that it is there: how its last launch ended is for `make status`.
    Raises :class:`Failure` that names those that are not.
    """
    deadline = time.monotonic() + timeout
    waiting = list(job_ids)
    while waiting:
        try:
            states = [health(client, job_id) for job_id in waiting]
        except (NomadError, requests.RequestException) as error:
            raise Failure(
                f"Nomad did not say how its jobs are: {error}",
                "Check NOMAD_ADDR and the rights of NOMAD_TOKEN, and deploy again.",
            ) from None
        states = [state for state in states if not (state.well or state.deployed)]
        waiting = [state.id for state in states]
        failed = [state for state in states if state.failed]
        if failed or time.monotonic() > deadline:
            what = ", ".join(f"{state.id} is {state.state}" for state in states)
            raise Failure(
                f"not every job is well after {timeout:.0f} s: {what}",
                f"Ask Nomad why: nomad job status {waiting[0]}",
            )
        if waiting:
            time.sleep(1)


app = Application("scripts/deploy.py")


@app.command(epilog=exit_codes({0: "every job is well", 1: "one is not"}))
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
    client = connect(
        os.environ.get("NOMAD_ADDR", "http://127.0.0.1:4646"),
        os.environ.get("NOMAD_TOKEN"),
        ca_file=os.environ.get("NOMAD_CACERT"),
    )
    wanted = [each for each in platform() if not only or each.id in only]
    if only and (unknown := set(only) - {each.id for each in wanted}):
        raise Failure(
            f"there is no job {', '.join(sorted(unknown))}",
            "The jobs are: " + ", ".join(each.id for each in platform()),
        )
    for deployment in wanted:
        run(deployment, [path.resolve() for path in variables], {})
        console.print(f"[green]✓[/] {deployment.id}")
    with step("wait until every job is well"):
        wait(client, [each.id for each in wanted], timeout=timeout)


if __name__ == "__main__":
    app.run()
