"""The gate's judge over 500 DAG files, beside Airflow reading them in one process, unguarded."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from bench import measure
from bench.figures import Figure, Section, Target
from bench.race import console, load_now
from delivery import candidate
from frame.failure import Failure
from scripts.repository import HOME, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILES = 500
ALLOWED = 60.0  # seconds, on two processors
TIMEOUT = 600.0  # seconds of a run
_RUN = "bench"
_FILE = '''"""One of many reports."""

from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import dag, task

from include.names import SCHOOL


@dag(
    "report_{number}",
    schedule="@daily",
    tags=[SCHOOL],
    default_args={{"owner": "it", "retries": 3, "retry_exponential_backoff": 2.0}},
)
def report():
    @task
    def count() -> int:
        return PostgresHook("warehouse").get_first("select 1")[0]

    @task
    def show(n: int) -> None:
        print(n)

    show(count())


report()
'''
_AIRFLOW = """
import sys
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = BundleDagBag(sys.argv[1], bundle_path=sys.argv[1], bundle_name="analysts")
assert not bag.import_errors, bag.import_errors
for dag in bag.dags.values():
    DagSerialization.to_dict(dag)
assert len(bag.dags) == int(sys.argv[2])
"""
_ABOUT = (
    f"`dag-sync judge` over a push of {FILES} DAG files with a hook, two tasks and a shared module"
    " each: texts and policies read, every file imported in a process of its own. Beside it"
    " Airflow's DagBag, which imports and serialises all of them in one process, with no bounds."
)


def measure_gate(rounds: int, home: Path) -> Section:
    """Judge the push and have Airflow read it, in turns, ``rounds`` times each."""
    tree = _lay(home)
    load = load_now()
    ours = Figure("gate", f"dag-sync judge, {FILES} files", FILES)
    airflow = Figure("airflow", f"Airflow's DagBag, {FILES} files", FILES)
    python = sys.executable
    for _ in range(rounds):
        _time(ours, [python, "-m", "delivery", "judge", "--same-user"], _of_judge(home))
        count = [str(tree), str(FILES)]
        _time(airflow, [python, "-W", "ignore", "-c", _AIRFLOW, *count], _of_airflow(home))
    target = Target(f"seconds for {FILES} files", ALLOWED, ours.best, at_most=True)
    return Section("gate", "The gate", _ABOUT, [ours, airflow], [target], load, subject="gate")


def _lay(home: Path) -> Path:
    """Lay the push as `dag-sync fetch` hands it over; return its tree."""
    run = home / "incoming" / _RUN
    tree = run / "tree"
    lay_files(tree)
    candidate.save(run, candidate.Candidate("0" * 40, "", "", judged=False))
    (home / "alloc" / "data").mkdir(parents=True)
    (home / "airflow").mkdir()
    return tree


def lay_files(tree: Path) -> None:
    """Write FILES DAG files and their shared module into ``tree``."""
    (tree / "dags").mkdir(parents=True)
    (tree / "include").mkdir()
    (tree / "include" / "__init__.py").touch()
    (tree / "include" / "names.py").write_text('SCHOOL = "Cape Coast"\n')
    for number in range(FILES):
        (tree / "dags" / f"report_{number}.py").write_text(_FILE.format(number=number))


def _of_judge(home: Path) -> dict[str, str]:
    return {
        "NOMAD_ALLOC_ID": _RUN,
        "NOMAD_ALLOC_DIR": str(home / "alloc"),
        "NOMAD_TASK_DIR": str(home),
        "DELIVERY_INCOMING": str(home / "incoming"),
        "DELIVERY_QUEUES": "analysts",
        "AIRFLOW_CONFIG": f"{ROOT}/airflow/config/airflow.cfg",
    }


def _of_airflow(home: Path) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW_CONFIG": f"{ROOT}/airflow/config/airflow.cfg",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "airflow" / "logs"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow/none.db",
        "_AIRFLOW_PROCESS_CONTEXT": "client",
        "PYTHONPATH": os.pathsep.join([f"{ROOT}/airflow", str(ROOT)]),
    }


def _time(figure: Figure, command: list[str], environment: Mapping[str, str]) -> None:
    if figure.failed:
        return
    log = HOME / "bench" / "logs" / f"{figure.name}.log"
    try:
        sample = measure.run([command], environment=environment, log=log, timeout=TIMEOUT)
    except Failure as error:
        figure.failed = error.message
        return
    figure.seconds.append(round(sample.seconds, 3))
    figure.peak_mb = max(figure.peak_mb, round(sample.peak_mb, 1))
    console.print(f"  {figure.title}: {figure.seconds[-1]:.2f} s")
