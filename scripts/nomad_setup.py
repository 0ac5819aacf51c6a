#!.venv/bin/python
"""Set Nomad up for the platform: its namespaces, and the policies of people and of tasks.

The same program for one machine and for production. All that it writes has the environment in its
name or is a namespace of that environment alone, so that several share one Nomad. It can be run as
often as you like, and makes no token.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import jinja2
import requests
import typer

from frame.application import Application, definitions, epilog, exit_codes
from frame.failure import Failure, WrongUse
from frame.output import screen
from scripts.cluster import NomadError, NotFound, connect
from scripts.jobs import Namespaces
from scripts.repository import ROOT

if TYPE_CHECKING:
    from scripts.cluster import Nomad

console = screen(stderr=True)

POLICIES = ROOT / "nomad/acl"
PEOPLE = ("platform", "analysts")
# A policy that no token names: it is for one task, which shows Nomad its own identity.
TASKS = {
    "dag-sync-publish": {"JobID": "dag-sync", "Group": "dag-sync", "Task": "publish"},
    "push-hook": {"JobID": "airflow-webserver", "Group": "webserver", "Task": "webserver"},
    "backup-nomad": {"JobID": "backup-nomad"},
    "backup-coverage": {"JobID": "backup-coverage"},
    "runs": {
        "JobID": "airflow-triggerer",
        "Group": "triggerer-pipelines",
        "Task": "triggerer",
    },
}
# Whose a namespace is, in its metadata.
OWNER = "harmattan_environment"


def policy_name(environment: str, name: str) -> str:
    """Return what Nomad knows the policy of nomad/acl/NAME.policy.hcl by."""
    return f"{environment}-{name}"


def rules(name: str, namespaces: Namespaces) -> str:
    """Return the text of nomad/acl/NAME.policy.hcl for these namespaces."""
    text = (POLICIES / f"{name}.policy.hcl").read_text()
    template = jinja2.Template(text, undefined=jinja2.StrictUndefined)
    text = template.render(namespace=namespaces.jobs, runs_namespace=namespaces.runs)
    return f"{text}\n"


def set_up(nomad: Nomad, *, environment: str, namespaces: Namespaces) -> list[str]:
    """Write both namespaces and every policy; return the policies' names.

    Raises :class:`Failure` before it writes anything if a namespace is another environment's.
    """
    wanted = {
        namespaces.jobs: f"{environment}: the platform",
        namespaces.runs: f"{environment}: what Airflow may launch",
    }
    existing = {name: _namespace(nomad, name, environment) for name in wanted}
    for name, description in wanted.items():
        meta = {**(existing[name].get("Meta") or {}), OWNER: environment}
        described = {"Description": description, **existing[name]}
        nomad.namespace.create_namespace({**described, "Name": name, "Meta": meta})
    written = []
    for name in (*PEOPLE, *TASKS):
        policy: dict[str, Any] = {
            "Name": policy_name(environment, name),
            "Rules": rules(name, namespaces),
        }
        if name in TASKS:
            policy["JobACL"] = {"Namespace": namespaces.jobs, **TASKS[name]}
        nomad.acl.create_policy(policy["Name"], policy)
        written.append(policy["Name"])
    return written


def _namespace(nomad: Nomad, name: str, environment: str) -> dict[str, Any]:
    """Return a namespace that is there, {} if it is not; it must be nobody else's."""
    try:
        namespace: dict[str, Any] = nomad.namespace.get_namespace(name)
    except NotFound:
        return {}
    owner = (namespace.get("Meta") or {}).get(OWNER, environment)
    if owner != environment:
        raise Failure(
            f"namespace {name}: expected one of the environment {environment}, found {owner}'s",
            "Name others with --namespace and --runs-namespace, and in the file of variables.",
        )
    return namespace


app = Application("scripts/nomad_setup.py")


@app.command(
    epilog=epilog(
        definitions(
            "Environment",
            [
                ("NOMAD_TOKEN", "a management token of Nomad (required)"),
                ("NOMAD_CACERT", "file of the cluster's own CA, if it has one"),
            ],
        ),
        exit_codes(),
    )
)
def main(
    environment: Annotated[str, typer.Option(help="What policies begin with: production.")],
    address: Annotated[str, typer.Option(envvar="NOMAD_ADDR", help="Nomad's address.")],
    namespace: Annotated[str, typer.Option(help="The namespace of the jobs.")] = Namespaces.jobs,
    runs_namespace: Annotated[
        str, typer.Option(help="The namespace of those that Airflow may launch.")
    ] = Namespaces.runs,
) -> None:
    """Set Nomad up for the platform: namespaces and policies.

    It makes no token.
    """
    if not (token := os.environ.get("NOMAD_TOKEN")):
        raise WrongUse(
            "NOMAD_TOKEN is not set", "Export a management token: the policies need one."
        )
    nomad = connect(address, token, ca_file=os.environ.get("NOMAD_CACERT"))
    try:
        names = set_up(
            nomad, environment=environment, namespaces=Namespaces(namespace, runs_namespace)
        )
    except (NomadError, requests.RequestException) as error:
        raise Failure(
            f"Nomad at {address} did not take the set-up: {error}",
            "Check the address, and that the token is a management token.",
        ) from None
    for name in names:
        console.print(f"[green]✓[/] policy {name}")


if __name__ == "__main__":
    app.run()
