#!.venv/bin/python
"""Bring the whole platform up on this machine, run its main job once and say how everything is.

Every step finds what is there: a second run changes nothing.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Annotated

import typer

from backup.settings import B2_KEY, MANIFEST_KEY, SIGNERS
from frame.application import Application, exit_codes
from frame.failure import ExitCode, Failure
from frame.output import screen
from frame.progress import step
from scripts import access, deploy, vault_setup
from scripts.cluster import NotFound
from scripts.health.waiting import LASTING, wait
from scripts.jobs import Deployment, platform, runs, stand_ins
from scripts.local import (
    agents,
    backblaze,
    credentials,
    databases,
    engine,
    first_run,
    images,
    preflight,
)
from scripts.local.home import (
    ADDRESS,
    ENVIRONMENT,
    IMAGE_VARIABLES,
    KEY_VARIABLES,
    LOCAL,
    NOMAD_ADDR,
    VARIABLES,
    VAULT_ADDR,
    Environment,
    kept,
)
from scripts.repository import SECRETS, write_private
from scripts.tools import NOMAD, VAULT, ensure
from scripts.variables import read_variables

console = screen(stderr=True)

VARIABLE_FILES = (VARIABLES, IMAGE_VARIABLES, KEY_VARIABLES)


def bring_up(timeout: float) -> None:
    """Do everything up to the platform's jobs being well, each group within ``timeout`` seconds."""
    preflight.check()
    preflight.install_programs()
    engine.ensure()
    if not preflight.address_is_there():
        raise Failure(
            f"Docker's bridge is not at {ADDRESS}",
            'Set "bip": "172.17.0.1/16" in /etc/docker/daemon.json, or read docs/runbook.md.',
        )
    # The images mostly wait for the network and the toolchain for the processor.
    with ThreadPoolExecutor() as both:
        built = both.submit(images.ensure_images)
        ensure(VAULT)
        ensure(NOMAD)
        built.result()
    KEY_VARIABLES.write_text(f'recovery_fingerprint = "{credentials.recovery_fingerprint()}"\n')
    agents.start_vault()
    agents.start_nomad()
    with step("set Vault up: a policy and a role for each job"):
        set_up_vault()
        changed = credentials.write(credentials.stand_ins())
        if "local/git" in changed:
            stop_git()  # it reads its keys when it starts
    # They are used at once, and what is deployed on them lasts only if they do.
    title = "start PostgreSQL, the B2 endpoint and the git remote"
    run_jobs(title, stand_ins(), timeout, lasting=0)
    with step("create databases and roles, and load the school's data"):
        databases.create()
        databases.fill()
    backblaze.bucket()
    credentials.write(credentials.platform())
    title = "deploy what Airflow may launch"
    run_jobs(title, list(runs()), timeout, lasting=0, launched=True)
    run_jobs("deploy the platform", list(platform()), timeout)


def stop_git() -> None:
    """Stop the git remote, if it runs: Nomad starts it again."""
    nomad = agents.nomad_client()
    with suppress(NotFound):
        for allocation in nomad.job.get_allocations("local-git"):
            if allocation["ClientStatus"] == "running":
                nomad.allocation.stop_allocation(allocation["ID"])


def addresses(environment: Environment) -> dict[str, str]:
    """Return where an environment's Airflow, its mirror, and its jobs in Nomad are."""
    variables = read_variables(environment.variables)
    return {
        "NOMAD_ADDR": NOMAD_ADDR,
        access.JOBS: environment.namespaces.jobs,
        access.RUNS: environment.namespaces.runs,
        "VAULT_ADDR": VAULT_ADDR,
        "AIRFLOW_URL": variables["airflow_url"],
        "AIRFLOW_USERNAME": "admin",
        "DAG_MIRROR_URL": variables["dag_mirror_url"],
    }


def keep_access() -> access.Access:
    """Keep how the operators' commands reach this machine's platform, and return it."""
    secrets = SECRETS / "backups"
    write_private(secrets / B2_KEY, json.dumps(kept(backblaze.key_file("drill"))))
    write_private(secrets / SIGNERS, json.dumps(credentials.signers()))
    write_private(secrets / MANIFEST_KEY, credentials.gpg_key("manifests")["private"])
    return access.keep(
        {
            **addresses(LOCAL),
            "BACKUP_SECRETS_DIR": str(secrets),
            "BACKUP_B2_REALM": backblaze.REALM,
            "BACKUP_BUCKET": backblaze.BUCKET,
            "BACKUP_PREFIX": ENVIRONMENT,
        },
        {"NOMAD_TOKEN": "nomad-platform", "AIRFLOW_PASSWORD": "airflow-admin"},
        [each.id for each in stand_ins()],
    )


def set_up_vault(environment: Environment = LOCAL) -> None:
    """Write the policies and roles of every job, and of the stand-ins, which are there once."""
    policies = vault_setup.POLICIES
    vault_setup.set_up(
        agents.vault_client(),
        mount=credentials.MOUNT,
        environment=environment.name,
        jwks_url=f"{NOMAD_ADDR}/.well-known/jwks.json",
        namespaces=environment.namespaces,
        folders=(policies, policies / "local") if environment == LOCAL else (policies,),
    )


def run_jobs(
    title: str,
    deployments: list[Deployment],
    timeout: float,
    *,
    lasting: float = LASTING,
    launched: bool = False,
    environment: Environment = LOCAL,
) -> None:
    """Run the jobs as the platform team would, and wait until each is well for ``lasting`` s.

    ``launched``: they are what Airflow may launch.
    """
    token = environment.kept("nomad-platform")
    files = (environment.variables, *VARIABLE_FILES[1:])
    with step(title) as say:
        for deployment in deployments:
            deploy.run(deployment, files, {"NOMAD_ADDR": NOMAD_ADDR, "NOMAD_TOKEN": token})
        job_ids = [each.id for each in deployments]
        places = environment.namespaces
        client = agents.nomad_client(token, places.runs if launched else places.jobs)
        wait(client, job_ids, timeout=timeout, lasting=lasting, say=say)


app = Application("scripts/local/up.py")


@app.command(epilog=exit_codes({0: "everything is well", 1: "something is not"}))
def main(
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds in which the jobs must be well.")
    ] = 600,
) -> None:
    """Bring the whole platform up on this machine, run its main job and say how everything is."""
    bring_up(timeout)
    here = keep_access()
    first_run.main_job(here)
    console.print()
    if not first_run.summary(here):
        raise typer.Exit(ExitCode.FAILED)


if __name__ == "__main__":
    app.run()
