"""Databases with Airflow's schema: one process of the test run makes it, the others take a dump."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts.repository import ROOT
from tests.conftest import PG_BIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import PostgresServer

# The platform's own settings are read, so its accounts' tables are there, too.
MIGRATE = "from airflow.utils import db; db.initdb()"


@pytest.fixture(scope="session")
def metadata_database(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], str]:
    """Make a database with the schema that `airflow db migrate` leaves, and return its URI."""
    uri, folder = postgres.create_database(), tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # all processes of this run have it
    dump = folder / "airflow.sql"
    with (folder / "airflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if dump.exists():
            words = ["psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", f"--file={dump}"]
            _run([PG_BIN / words[0], *words[1:], uri])
        else:
            home = tmp_path_factory.mktemp("migrate")
            _run([sys.executable, "-W", "ignore", "-c", MIGRATE], **_settings(home, uri))
            new = dump.with_suffix(".new")
            _run([PG_BIN / "pg_dump", "--no-owner", f"--file={new}", uri])
            new.rename(dump)
    template = uri.rpartition("/")[2]
    return lambda: postgres.create_database(template)


def _settings(home: Path, uri: str) -> dict[str, str]:
    return {
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONFIG": str(ROOT / "airflow/config/airflow.cfg"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": uri.replace("postgresql:", "postgresql+psycopg2:"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home),
        "PYTHONPATH": f"{ROOT}/airflow:{ROOT}",
    }


def _run(command: list[str | Path], **environment: str) -> None:
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"], **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
