"""What several of these tests do to the platform: run DAGs, read logs, restart all jobs at once."""

from __future__ import annotations

import random
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import requests

from scripts import deploy, jobs
from scripts.cluster import NomadError
from scripts.health.observing import health
from scripts.local import databases, first_run
from scripts.local.up import VARIABLE_FILES

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.access import Access

# What PostgreSQL and SQLAlchemy say of a lock that was not had.
LOCK_ERROR = re.compile(
    r"LockNotAvailable|LockTimeout|lock timeout|could not obtain lock|DeadlockDetected"
    r"|deadlock detected",
    re.IGNORECASE,
)
# Workers finish what runs, and Nomad kills after at most a minute what then still stands.
STOP_SECONDS = 180
START_SECONDS = 400
RUN_SECONDS = 900  # a minute where nothing else runs; for what hangs
ALIVE = {"pending", "running"}


def wait_until(done: Callable[[], Any], what: str, timeout: float) -> Any:
    """Return ``done()`` as soon as it is true; fail with ``what`` after ``timeout`` seconds.

    An answer that fails is asked again: a job may be on its way up.
    """
    deadline = time.monotonic() + timeout
    while True:
        why = ""
        try:
            if found := done():
                return found
        except requests.RequestException as error:
            why = f"; the last answer was {error}"
        assert time.monotonic() < deadline, f"waited {timeout} s in vain for {what}{why}"
        time.sleep(1)


def trigger(platform: Access, dag_id: str, **asked: object) -> str:
    """Start a run of ``dag_id``, with what is ``asked``, and return its path in the REST API."""
    body = {"logical_date": None, "conf": asked}
    made = platform.airflow(f"dags/{dag_id}/dagRuns", method="POST", json=body)
    return f"dags/{dag_id}/dagRuns/{made['dag_run_id']}"


def ended(platform: Access, run: str, timeout: float = RUN_SECONDS) -> str:
    """Wait until the run ended and return its state; a failure tells how each task stands."""

    def state() -> str | None:
        found = str(platform.airflow(run)["state"])
        return found if found in first_run.ENDED else None

    try:
        return str(wait_until(state, run, timeout))
    except AssertionError as error:
        for task in platform.airflow(f"{run}/taskInstances")["task_instances"]:
            error.add_note(
                f"{task['task_id']}[{task['map_index']}] {task['state']}, try {task['try_number']}:"
                f" queued {task['queued_when']}, {task['start_date']} to {task['end_date']}"
            )
        raise


def task_log(platform: Access, run: str, task: str, attempt: int | None = None) -> str:
    """Return what the log of one try says, a line an event, errors with their details.

    The last try unless told: one that never reached its task has no log.
    """
    path = f"{run}/taskInstances/{task}"
    answer = platform.airflow(
        f"{path}/logs/{attempt or platform.airflow(path)['try_number']}",
        params={"full_content": True},
    )
    return "\n".join(str(event) for event in answer["content"])


def allocations(platform: Access, jobs: set[str]) -> list[dict[str, Any]]:
    """Return the allocations of ``jobs`` and of what was launched for the periodic ones."""
    return [
        each
        for each in platform.nomad.allocations.get_allocations()
        if each["JobID"].partition("/")[0] in jobs
    ]


def logs(platform: Access, allocation: str, task: str, kind: str) -> str:
    """Return all of a task's ``stdout`` or ``stderr``; empty if the task never started."""
    answer = requests.get(
        f"{platform.values['NOMAD_ADDR']}/v1/client/fs/logs/{allocation}",
        params={"task": task, "type": kind, "plain": "true"},
        headers={"X-Nomad-Token": platform.values["NOMAD_TOKEN"]},
        timeout=60,
    )
    if answer.status_code == requests.codes.not_found:
        return ""
    answer.raise_for_status()
    return answer.text


def all_logs(platform: Access, allocation: dict[str, Any]) -> str:
    """Return both streams of every task of an allocation."""
    return "\n".join(
        logs(platform, allocation["ID"], task, kind)
        for task in allocation["TaskStates"] or {}
        for kind in ("stdout", "stderr")
    )


def kill(platform: Access, job: str) -> None:
    """Kill the main processes of a job while a pipeline runs; all comes back, and the run succeeds.

    There is one run of it at Nomad for each try: of the mirror's loss the first one fails.
    """
    run = trigger(platform, "ingest_records")
    wait_until(
        lambda: (
            platform.airflow(f"{run}/taskInstances/load")["state"]
            in {"deferred", "running", "success"}
        ),
        "the pipeline to run",
        60,
    )
    killed: dict[str, tuple[str, int]] = {}  # allocation to its main task and that one's restarts
    for allocation in platform.nomad.job.get_allocations(job):
        if allocation["ClientStatus"] == "running":
            states = allocation["TaskStates"]
            task = next(name for name in sorted(states) if not name.startswith("wait-"))
            killed[allocation["ID"]] = (task, states[task]["Restarts"] or 0)
            name = f"{task}-{allocation['ID']}"
            subprocess.run(["docker", "kill", name], check=True, timeout=60, capture_output=True)
    assert killed

    def restarted() -> bool:
        return all(
            platform.nomad.allocation.get_allocation(allocation)["TaskStates"][task]["Restarts"]
            > restarts
            for allocation, (task, restarts) in killed.items()
        )

    wait_until(restarted, f"{job} to be started again", 60)
    deploy.wait(platform.nomad, [each.id for each in jobs.platform()], timeout=START_SECONDS)
    assert ended(platform, run) == "success"
    tries = platform.airflow(f"{run}/taskInstances/load")["try_number"]
    assert len(launched(platform, run.rpartition("/")[2])) == tries <= 2


def launched(platform: Access, run_id: str) -> list[str]:
    """Return the runs of `ingest-records` at Nomad that were asked for by a DAG run."""
    children = platform.runs.jobs.get_jobs(prefix="ingest-records/dispatch-")
    found = [platform.runs.job.get_job(each["ID"]) for each in children]
    return [each["ID"] for each in found if each["Meta"]["run_id"] == run_id]


def stop_all(platform: Access) -> None:
    """Stop and purge every job of the platform, the stand-ins apart, and wait for the last task."""
    job_ids = [each.id for each in jobs.platform()]
    for job in job_ids:
        try:
            platform.nomad.job.deregister_job(job, purge=True)
        except NomadError:
            assert health(platform.nomad, job).state == "absent"
    wait_until(
        lambda: (
            not [
                each
                for each in allocations(platform, set(job_ids))
                if each["ClientStatus"] in ALIVE
            ]
        ),
        "every job to stop",
        STOP_SECONDS,
    )


def start_all(platform: Access, order: random.Random) -> None:
    """Start every job at once, in an order of chance, and wait until each is well."""
    deployments = list(jobs.platform())
    order.shuffle(deployments)
    environment = {name: platform.values[name] for name in ("NOMAD_ADDR", "NOMAD_TOKEN")}
    with ThreadPoolExecutor(max_workers=4) as several:
        list(
            several.map(
                lambda each: deploy.run(each, VARIABLE_FILES, environment),
                deployments,
            )
        )
    deploy.wait(platform.nomad, [each.id for each in deployments], timeout=START_SECONDS)


def drop_airflow_database() -> None:
    """Make Airflow's database anew, without a schema; what else there is stays."""
    with psycopg.connect(databases.superuser("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE airflow WITH (FORCE)")
    databases.create()


def restart(platform: Access, seed: int, *, new_database: bool = False) -> None:
    """Do one round: stop every job, start all at once in the order of ``seed``, look at the end.

    Fails unless every job is well, the database was migrated once if it was new and else not at
    all, no log of the round has a lock error, and DAGs run.
    """
    try:
        _restart(platform, random.Random(seed), new_database)
    except BaseException as error:
        error.add_note(f"the jobs were started in the order of seed {seed}")
        raise


def _restart(platform: Access, order: random.Random, new_database: bool) -> None:
    stop_all(platform)
    if new_database:
        drop_airflow_database()
    before = {each["ID"] for each in platform.nomad.allocations.get_allocations()}
    start_all(platform, order)
    made = [
        each
        for each in allocations(platform, {each.id for each in jobs.platform()})
        if each["ID"] not in before
    ]
    lines = [
        (each["JobID"], line) for each in made for line in all_logs(platform, each).splitlines()
    ]
    faults = [f"{job}: {line}" for job, line in lines if LOCK_ERROR.search(line)]
    assert not faults, "\n".join(faults)
    migrations = lines.count(("airflow-migrate", "migrating"))
    assert migrations == (1 if new_database else 0)
    # A new database has new accounts: whoever shares this access logs in again.
    platform.__dict__.pop("_airflow_token", None)
    if new_database:
        first_run.run_dags(platform)
    else:
        first_run.run(platform, ["ingest_hr"])
