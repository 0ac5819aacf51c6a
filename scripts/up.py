#!.venv/bin/python
"""Bring the whole platform up on this machine, run its main job once and say how everything is.

Every step finds what is there: a second run changes nothing.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import typer

from scripts import (
    access,
    agents,
    backblaze,
    credentials,
    databases,
    deploy,
    engine,
    first_run,
    images,
    preflight,
    vault_setup,
)
from scripts.console import OperatorError, command, console, step
from scripts.local import (
    ADDRESS,
    ENVIRONMENT,
    IMAGE_VARIABLES,
    NOMAD_ADDR,
    VARIABLES,
    kept,
)
from scripts.tools import NOMAD, VAULT, ensure

VARIABLE_FILES = (VARIABLES, IMAGE_VARIABLES)


def bring_up() -> None:
    """Do everything up to the platform's jobs being well."""
    preflight.check()
    preflight.install_programs()
    engine.ensure()
    if not preflight.address_is_there():
        raise OperatorError(
            f"Docker's bridge is not at {ADDRESS}",
            'Set "bip": "172.17.0.1/16" in /etc/docker/daemon.json, or read docs/runbook.md.',
        )
    # The images mostly wait for the network and the toolchain for the processor.
    with ThreadPoolExecutor() as both:
        built = both.submit(images.ensure_images)
        ensure(VAULT)
        ensure(NOMAD)
        built.result()
    agents.start_vault()
    agents.start_nomad()
    with step("set Vault up: a policy and a role for each job"):
        set_up_vault()
        credentials.write(credentials.stand_ins())
    run_jobs("start PostgreSQL, the B2 endpoint and the git remote", deploy.stand_ins())
    with step("create databases and roles, and load the school's data"):
        databases.create()
        databases.fill()
    backblaze.bucket()
    credentials.write(credentials.platform())
    run_jobs("deploy the platform", list(deploy.platform()))


def set_up_vault() -> None:
    """Write the policies and roles of every job, the stand-ins' too."""
    vault_setup.set_up(
        agents.vault_client(),
        mount=credentials.MOUNT,
        environment=ENVIRONMENT,
        jwks_url=f"{NOMAD_ADDR}/.well-known/jwks.json",
        folders=(vault_setup.POLICIES, vault_setup.POLICIES / "local"),
    )


def run_jobs(title: str, deployments: list[deploy.Deployment]) -> None:
    """Run the jobs as the platform team would, and wait until each is well."""
    environment = {"NOMAD_ADDR": NOMAD_ADDR, "NOMAD_TOKEN": kept("nomad-platform")}
    with step(title):
        for deployment in deployments:
            deploy.run(deployment, VARIABLE_FILES, environment)
        deploy.wait(agents.nomad_client(), [each.id for each in deployments])


app = typer.Typer(add_completion=False, help=__doc__)


@app.command(epilog="Exit codes: 0 everything is well, 1 something is not, 2 wrong use.")
def main() -> None:
    """Bring the whole platform up on this machine, run its main job and say how everything is."""

    def work() -> None:
        bring_up()
        platform = access.local()
        first_run.main_job(platform)
        console.print()
        if not first_run.summary(platform):
            sys.exit(1)

    command(work)


if __name__ == "__main__":
    app()
