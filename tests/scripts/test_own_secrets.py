"""A real Airflow, asked by an account of the platform team."""

from __future__ import annotations

import os
import secrets as random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import requests

from scripts import own_secrets
from scripts.access import Access
from scripts.repository import ROOT
from scripts.row import Row
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer

pytestmark = [pytest.mark.programs, pytest.mark.slow]

FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
PASSWORD = random.token_urlsafe(12)
SEED = """
import sys
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils import db
from harmattan import accounts
db.upgradedb()
accounts.set_up(username="admin", password=sys.argv[1])
with get_application_builder() as builder:
    role = builder.sm.find_role("Platform")
    assert builder.sm.add_user("team", "A", "B", "team@localhost", role, sys.argv[1])
"""
FILL = """
import sys
from airflow.models import Connection, Variable
from airflow.utils.session import create_session
with create_session() as session:
    for n in range(120):
        session.add(Connection(f"c{n:03}", conn_type="http", password=sys.argv[1]))
    session.add(Variable("year", "2026"))
    session.add(Variable("api_key", sys.argv[1]))
"""


@pytest.fixture
def airflow(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Access, dict[str, str]]]:
    """An Airflow with the platform's roles, and the environment of its programs."""
    home, port = tmp_path_factory.mktemp("airflow"), free_port()
    uri = postgres.create_database().replace("postgresql:", "postgresql+psycopg2:")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": f"{ROOT}/airflow:{ROOT}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": uri,
        "AIRFLOW__CORE__AUTH_MANAGER": FAB,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__API_AUTH__JWT_SECRET": random.token_urlsafe(64),
        "AIRFLOW__API__SECRET_KEY": random.token_urlsafe(64),
        "AIRFLOW__API__WORKERS": "1",
    }
    program(SEED, environment)
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "airflow", "api-server", "--host", "127.0.0.1",
             "--port", str(port)],
            env=environment, cwd=home, stdout=log, stderr=log,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    names = {"AIRFLOW_URL": address, "AIRFLOW_USERNAME": "team", "AIRFLOW_PASSWORD": PASSWORD}
    try:
        answers(f"{address}/api/v2/version")
        yield Access(names), environment
    finally:
        server.terminate()
        server.wait(30)


def program(code: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, PASSWORD], env=environment,
        cwd=environment["HOME"], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def answers(url: str) -> None:
    for _ in range(300):
        try:
            requests.get(url, timeout=5).raise_for_status()
            return
        except requests.RequestException:
            time.sleep(0.2)
    raise TimeoutError(url)


def test_names_are_shown_and_no_value(airflow: tuple[Access, dict[str, str]]) -> None:
    platform, environment = airflow
    nothing = "no secret in Airflow's own database"
    assert list(own_secrets.secrets(platform)) == [
        Row("connections", nothing, well=True),
        Row("variables", nothing, well=True),
    ]
    program(FILL, environment)
    connections, variables = own_secrets.secrets(platform)
    assert connections.state.startswith("120 in Airflow's own database: c000, c001, ")
    assert variables == Row("variables", "1 in Airflow's own database: api_key", well=False)
    assert PASSWORD not in f"{connections} {variables}"

    # What the runbook says mends it, by the same account.
    actions = [{"action": "delete", "entities": [f"c{n:03}" for n in range(120)]}]
    platform.airflow("connections", method="PATCH", json={"actions": actions})
    actions = [{"action": "delete", "entities": ["api_key"]}]
    platform.airflow("variables", method="PATCH", json={"actions": actions})
    assert all(row.well for row in own_secrets.secrets(platform))
