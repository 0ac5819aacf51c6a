#!.venv/bin/python
"""Deploy the platform's jobs with ``nomad job run``, in their order, and wait until each is well.

Every file of nomad/jobs runs as it is: once, or once a bundle, queue or database. What differs
between environments comes from one variables file (nomad/vars).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from scripts.cluster import connect
from scripts.console import OperatorError, command, console, step
from scripts.jobs import platform
from scripts.repository import ROOT
from scripts.tools import NOMAD, ensure
from scripts.waiting import LASTING, wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.jobs import Deployment


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
        hint = f"Mend {deployment.file.relative_to(ROOT)} or its variables and deploy again."
        if "cannot update job from type" in done.stderr:
            hint = f"Remove the old job and deploy again: nomad job stop -purge {deployment.id}"
        raise OperatorError(f"Nomad refused {deployment.id}:\n" + "\n".join(said), hint)


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
    timeout: Annotated[
        float,
        typer.Option(
            min=0,
            help=f"Seconds in which all jobs must be well; that it lasts takes {LASTING:.0f} more.",
        ),
    ] = 900,
) -> None:
    """Deploy with the environment's NOMAD_ADDR and NOMAD_TOKEN (and NOMAD_CACERT for TLS)."""

    def work() -> None:
        client = connect(
            os.environ.get("NOMAD_ADDR", "http://127.0.0.1:4646"),
            os.environ.get("NOMAD_TOKEN"),
            ca_file=os.environ.get("NOMAD_CACERT"),
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
        with step("wait until every job is well") as progress:
            wait(client, [each.id for each in wanted], timeout=timeout, say=progress.say)

    command(work)


if __name__ == "__main__":
    app()
