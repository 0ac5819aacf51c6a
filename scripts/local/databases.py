"""The local PostgreSQL: databases, and for each job a role with no more than it needs.

In production the databases are there already; docs/runbook.md lists the same roles and grants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from scripts.local.home import ADDRESS, PORTS, kept

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT = PORTS["PostgreSQL"][0]
SOURCES = ("hr", "records", "service_desk")
DATABASES = (*SOURCES, "airflow", "superset", "warehouse")
# Their own programs make the schema of these.
MIGRATED = ("airflow", "superset")
SUPERSET_JOBS = ("web", "dashboards")
# What the analysts' template loads by dlt, each into schemas of its own.
LOADS = ("library", "lists", "moodle")
AIRFLOW_JOBS = ("webserver", "scheduler", "dag-processor", "triggerer")

# A database's own objects belong to its owner; everyone else is given what is named here.
# `{role}` and `{database}` are identifiers, filled in by psycopg.
CONNECT = "GRANT CONNECT ON DATABASE {database} TO {role};"
READ = """
GRANT USAGE ON SCHEMA public TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT ON TABLES TO {role};
"""
# Rows, but never the schema: only the migration may change that. Set before it makes the tables;
# it then takes accounts and connections out again (frame.rights.guard).
READ_AND_WRITE = """
GRANT USAGE ON SCHEMA public TO {role};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public
  GRANT USAGE, SELECT ON SEQUENCES TO {role};
"""
# Which rows it may delete the migration says (harmattan.clean). `airflow db clean` puts them into a
# table before, which PostgreSQL makes in the schema of the role's own name.
CLEAN = """
GRANT USAGE ON SCHEMA public TO {role};
CREATE SCHEMA IF NOT EXISTS {role} AUTHORIZATION {role};
"""
# What pg_dump needs and no more: it reads everything and writes nothing.
BACK_UP = "GRANT pg_read_all_data TO {role};"
# Queries of pipeline files: a login of their own, so that no other role's rights are near.
CHECK = "GRANT warehouse_readers TO {role};"
LOAD = "GRANT CREATE ON DATABASE {database} TO {role};"
ANALYSE = """
GRANT TEMPORARY ON DATABASE {database} TO {role};
GRANT warehouse_readers TO {role};
CREATE SCHEMA IF NOT EXISTS marts AUTHORIZATION {role};
-- Models are built and tested here, as a role that reads what is published and reaches no mart;
-- the analysts' role then moves a mart to where readers look.
GRANT marts_builder TO {role};
CREATE SCHEMA IF NOT EXISTS marts_build AUTHORIZATION marts_builder;
ALTER SCHEMA marts_build OWNER TO marts_builder;
-- The loads make the analysts' views again on what they publish, as the analysts: nobody else may.
ALTER ROLE {loader} NOINHERIT;
GRANT {role} TO {loader};
"""
# A load by dlt has two schemas for the analysts' role to fill; models and checks read the first.
LOAD_SCHEMAS = """
CREATE SCHEMA IF NOT EXISTS load_{name} AUTHORIZATION {role};
CREATE SCHEMA IF NOT EXISTS load_{name}_staging AUTHORIZATION {role};
GRANT USAGE ON SCHEMA load_{name} TO warehouse_readers;
ALTER DEFAULT PRIVILEGES FOR ROLE {role} IN SCHEMA load_{name}
  GRANT SELECT ON TABLES TO warehouse_readers;
"""
# A container that loads what no pipeline does: schemas of its own, of which readers see the first;
# the others have what it tries, and where it stands.
CONTAIN = """
GRANT TEMPORARY ON DATABASE {database} TO {role};
CREATE SCHEMA IF NOT EXISTS meltano AUTHORIZATION {role};
CREATE SCHEMA IF NOT EXISTS meltano_dev AUTHORIZATION {role};
CREATE SCHEMA IF NOT EXISTS meltano_state AUTHORIZATION {role};
GRANT USAGE ON SCHEMA meltano TO warehouse_readers;
ALTER DEFAULT PRIVILEGES FOR ROLE {role} IN SCHEMA meltano
  GRANT SELECT ON TABLES TO warehouse_readers;
"""
# Who looks at dashboards: the marts and nothing else, for a short time each. New ones as well, if
# the analysts' role makes them.
LOOK = """
GRANT USAGE ON SCHEMA marts TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA marts TO {role};
-- A mart brings its rights along from where it was built, a schema that this role cannot enter.
ALTER DEFAULT PRIVILEGES FOR ROLE marts_builder IN SCHEMA marts_build
  GRANT SELECT ON TABLES TO {role};
ALTER DEFAULT PRIVILEGES FOR ROLE {analyst} IN SCHEMA marts
  GRANT SELECT ON TABLES TO {role};
ALTER ROLE {role} CONNECTION LIMIT 10;
ALTER ROLE {role} SET search_path = marts;
ALTER ROLE {role} SET default_transaction_read_only = on;
ALTER ROLE {role} SET statement_timeout = '30s';
ALTER ROLE {role} SET lock_timeout = '5s';
ALTER ROLE {role} SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE {role} SET idle_session_timeout = '10min';
"""
# Who looks at how the pipelines went: `ops` and nothing else, for a short time each. The loads make
# its tables.
REPORT = """
CREATE SCHEMA IF NOT EXISTS ops AUTHORIZATION {loader};
GRANT USAGE ON SCHEMA ops TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA ops TO {role};
ALTER DEFAULT PRIVILEGES FOR ROLE {loader} IN SCHEMA ops GRANT SELECT ON TABLES TO {role};
ALTER ROLE {role} CONNECTION LIMIT 10;
ALTER ROLE {role} SET search_path = pg_catalog;
ALTER ROLE {role} SET default_transaction_read_only = on;
ALTER ROLE {role} SET statement_timeout = '5s';
ALTER ROLE {role} SET lock_timeout = '2s';
"""


@dataclass(frozen=True)
class Role:
    """A login of one database and the grants that make it."""

    name: str
    database: str
    grants: str = ""

    @property
    def uri(self) -> str:
        """Return the connection URI, the password in it."""
        password = kept(f"database-{self.name}")
        return f"postgresql://{self.name}:{password}@{ADDRESS}:{PORT}/{self.database}"


def owner(database: str, prefix: str = "") -> Role:
    """Return the role that owns ``database``: of Airflow's and Superset's, what migrates it."""
    suffix = "migrate" if database in MIGRATED else "owner"
    return Role(f"{prefix}{database}_{suffix}", f"{prefix}{database}")


def roles(prefix: str = "") -> Iterator[Role]:
    """Yield every role of the environment whose names begin with ``prefix``."""
    for database in DATABASES:
        yield owner(database, prefix)
    yield Role(f"{prefix}observer", "postgres")
    for name, database, grants in _grants():
        yield Role(f"{prefix}{name}", f"{prefix}{database}", grants)


def _grants() -> Iterator[tuple[str, str, str]]:
    """Yield each role that owns nothing, its database and what makes it."""
    for database in DATABASES:
        yield f"{database}_backup", database, BACK_UP
    for source in SOURCES:
        yield f"{source}_ingest", source, READ
    for job in AIRFLOW_JOBS:
        yield f"airflow_{job.replace('-', '_')}", "airflow", READ_AND_WRITE
    yield "airflow_clean", "airflow", CLEAN
    for job in SUPERSET_JOBS:
        yield f"superset_{job}", "superset", READ_AND_WRITE
    yield "warehouse_loader", "warehouse", LOAD
    yield "warehouse_checks", "warehouse", CHECK
    loads = "".join(LOAD_SCHEMAS.replace("{name}", load) for load in LOADS)
    yield "warehouse_analyst", "warehouse", ANALYSE + loads
    yield "service_desk_meltano", "service_desk", READ
    yield "warehouse_meltano", "warehouse", CONTAIN
    yield "bi", "warehouse", LOOK
    yield "warehouse_report", "warehouse", REPORT


def role(name: str, prefix: str = "") -> Role:
    """Return the role called ``name`` in the environment of ``prefix``."""
    return next(found for found in roles(prefix) if found.name == f"{prefix}{name}")


def superuser(database: str) -> str:
    """Return the superuser's connection URI of ``database``."""
    return f"postgresql://postgres:{kept('postgres')}@{ADDRESS}:{PORT}/{database}"


def create(prefix: str = "") -> None:
    """Create what is missing of an environment's databases, roles and grants; can be repeated."""
    with psycopg.connect(superuser("postgres"), autocommit=True, connect_timeout=10) as connection:
        there = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        if "warehouse_readers" not in there:
            connection.execute("CREATE ROLE warehouse_readers NOLOGIN")
        if "marts_builder" not in there:
            connection.execute("CREATE ROLE marts_builder NOLOGIN IN ROLE warehouse_readers")
        for wanted in roles(prefix):
            verb = "ALTER" if wanted.name in there else "CREATE"
            connection.execute(
                sql.SQL(verb + " ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(wanted.name), sql.Literal(kept(f"database-{wanted.name}"))
                )
            )
        found = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        owners = {f"{prefix}{name}": owner(name, prefix).name for name in DATABASES}
        for database, its_owner in owners.items():
            if database not in found:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(
                        sql.Identifier(database), sql.Identifier(its_owner)
                    )
                )
            connection.execute(
                sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database))
            )
    for wanted in roles(prefix):
        with psycopg.connect(superuser(wanted.database), connect_timeout=10) as connection:
            connection.execute(
                sql.SQL(CONNECT + wanted.grants)
                .format(
                    database=sql.Identifier(wanted.database),
                    role=sql.Identifier(wanted.name),
                    owner=sql.Identifier(owners.get(wanted.database, "postgres")),
                    loader=sql.Identifier(f"{prefix}warehouse_loader"),
                    analyst=sql.Identifier(f"{prefix}warehouse_analyst"),
                )
            )  # fmt: skip


def fill(scale: float = 1.0, seed: int = 7, prefix: str = "") -> None:
    """Load the school's data into the three sources of an environment, unless it is there.

    What an older edition of the generator loaded is replaced; the default privileges that
    ``create`` sets give the jobs the same grants on the new tables.
    """
    from standins.school.load import Mark, load

    for source in SOURCES:
        with psycopg.connect(owner(source, prefix).uri, connect_timeout=10) as connection:
            outdated = Mark(source, scale, seed).replaces(Mark.read(connection.cursor()))
            load(connection, source, scale=scale, seed=seed, replace=outdated)
