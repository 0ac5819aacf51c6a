"""A real Airflow, asked by an account of the platform team."""

from __future__ import annotations

import os
import secrets as random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
import requests

from scripts import own_secrets
from scripts.access import Access
from scripts.repository import ROOT
from scripts.row import Row
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
SERVE = """
from airflow.__main__ import main
sys.argv = ["airflow", "api-server", "--host", "127.0.0.1", "--port", sys.argv[2]]
main()
"""


@pytest.fixture
def airflow(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Access, str]]:
    """An Airflow with the platform's roles, and the URI of its database."""
    home, port = tmp_path_factory.mktemp("airflow"), free_port()
    database = postgres.create_database()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": f"{ROOT}/airflow:{ROOT}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.replace(
            "postgresql:", "postgresql+psycopg2:"
        ),
        "AIRFLOW__CORE__AUTH_MANAGER": FAB,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__API_AUTH__JWT_SECRET": random.token_urlsafe(64),
        "AIRFLOW__API__SECRET_KEY": random.token_urlsafe(64),
        "AIRFLOW__API__WORKERS": "1",
    }
    with (home / "log").open("wb") as log:
        # In one process: each that imports Airflow takes seconds.
        server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SEED + SERVE, PASSWORD, str(port)],
            env=environment, cwd=home, stdout=log, stderr=log,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    names = {"AIRFLOW_URL": address, "AIRFLOW_USERNAME": "team", "AIRFLOW_PASSWORD": PASSWORD}
    try:
        answers(f"{address}/api/v2/version", server, home / "log")
        yield Access(names), database
    finally:
        server.terminate()
        server.wait(30)


def answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while server.poll() is None and time.monotonic() < deadline:
        try:
            requests.get(url, timeout=5).raise_for_status()
            return
        except requests.RequestException:
            time.sleep(0.2)
    pytest.fail(f"no answer: {log.read_text()[-3000:]}")


def test_names_are_shown_and_no_value(airflow: tuple[Access, str]) -> None:
    platform, database = airflow
    nothing = "no secret in Airflow's own database"
    assert list(own_secrets.secrets(platform)) == [
        Row("connections", nothing, well=True),
        Row("variables", nothing, well=True),
    ]
    with psycopg.connect(database) as filled:
        filled.execute(
            "INSERT INTO connection (conn_id, conn_type, password, is_encrypted,"
            " is_extra_encrypted) SELECT 'c' || to_char(n, 'FM000'), 'http', %s, false, false"
            " FROM generate_series(0, 119) n",
            [PASSWORD],
        )
        filled.execute(
            "INSERT INTO variable (key, val, is_encrypted)"
            " VALUES ('year', '2026', false), ('api_key', %s, false)",
            [PASSWORD],
        )
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
