"""A Superset of the test run's own, as the image starts it, on a PostgreSQL with real roles."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import requests
from psycopg import sql

from scripts.environments import ensure
from scripts.local import databases
from scripts.repository import ROOT
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.conftest import PostgresServer

ADMINISTRATOR = "admin"
# By role: the account that a test logs in as.
PEOPLE = {"leadership": "head", "analysts": "analyst", "Admin": "operator"}


def make_warehouse(server: PostgresServer, name: str, bi: str, analyst: str) -> str:
    """Make a warehouse of the platform's own grants, with one mart; return a password of ``bi``."""
    password = secrets.token_urlsafe(12)
    with psycopg.connect(server.uri(), autocommit=True) as connection:
        for role in (bi, analyst, "warehouse_loader", "marts_builder"):
            there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
            if not there.fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(bi), sql.Literal(password))
        )
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
        )
        connection.execute(
            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name))
        )
    with psycopg.connect(server.uri(name)) as connection:
        connection.execute(
            sql.SQL(
                "CREATE SCHEMA marts AUTHORIZATION {0};"
                "CREATE SCHEMA marts_build AUTHORIZATION marts_builder;"
                "GRANT marts_builder TO {0}; GRANT {0} TO CURRENT_USER"
            ).format(sql.Identifier(analyst))
        )
        connection.execute(
            sql.SQL(databases.CONNECT + databases.LOOK).format(
                role=sql.Identifier(bi),
                database=sql.Identifier(name),
                analyst=sql.Identifier(analyst),
            )
        )
        connection.execute("SET ROLE marts_builder")
        connection.execute(
            # As models are published.
            "CREATE TABLE marts_build.enrolment (year int, programme text, students int);"
            "INSERT INTO marts_build.enrolment SELECT 2020 + g % 5, 'P' || g % 3, g"
            " FROM generate_series(1, 60) g; CREATE TABLE marts_build.unfinished (a int);"
            "RESET ROLE"
        )
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(analyst)))
        connection.execute(
            "ALTER TABLE marts_build.enrolment SET SCHEMA marts; RESET ROLE;"
            "CREATE SCHEMA raw_hr; CREATE TABLE raw_hr.employees (name text);"
            "CREATE SCHEMA ops; CREATE TABLE ops.runs (id int)"
        )
    return password


@dataclass
class Service:
    """Superset's files, environment and address."""

    home: Path
    server: PostgresServer
    database: str
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    warehouse: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def role(self, name: str) -> str:
        """Return what a role of the platform is called on this test's server."""
        return f"{self.database}_{name}"

    def environment(self, **changes: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "PYTHONSAFEPATH": "1",
            "SUPERSET_CONFIG_PATH": str(ROOT / "dashboards/superset_config.py"),
            "SUPERSET_HOME": str(self.home / "superset"),
            "DASHBOARDS_CACHE": str(self.home / "cache"),
            "DASHBOARDS_METADATA_URI_FILE": str(self.home / "web"),
            "DASHBOARDS_SECRET_KEY_FILE": str(self.home / "key"),
            "DASHBOARDS_WAREHOUSE_URI_FILE": str(self.home / "warehouse"),
            "DASHBOARDS_PLAIN_HTTP": "1",
            "DASHBOARDS_WEB_ROLE": self.role("web"),
            **changes,
        }

    def run(self, *words: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run the command ``dashboards`` as the image does, with what its job has."""
        own = {"DASHBOARDS_METADATA_URI_FILE": str(self.home / "dashboards"), **changes}
        return subprocess.run(
            [ensure("superset") / "bin/python", "-m", "dashboards", *words],
            env=self.environment(**own), cwd=self.home, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip

    def migrate(self) -> subprocess.CompletedProcess[str]:
        return self.run(
            "migrate",
            DASHBOARDS_METADATA_URI_FILE=str(self.home / "migrate"),
            DASHBOARDS_ADMIN_FILE=str(self.home / "admin.json"),
        )

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask Superset's own database, as its superuser."""
        with psycopg.connect(self.server.uri(self.database)) as connection:
            cursor = connection.execute(statement, values)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def login(self, user: str) -> Session:
        return Session(self.url, user, self.password)

    def log(self) -> str:
        return (self.home / "log").read_text()


class Session(requests.Session):
    """Somebody's browser: logged in by the form, with the token against forged requests."""

    def __init__(self, url: str, user: str, password: str) -> None:
        super().__init__()
        self.base = url
        page = self.get(f"{url}/login/", timeout=60).text
        (token,) = re.findall(r'id="csrf_token"\s+value="([^"]+)"', page)
        done = self.post(
            f"{url}/login/",
            data={"username": user, "password": password, "csrf_token": token},
            allow_redirects=False,
            timeout=60,
        )
        assert done.status_code == 302, done.text[:500]
        assert "/login" not in done.headers["Location"], f"{user} was not let in"
        answer = self.get(f"{url}/api/v1/security/csrf_token/", timeout=60)
        if answer.ok:
            self.headers["X-CSRFToken"] = answer.json()["result"]
            self.headers["Referer"] = url

    def call(self, method: str, path: str, **how: Any) -> requests.Response:
        return self.request(method, f"{self.base}{path}", allow_redirects=False, timeout=120, **how)


def _prepare(service: Service) -> None:
    server, name = service.server, service.database
    owner, jobs = service.role("migrate"), ("web", "dashboards")
    with psycopg.connect(server.uri(), autocommit=True) as connection:
        for role in (owner, *map(service.role, jobs)):
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(role), sql.Literal(service.password)
                )
            )
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(
                sql.Identifier(name), sql.Identifier(owner)
            )
        )
    with psycopg.connect(server.uri(name)) as connection:
        for role in map(service.role, jobs):
            connection.execute(
                sql.SQL(databases.CONNECT + databases.READ_AND_WRITE).format(
                    role=sql.Identifier(role),
                    owner=sql.Identifier(owner),
                    database=sql.Identifier(name),
                )
            )
    warehouse = service.role("warehouse")
    bi = service.role("bi")
    service.warehouse = make_warehouse(server, warehouse, bi, service.role("analyst"))
    at = f"127.0.0.1:{server.port}"
    for job in ("migrate", *jobs):
        uri = f"postgresql://{service.role(job)}:{service.password}@{at}/{name}\n"
        (service.home / job).write_text(uri)
    (service.home / "warehouse").write_text(
        f"postgresql://{bi}:{service.warehouse}@{at}/{warehouse}"
    )
    (service.home / "key").write_text(service.key)
    (service.home / "admin.json").write_text(
        json.dumps({"username": ADMINISTRATOR, "password": service.password})
    )


def add_people(query: Callable[..., object], people: Mapping[str, str]) -> None:
    """Give each role its account, by copying the administrator's; they have the same password.

    ``query`` runs a statement with its values in Superset's own database.
    """
    for role, user in people.items():
        query(
            "INSERT INTO ab_user (id, first_name, last_name, username, email, password, active,"
            " created_on, changed_on)"
            " SELECT nextval('ab_user_id_seq'), %s, %s, %s, %s, password, true, now(), now()"
            " FROM ab_user WHERE username = %s",
            user, user, user, f"{user}@localhost", ADMINISTRATOR,
        )  # fmt: skip
        query(
            "INSERT INTO ab_user_role (id, user_id, role_id)"
            " SELECT nextval('ab_user_role_id_seq'), u.id, r.id FROM ab_user u, ab_role r"
            " WHERE u.username = %s AND r.name = %s",
            user, role,
        )  # fmt: skip


@contextmanager
def started(service: Service, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run gunicorn as the image does, but for the address."""
    with (service.home / "log").open("ab") as log:
        process = subprocess.Popen(
            [ensure("superset") / "bin/gunicorn",
             "--config", ROOT / "dashboards/gunicorn_config.py",
             "--bind", f"127.0.0.1:{service.port}", "superset.app:create_app()"],
            env=service.environment(**changes), cwd=service.home, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            assert process.poll() is None, service.log()[-3000:]
            try:
                if requests.get(f"{service.url}/health", timeout=60).ok:
                    break
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@contextmanager
def running(
    server: PostgresServer, fill: Callable[[Service], None] = lambda service: None
) -> Iterator[Service]:
    """Run a Superset of its own, migrated, with the people of PEOPLE; ``fill`` its warehouse."""
    home = Path(tempfile.mkdtemp(prefix="harmattan-superset-", dir="/tmp"))
    service = Service(home, server, f"superset_{secrets.token_hex(3)}")
    try:
        _prepare(service)
        with ThreadPoolExecutor() as beside:
            filled = beside.submit(fill, service)
            done = service.migrate()
            filled.result()
        assert done.returncode == 0, done.stderr[-3000:]
        add_people(service.query, PEOPLE)
        with started(service):
            yield service
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def superset(postgres: PostgresServer) -> Iterator[Service]:
    """One Superset for the whole test run."""
    with running(postgres) as service:
        yield service
