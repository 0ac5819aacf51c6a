"""A warehouse with the school in it, and a role of few rights that builds the template's models."""

from __future__ import annotations

import json
import secrets
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from ingest import contract, run
from ingest.connections import Entry
from ingest.job import Job
from scripts import environments
from standins.school.load import DATABASES, load
from tests.airflow.loading import connect, dlt_settings, library, mariadb, warehouse
from tests.ingest.world import as_role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer

__all__ = ["connect", "dlt_settings", "library", "mariadb", "warehouse"]

TEMPLATE = Path(__file__).parents[3] / "airflow" / "analysts-template"
MARTS = sorted(path.stem for path in (TEMPLATE / "models/marts").glob("*/*.sql"))
SCHEMA = "marts_build"
SCALE, SEED = 0.02, 7
RIGHTS = """
    CREATE SCHEMA {schema} AUTHORIZATION {role};
    GRANT USAGE ON SCHEMA raw_records, raw_hr, raw_service_desk, ops TO {role};
    GRANT SELECT ON ALL TABLES IN SCHEMA raw_records, raw_hr, raw_service_desk, ops TO {role};
"""

# One department of two people who were paid in October, one of five, and one of all others.
DEPARTMENTS = """
    UPDATE employees SET department_id = 3;
    WITH paid AS (SELECT employee_id, row_number() OVER (ORDER BY employee_id) AS place
                  FROM payroll WHERE month = '2026-10-01')
    UPDATE employees SET department_id = CASE WHEN place <= 2 THEN 1 ELSE 2 END
    FROM paid WHERE id = employee_id AND place <= 7;
"""


@dataclass
class Models:
    """A warehouse with the school in it, and the role that builds there and has no other right."""

    server: PostgresServer
    warehouse: str  # URIs of the superuser
    sources: dict[str, str]
    role: str
    password: str
    home: Path
    said: str = ""  # by the build of the fixture

    @property
    def name(self) -> str:
        return self.warehouse.rpartition("/")[2]

    @property
    def nodes(self) -> dict[str, dict[str, Any]]:
        """What dbt knows of each mart, by its name."""
        manifest = json.loads((self.home / "target/manifest.json").read_text())
        known = {node["name"]: node for node in manifest["nodes"].values()}
        return {name: known[name] for name in MARTS}

    def dbt(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run dbt with nothing else in its environment."""
        return subprocess.run(
            [environments.ensure("dbt") / "bin/dbt", "--no-use-colors", *words],
            cwd=TEMPLATE,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self.home),
                "DBT_TARGET_PATH": str(self.home / "target"),
                "DBT_LOG_PATH": str(self.home / "logs"),
                "MODELS_HOST": "127.0.0.1",
                "MODELS_PORT": str(self.server.port),
                "MODELS_USER": self.role,
                "DBT_ENV_SECRET_MODELS_PASSWORD": self.password,
                "MODELS_DATABASE": self.name,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def rows(self, query: str, source: str = "") -> list[tuple[Any, ...]]:
        """Return what ``query`` finds in the warehouse or in a source."""
        with psycopg.connect(self.sources[source] if source else self.warehouse) as connection:
            connection.execute("SET TimeZone TO 'UTC'")
            connection.execute(f"SET search_path TO {'public' if source else SCHEMA}")
            return connection.execute(query.encode()).fetchall()

    @contextmanager
    def another(self, statements: str, *, empty: bool = False) -> Iterator[None]:
        """Put a changed copy of the warehouse, or an empty one, into its place for a while.

        dbt reads the whole project again whenever the database has another name.
        """
        here, aside = sql.Identifier(self.name), sql.Identifier(f"{self.name}_aside")
        with psycopg.connect(self.server.uri(), autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(here, aside))
            template = sql.Identifier("template0") if empty else aside
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(here, template))
            with psycopg.connect(self.warehouse) as copy:
                copy.execute(statements.encode())
            yield
            connection.execute(sql.SQL("DROP DATABASE {}").format(here))
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(aside, here))


@pytest.fixture(scope="module")
def models(
    postgres: PostgresServer, roles: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Models:
    warehouse = postgres.create_database()
    checks = as_role(warehouse, "ingest_checks", roles["ingest_checks"])
    targets = {"warehouse": warehouse, "warehouse_checks": checks}
    sources = {name: postgres.create_database() for name in DATABASES}
    for name, uri in sources.items():
        with psycopg.connect(uri) as connection:
            load(connection, name, SCALE, SEED)
            if name == "hr":
                connection.execute(DEPARTMENTS)
        pipeline = contract.read(TEMPLATE / f"pipelines/{name}.yaml")

        def resolve(which: str, uri: str = uri) -> Entry:
            return Entry(which, "postgresql", targets.get(which, uri))

        run.run(Job(pipeline, name, "test", resolve))
    role, password = f"models_{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    with psycopg.connect(warehouse) as connection:
        names = {"role": sql.Identifier(role), "schema": sql.Identifier(SCHEMA)}
        create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        connection.execute(create.format(names["role"], sql.Literal(password)))
        connection.execute(sql.SQL(RIGHTS).format(**names))
    home = tmp_path_factory.mktemp("dbt")
    built = Models(postgres, warehouse, sources, role, password, home)
    done = built.dbt("build")
    assert done.returncode == 0, done.stdout + done.stderr
    built.said = done.stdout
    return built
