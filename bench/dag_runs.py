"""DAG runs of pipelines on the platform of `make up`, beside their jobs at Nomad alone."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import psycopg
from psycopg import sql

from bench.figures import Figure, Section, Target
from bench.race import load_now
from frame.failure import Failure
from frame.progress import step
from scripts import access, launches
from scripts.local import databases, first_run
from scripts.local.first_run import Checkout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripts.access import Access

Found = TypeVar("Found")

SIZES = (5, 100)  # tables of a pipeline
ROWS = 1000  # of a table
ALLOWED = 3.0  # seconds that Airflow may add
TIMEOUT = 300.0  # seconds for a run
_EVERY = 0.5  # seconds between two looks, which cost the run processor time
_ABOUT = (
    "A pipeline of 5 and one of 100 tables of 1,000 rows, full loads, from trigger to success by"
    " Airflow's API; beside the same pipeline's job, dispatched at Nomad by hand: `ingest run` with"
    " its container, its login to Vault and its look at the mirror. The ends are those that"
    " Airflow and Nomad keep. On the platform of `make up`."
)
_PIPELINE = """\
source: hr
schema: {name}
schedule: "0 2 1 1 *"
owner: bench
tables:
  - name: {name}.*
"""


def measure(rounds: int) -> Section:
    """Run both pipelines ``rounds`` times each way; what is made for it is removed again."""
    platform = access.of_this_machine()
    load = load_now()
    figures = []
    with Checkout() as checkout:
        try:
            with step("make 105 tables and two pipelines"):
                _make_tables()
                for size in SIZES:
                    file = checkout.tree / f"pipelines/{_name(size)}.yaml"
                    file.write_text(_PIPELINE.format(name=_name(size)))
                _deliver(platform, checkout, "Add pipelines to measure")
                wanted = [f"ingest_{_name(size)}" for size in SIZES]
                launches.wait_until(
                    lambda: all(first_run.is_parsed(platform, each) for each in wanted),
                    "the pipelines' DAGs", 240,
                )  # fmt: skip
            for size in SIZES:
                figures += _both(platform, size, rounds)
        finally:
            with step("remove them"):
                for size in SIZES:
                    (checkout.tree / f"pipelines/{_name(size)}.yaml").unlink(missing_ok=True)
                _deliver(platform, checkout, "Remove them again")
                _drop_tables()
    return Section("dag-runs", "DAG runs", _ABOUT, figures, list(_targets(figures)), load,
                   subject="pipeline", servers="with all parts of the platform")  # fmt: skip


def server_version() -> str:
    """Return the version of the platform's PostgreSQL."""
    with psycopg.connect(databases.superuser("postgres")) as connection:
        return connection.info.parameter_status("server_version") or "unknown"


def _name(size: int) -> str:
    return f"bench_{size}"


def _targets(figures: list[Figure]) -> Iterator[Target]:
    best = {figure.name: figure.best for figure in figures}
    for size in SIZES:
        run, job = best[f"pipeline-run-{size}"], best[f"pipeline-job-{size}"]
        more = run - job if run and job else None
        text = f"{size} tables: seconds that a DAG run takes more than its job alone"
        yield Target(text, ALLOWED, more, at_most=True)


def _both(platform: Access, size: int, rounds: int) -> list[Figure]:
    """Take turns between the two ways; the first run of either makes tables, and is not counted."""
    figures = [
        Figure(f"pipeline-run-{size}", f"DAG run, {size} tables", size * ROWS),
        Figure(f"pipeline-job-{size}", f"its job, dispatched by hand, {size} tables", size * ROWS),
    ]
    with step(f"run {size} tables {rounds + 1} times each way"):
        for count in range(rounds + 1):
            for figure, way in zip(figures, (_dag_run, _job), strict=True):
                began = time.time()
                end = way(platform, _name(size), f"bench-{began}")
                if count:
                    figure.seconds.append(end.timestamp() - began)
    return figures


def _dag_run(platform: Access, name: str, _: str) -> datetime:
    path = f"dags/ingest_{name}/dagRuns"
    made = platform.airflow(path, method="POST", json={"logical_date": None})
    run = f"{path}/{made['dag_run_id']}"
    ended = _until(lambda: platform.airflow(run), lambda run: run["state"] in first_run.ENDED)
    if ended["state"] != "success":
        raise Failure(f"the run of ingest_{name} failed", "Read its log in Airflow.")
    return datetime.fromisoformat(ended["end_date"])


def _job(platform: Access, name: str, run_id: str) -> datetime:
    meta = {"pipeline": name, "run_id": run_id}
    child = platform.runs.job.dispatch_job("ingest-hr", meta=meta)["DispatchedJobID"]
    (ended,) = _until(
        lambda: platform.runs.job.get_allocations(child),
        lambda found: found and found[0]["ClientStatus"] in {"complete", "failed"},
    )
    if ended["ClientStatus"] != "complete":
        raise Failure(f"{child} failed", f"nomad alloc logs -namespace runs -job {child}")
    return max(datetime.fromisoformat(task["FinishedAt"]) for task in ended["TaskStates"].values())


def _until(look: Callable[[], Found], done: Callable[[Found], object]) -> Found:
    deadline = time.monotonic() + TIMEOUT
    while not done(found := look()):
        if time.monotonic() > deadline:
            raise Failure(f"it did not end within {TIMEOUT:.0f} s", "Look at `make status`.")
        time.sleep(_EVERY)
    return found


def _deliver(platform: Access, checkout: Checkout, message: str) -> None:
    checkout.commit_and_push(message)
    first_run.push_template(platform, checkout)


def _make_tables() -> None:
    _drop_tables()
    with psycopg.connect(databases.superuser("hr")) as connection:
        for size in SIZES:
            schema = sql.Identifier(_name(size))
            reader = sql.Identifier(databases.role("hr_ingest").name)
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            for number in range(size):
                table = sql.Identifier(_name(size), f"t{number:03}")
                connection.execute(
                    sql.SQL(
                        "CREATE TABLE {} AS SELECT id, 'row ' || id AS said, now() AS at"
                        " FROM generate_series(1, {}) AS id"
                    ).format(table, ROWS)
                )
                connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (id)").format(table))
            connection.execute(
                sql.SQL("GRANT USAGE ON SCHEMA {0} TO {1}; GRANT SELECT ON ALL TABLES IN SCHEMA {0}"
                        " TO {1}").format(schema, reader)
            )  # fmt: skip


def _drop_tables() -> None:
    for database in ("hr", "warehouse"):
        with psycopg.connect(databases.superuser(database)) as connection:
            for size in SIZES:
                connection.execute(
                    sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(_name(size)))
                )
