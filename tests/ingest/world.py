"""A source and a warehouse with least-privilege roles, as the platform gives them to pipelines."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from ingest import connections, contract, release, run
from ingest.job import Job, Scope

if TYPE_CHECKING:
    from pathlib import Path

    from frame.failure import Failure
    from ingest.release import Loaded
    from ingest.report import Report
    from ingest.staging import Staged
    from tests.conftest import PostgresServer

PIPELINE = """\
source: hr
schema: raw_hr
schedule: "0 2 * * *"
owner: people-analytics
tables:
"""


# A column as it is compared: money arrives as numeric.
SHOWN = (
    "quote_ident(attname) || CASE atttypid WHEN 'money'::regtype THEN '::numeric'"
    " WHEN 'money[]'::regtype THEN '::numeric[]' ELSE '' END"
)


@dataclass(frozen=True)
class World:
    """URIs of the superuser and of the least role, of a source and of a warehouse."""

    source_admin: str
    source: str
    warehouse_admin: str
    warehouse: str
    checks: str
    folder: Path
    hash_key: str = ""

    def file(self, *tables: str, head: str = "") -> Path:
        """Write a pipeline file; each of ``tables`` is a name, or the YAML of a whole rule."""
        rules = [each if each.startswith("name:") else f"name: {each}" for each in tables]
        text = "".join(f"  - {rule.strip()}\n" for rule in rules or ["name: public.*"])
        file = self.folder / "hr.yaml"
        file.write_text(head + PIPELINE + text)
        return file

    def pipeline(self, *tables: str, head: str = "") -> contract.Pipeline:
        return contract.read(self.file(*tables, head=head))

    def resolve(self, connection_id: str) -> connections.Entry:
        if connection_id == "hash_key":
            return connections.Entry("hash_key", "generic", parts={"password": self.hash_key})
        known = {"warehouse": self.warehouse, "warehouse_checks": self.checks}
        uri = known.get(connection_id, self.source)
        return connections.Entry(connection_id, "postgresql", uri)

    def job(self, *tables: str, run_id: str = "", head: str = "") -> Job:
        return Job(
            self.pipeline(*tables, head=head), "hr", run_id or uuid.uuid4().hex, self.resolve
        )

    def run(self, *tables: str, head: str = "", **how: Any) -> Report:
        return run.run(self.job(*tables, head=head), Scope(**how))

    def at_source(self, *statements: str) -> None:
        """Run as superuser, then let the reader read whatever is there."""
        with psycopg.connect(self.source_admin) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.execute("GRANT USAGE ON SCHEMA public TO ingest_reader")
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO ingest_reader")

    def forbid_schemas(self) -> None:
        with psycopg.connect(self.warehouse_admin) as connection:
            connection.execute(
                sql.SQL("REVOKE CREATE ON DATABASE {} FROM ingest_loader").format(
                    sql.Identifier(connection.info.dbname)
                )
            )

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return what the superuser sees in the warehouse."""
        with psycopg.connect(self.warehouse_admin) as connection:
            return connection.execute(query, parameters or None).fetchall()

    def source_rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.source_admin) as connection:
            return connection.execute(query).fetchall()

    def assert_same(self, table: str, published: str) -> None:
        """Every column of every row has the same text on both sides."""
        columns = self.source_rows(
            f"SELECT {SHOWN} FROM pg_attribute WHERE attrelid = '{table}'::regclass"
            " AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
        texts = ", ".join(f"{name}::text" for (name,) in columns)
        query = "SELECT {} FROM {}"
        expected = self.source_rows(query.format(texts, table))
        found = self.rows(query.format(texts, published))
        assert sorted(map(str, found)) == sorted(map(str, expected))


def as_role(uri: str, role: str, password: str) -> str:
    parts = urlsplit(uri)
    return f"postgresql://{role}:{password}@{parts.hostname}:{parts.port}{parts.path}"


def make_roles(postgres: PostgresServer) -> dict[str, str]:
    """Make the roles of a whole server; return the password of each that logs in."""
    password = secrets.token_hex(8)
    with psycopg.connect(postgres.uri(), autocommit=True) as connection:
        there = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
        for role in ("ingest_reader", "ingest_loader", "ingest_checks", "warehouse_readers"):
            name = sql.Identifier(role)
            if role not in there:
                connection.execute(sql.SQL("CREATE ROLE {}").format(name))
            if role != "warehouse_readers":
                connection.execute(
                    sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(name, password)
                )
        # As the runbook makes it: it may act as the analysts, and has none of their rights.
        connection.execute("ALTER ROLE ingest_loader NOINHERIT")
        connection.execute("GRANT warehouse_readers TO ingest_checks")
    return dict.fromkeys(("ingest_reader", "ingest_loader", "ingest_checks"), password)


@pytest.fixture(scope="session")
def roles(postgres: PostgresServer) -> dict[str, str]:
    """The roles of the whole server, and the password of those that log in."""
    return make_roles(postgres)


@pytest.fixture(scope="session")
def pair(postgres: PostgresServer) -> tuple[str, str]:
    """Two databases for all tests of this folder: making new ones takes most of their time."""
    return postgres.create_database(), postgres.create_database()


@pytest.fixture
def world(pair: tuple[str, str], roles: dict[str, str], tmp_path: Path) -> World:
    """Give the test two databases as they were when new."""
    source, warehouse = pair
    for uri in pair:
        with psycopg.connect(uri, autocommit=True) as connection:
            schemas = connection.execute(
                "SELECT nspname FROM pg_namespace"
                " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
            ).fetchall()
            for (schema,) in schemas:
                name = sql.Identifier(schema)
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(name))
            connection.execute("CREATE SCHEMA public")
    with psycopg.connect(warehouse, autocommit=True) as connection:
        connection.execute(
            sql.SQL("GRANT CREATE ON DATABASE {} TO ingest_loader").format(
                sql.Identifier(connection.info.dbname)
            )
        )
    return World(
        source_admin=source,
        source=as_role(source, "ingest_reader", roles["ingest_reader"]),
        warehouse_admin=warehouse,
        warehouse=as_role(warehouse, "ingest_loader", roles["ingest_loader"]),
        checks=as_role(warehouse, "ingest_checks", roles["ingest_checks"]),
        folder=tmp_path,
        hash_key=secrets.token_hex(16),
    )


def stage(
    job: Job, target: psycopg.Connection[Any], scope: Scope | None = None
) -> tuple[list[Staged], dict[str, Failure]]:
    """Do what a run does up to staging."""
    run.prepare(job, target)
    return run.stage(job, target, scope or Scope())


def publish(job: Job, target: psycopg.Connection[Any], tables: list[Staged]) -> list[Loaded]:
    """Publish staged tables in one transaction. Raises Failure."""
    (result,) = release.groups(job, target, [tables])
    if isinstance(result, dict):
        raise next(iter(result.values()))
    return result
