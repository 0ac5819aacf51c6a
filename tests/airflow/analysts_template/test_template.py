"""The analysts' template as a new repository: its pipelines, and what its DAG does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest import contract, run
from ingest.connections import Entry
from ingest.job import Job
from standins.school.load import DATABASES, load
from tests.ingest.world import as_role

if TYPE_CHECKING:
    from tests.conftest import PostgresServer

TEMPLATE = Path(__file__).parents[3] / "airflow" / "analysts-template"

# Runs the task's own function twice as a worker does, but for Airflow's supervisor around it.
RUN = """
import os, sys
sys.path.append(sys.argv[1])
from dags.school_report import school_report
build = school_report().get_task("open_tickets_by_kind").python_callable
for os.environ["AIRFLOW_CONN_WAREHOUSE"] in sys.argv[2:]:
    try:
        print("ROWS", build(), build())
    except LookupError as error:
        print(error)
"""


def python(*arguments: object, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=home,
        env={name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
        | {"AIRFLOW_HOME": str(home / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", ".*_cache")
    return Path(shutil.copytree(TEMPLATE, tmp_path / "repository", ignore=ignore))


def test_there_is_one_pipeline_a_source() -> None:
    found = {file.stem: contract.read(file) for file in (TEMPLATE / "pipelines").glob("*.yaml")}
    assert {name: (p.source, p.published_schema) for name, p in found.items()} == {
        source: (source, f"raw_{source}") for source in DATABASES
    }


def test_the_report_is_built_from_what_is_published_or_says_what_is_missing(
    repository: Path, postgres: PostgresServer, roles: dict[str, str], database: str
) -> None:
    source, warehouse = postgres.create_database(), postgres.create_database()
    checks = as_role(warehouse, "ingest_checks", roles["ingest_checks"])
    known = {"warehouse": warehouse, "warehouse_checks": checks}
    with psycopg.connect(source) as connection:
        load(connection, "service_desk", 0.01, 1)
    pipeline = contract.read(repository / "pipelines" / "service_desk.yaml")

    def resolve(name: str) -> Entry:
        return Entry(name, "postgresql", known.get(name, source))

    run.run(Job(pipeline, "service_desk", "test", resolve))
    with psycopg.connect(warehouse) as connection:
        connection.execute("CREATE SCHEMA marts")
    said = python("-c", RUN, repository, database, warehouse, home=repository)
    assert "table raw_service_desk.tickets: expected it in the warehouse, found none" in said
    assert "HINT: Run the DAG ingest_service_desk" in said
    with psycopg.connect(warehouse) as connection:
        built = connection.execute(
            "SELECT count(*), sum(tickets) FROM marts.open_tickets_by_kind"
        ).fetchone()
    with psycopg.connect(source) as connection:
        groups = connection.execute("SELECT count(*) FROM open_tickets").fetchone()
    assert built is not None
    assert groups is not None
    assert f"ROWS {built[0]} {built[0]}" in said
    assert built[1] == groups[0] > 0
