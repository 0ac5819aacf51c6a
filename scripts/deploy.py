#!.venv/bin/python
"""Deploy the platform's jobs with ``nomad job run``, in their order, and wait until each is well.

Every file of nomad/jobs runs as it is: once, or once a bundle, database or source. What
differs between environments comes from one variables file (nomad/vars).
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frame.application import Application, definitions, epilog, exit_codes
from frame.failure import Failure, WrongUse
from frame.output import screen
from frame.progress import step
from scripts.cluster import connect
from scripts.health.waiting import LASTING, wait
from scripts.jobs import JOBS, namespaces, platform, runs, runs_analysts_python, stand_ins
from scripts.repository import ROOT
from scripts.tools import NOMAD, ensure
from scripts.variables import declared, refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.cluster import Nomad
    from scripts.jobs import Deployment


console = screen(stderr=True)

# What Nomad's command says of an address that does not answer and of a token without the right.
NOT_THE_FILE = re.compile(r"Error submitting job: Put |Permission denied|ACL token not found")


def run(
    deployment: Deployment, variable_files: Sequence[Path], environment: dict[str, str]
) -> None:
    """Hand ``deployment`` to Nomad without waiting; an unchanged job stays as it is.

    Raises :class:`Failure` with Nomad's words when it is refused.
    """
    variables = [f"-var={name}={value}" for name, value in deployment.variables.items()]
    files = [f"-var-file={path}" for path in variable_files]
    # One file of variables serves all jobs, so a job is given some that it does not declare.
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
        elif NOT_THE_FILE.search(done.stderr):
            hint = "Check NOMAD_ADDR, NOMAD_CACERT, and the rights of NOMAD_TOKEN."
        raise Failure(f"Nomad refused {deployment.id}:\n" + "\n".join(said), hint)


app = Application("scripts/deploy.py")


@app.command(
    epilog=epilog(
        definitions(
            "Environment",
            [
                ("NOMAD_ADDR", "address of Nomad (default: http://127.0.0.1:4646)"),
                ("NOMAD_TOKEN", "token with the policy of nomad/acl/platform.policy.hcl"),
                ("NOMAD_CACERT", "file of the cluster's own CA, if it has one"),
            ],
        ),
        exit_codes({0: "every job is well", 1: "one is not"}),
    )
)
def main(
    variables: Annotated[
        list[Path],
        typer.Option(
            "--var-file",
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="File of variables, such as nomad/vars/production.hcl; give as many as there are.",
        ),
    ],
    only: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="Ids of jobs; all of them if none is named."),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            min=0,
            help=f"Seconds in which all jobs must be well; that it lasts takes {LASTING:.0f} more.",
        ),
    ] = 900,
) -> None:
    """Deploy the platform's jobs, and wait until all are well."""
    known = [*platform(analysts_python=runs_analysts_python(variables)), *runs()]
    wanted = {each.id: each for each in known if not only or each.id in only}
    if only and (unknown := set(only) - set(wanted)):
        raise WrongUse(
            f"there is no job {', '.join(sorted(unknown))}",
            "The jobs are: " + ", ".join(each.id for each in known),
        )
    # One machine's file of images serves the stand-ins, too.
    files = [*JOBS.glob("*.hcl"), *(each.file for each in stand_ins())]
    refuse_unknown(variables, declared(files))
    for job_id, deployment in wanted.items():
        run(deployment, [path.resolve() for path in variables], {})
        console.print(f"[green]✓[/] {job_id}")
    launched = [each.id for each in runs() if each.id in wanted]
    places = namespaces(variables)
    with step("wait until every job is well") as say:
        others = [each for each in wanted if each not in launched]
        wait(client(places.jobs), others, timeout=timeout, say=say)
        # They are well as soon as they are there.
        wait(client(places.runs), launched, timeout=timeout, lasting=0, say=say)


def client(namespace: str) -> Nomad:
    """Return a client of the environment's Nomad that asks in ``namespace``."""
    return connect(
        os.environ.get("NOMAD_ADDR", "http://127.0.0.1:4646"),
        os.environ.get("NOMAD_TOKEN"),
        ca_file=os.environ.get("NOMAD_CACERT"),
        namespace=namespace,
    )


if __name__ == "__main__":
    app.run()
