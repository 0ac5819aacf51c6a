"""A second environment beside the platform, on its Nomad and Vault: brought up, used, taken away.

It has what loads a pipeline, and with the first it has the stand-ins in common: the server of
databases, and the analysts' remote.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from scripts import access, launches, nomad_setup
from scripts.jobs import Namespaces, platform, runs
from scripts.local import agents, credentials, databases, first_run, up
from scripts.local.home import ADDRESS, LOCAL, VOLUMES, Environment
from scripts.repository import HOME, ROOT, SECRETS, read_secret
from scripts.variables import read_variables
from scripts.vault_setup import LOGIN
from tests.e2e.contents import contents
from tests.e2e.rounds import ALIVE, task_log, wait_until
from tests.e2e.test_up import state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.access import Access

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

SECOND = Environment(
    "second", Namespaces("second", "second-runs"), HOME / "second.hcl", prefix="second-"
)
PORTS = {
    "webserver_port": 8081,
    "log_server_port": 8794,
    "dag_mirror_port": 15419,
    "redis_port": 16381,
    "redis_results_port": 16382,
}
JOBS = {
    "redis", "dag-mirror", "airflow-migrate", "airflow-logs", "airflow-webserver",
    "airflow-scheduler", "airflow-dag-processor-pipelines", "airflow-triggerer", "dag-sync",
}  # fmt: skip
DAG, SOURCE = "ingest_hr", "hr"
# What `make up` made of the first, and nobody else may change.
LASTS = ("jobs", "secrets", "policies", "roles", "containers")
SECONDS = 600


def variables() -> dict[str, Any]:
    """Return this machine's, with what a node has once in another place."""
    return {
        **read_variables(LOCAL.variables),
        "environment": SECOND.name,
        "namespace": SECOND.namespaces.jobs,
        "runs_namespace": SECOND.namespaces.runs,
        "volume_prefix": SECOND.prefix,
        "webserver_database_role": f"{SECOND.databases}airflow_webserver",
        "clean_database_role": f"{SECOND.databases}airflow_clean",
        **PORTS,
        "airflow_url": f"http://{ADDRESS}:{PORTS['webserver_port']}",
        "dag_mirror_url": f"git://{ADDRESS}:{PORTS['dag_mirror_port']}",
        "redis_address": f"{ADDRESS}:{PORTS['redis_port']}",
        "redis_results_address": f"{ADDRESS}:{PORTS['redis_results_port']}",
    }


def start_nomad(beside: str) -> None:
    """Start Nomad with the volumes of what is ``beside``, by a process that it outlives."""
    program = f"""
from scripts.local import agents
from tests.e2e.test_environments import SECOND
agents.start_nomad({beside})
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=180)


def bring_up() -> Access:
    """Do for the second what `make up` does for the first, and return the access to it."""
    SECOND.variables.write_text(
        "".join(f"{name} = {json.dumps(value)}\n" for name, value in variables().items())
    )
    start_nomad("SECOND")
    up.set_up_vault(SECOND)
    databases.create(SECOND.databases)
    databases.fill(0.05, prefix=SECOND.databases)
    credentials.write(credentials.services(SECOND), SECOND)
    launched = [each for each in runs() if each.id == f"ingest-{SOURCE}"]
    up.run_jobs("deploy runs", launched, SECONDS, lasting=0, launched=True, environment=SECOND)
    wanted = [each for each in platform() if each.id in JOBS]
    up.run_jobs("deploy a second environment", wanted, SECONDS, environment=SECOND)
    return access.Access(
        {
            **up.addresses(SECOND),
            "NOMAD_TOKEN": SECOND.kept("nomad-platform"),
            "AIRFLOW_PASSWORD": SECOND.kept("airflow-admin"),
        }
    )


def take_away() -> None:
    """Remove all that the second had."""
    _from_nomad()
    _from_vault()
    _from_the_server()
    for volume in _second(path.name for path in VOLUMES.iterdir()):
        shutil.rmtree(VOLUMES / volume)
    for pattern in (f"{SECOND.prefix}*", f"database-{SECOND.databases}*"):
        for secret in SECRETS.glob(pattern):
            secret.unlink()
    SECOND.variables.unlink()


def _from_nomad() -> None:
    places = (SECOND.namespaces.jobs, SECOND.namespaces.runs)
    nomad = agents.nomad_client(read_secret("nomad-bootstrap"))

    def end(*, purge: bool) -> None:
        for place in places:
            for job in nomad.jobs.get_jobs(namespace=place):
                nomad.job.deregister_job(job["ID"], namespace=place, purge=purge)

    def stopped() -> bool:
        states = [
            each["ClientStatus"]
            for place in places
            for each in nomad.allocations.get_allocations(namespace=place)
        ]
        return not ALIVE & set(states)

    # Forgotten only when nothing is planned for them any more: Nomad 1.11.3 can crash otherwise.
    end(purge=False)
    wait_until(stopped, "the second environment to stop", 300)
    end(purge=True)
    for place in places:
        nomad.namespace.delete_namespace(place)
    for token in nomad.acl.get_tokens():
        if _second(token["Policies"] or []):
            nomad.acl.delete_token(token["AccessorID"])
    for name in (*nomad_setup.PEOPLE, *nomad_setup.TASKS):
        nomad.acl.delete_policy(nomad_setup.policy_name(SECOND.name, name))
    start_nomad("")


def _from_vault() -> None:
    vault = agents.vault_client()
    for role in _second(vault.list(f"auth/{LOGIN}/role")["data"]["keys"]):
        vault.delete(f"auth/{LOGIN}/role/{role}")
    for policy in _second(vault.sys.list_policies()["data"]["policies"]):
        vault.sys.delete_policy(policy)
    for path in credentials.services(SECOND):
        vault.secrets.kv.v2.delete_metadata_and_all_versions(
            f"{SECOND.name}/{path}", mount_point=credentials.MOUNT
        )


def _from_the_server() -> None:
    with psycopg.connect(databases.superuser("postgres"), autocommit=True) as connection:
        for name in databases.DATABASES:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(
                    sql.Identifier(f"{SECOND.databases}{name}")
                )
            )
        for role in databases.roles(SECOND.databases):
            name = sql.Identifier(role.name)
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(name))


def _second(names: Any) -> list[str]:
    return [name for name in names if name.startswith(f"{SECOND.name}-")]


def lasting(platform: Access) -> dict[str, Any]:
    found = state(platform)
    return {section: found[section] for section in LASTS}


def unchanged(before: dict[str, Any], platform: Access) -> None:
    """Fail unless all that the first had is as it was."""
    now = lasting(platform)
    for section, things in before.items():
        assert {name: now[section].get(name) for name in things} == things, section


@pytest.fixture(scope="module")
def second(platform: Access) -> Iterator[Access]:
    """The second environment, and the first as it was before it when it is gone."""
    before = lasting(platform)
    try:
        found = bring_up()
        unchanged(before, platform)
        yield found
    finally:
        take_away()
    assert lasting(platform) == before


def test_a_pipeline_of_a_second_environment_loads_its_own_warehouse(
    platform: Access, second: Access
) -> None:
    of_the_first = contents("warehouse", f"raw_{SOURCE}")
    launches.finish(second, launches.force(second, "dag-sync"), timeout=240)
    wait_until(lambda: first_run.live(second), "the gate to publish", 120)
    assert first_run.live(second) == first_run.live(platform), "one remote, two mirrors"
    wait_until(lambda: first_run.is_parsed(second, DAG), f"{DAG} to be parsed", 240)
    first_run.first_runs(second, [DAG])
    source = contents(f"{SECOND.databases}{SOURCE}", "public")
    assert sum(rows for rows, _ in source.values()) > 0
    assert contents(f"{SECOND.databases}warehouse", f"raw_{SOURCE}") == source
    assert contents("warehouse", f"raw_{SOURCE}") == of_the_first


def test_its_log_server_has_the_log_of_the_run(second: Access) -> None:
    first_run.first_runs(second, [DAG])
    (run,) = second.airflow(f"dags/{DAG}/dagRuns", params={"limit": 1})["dag_runs"]
    assert "employees" in task_log(second, f"dags/{DAG}/dagRuns/{run['dag_run_id']}", "load")


def test_the_team_of_one_environment_does_not_see_the_jobs_of_the_other(
    platform: Access, second: Access
) -> None:
    for own, other in ((platform, second), (second, platform)):
        places = other.namespaces
        for place in (places.jobs, places.runs):
            with pytest.raises(nomad_setup.NomadError, match="Permission denied"):
                own.nomad.jobs.get_jobs(namespace=place)
