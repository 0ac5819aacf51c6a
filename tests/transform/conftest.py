"""A small dbt project and a warehouse with the two schemas that it is built in and read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from scripts import environments
from transform.build import Database, Project

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "dbt_project.yml": """
name: small
profile: small
model-paths: [models]
flags: {send_anonymous_usage_stats: false}
models: {small: {+materialized: table, +persist_docs: {relation: true}}}
""",
    # For a desk: the platform has its own, and this one would publish what no test has seen.
    "profiles.yml": """
small:
  target: one
  outputs:
    one:
      type: postgres
      host: "{{ env_var('MODELS_HOST') }}"
      port: "{{ env_var('MODELS_PORT') | as_number }}"
      user: "{{ env_var('MODELS_USER') }}"
      password: "{{ env_var('DBT_ENV_SECRET_MODELS_PASSWORD', 'none') }}"
      dbname: "{{ env_var('MODELS_DATABASE') }}"
      schema: marts
      threads: 2
""",
    "models/pupils.sql": "select n, 'class ' || n % 2 as class from public.source",
    "models/classes.sql": "select class, count(*) as pupils from {{ ref('pupils') }} group by 1",
    "models/alone.sql": "select 1 as n",
    "models/marts.yml": """
models:
  - name: pupils
    description: One row a pupil.
    columns: [{name: n, data_tests: [unique, not_null]}]
  - name: classes
    description: One row a class.
  - name: alone
    columns: [{name: n, data_tests: [not_null]}]
""",
}


# Of the whole server, which other tests use at the same time.
BUILDER = """
DO $$ BEGIN CREATE ROLE marts_builder NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$
"""


@dataclass
class Small:
    """The project, its warehouse as an owner sees it, and what dbt is given of it."""

    project: Project
    database: Database
    uri: str

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.uri) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def query(self, statement: str) -> list[Any]:
        with psycopg.connect(self.uri) as connection:
            return connection.execute(statement.encode()).fetchall()

    def write(self, name: str, text: str) -> None:
        (self.project.folder / name).write_text(text)


def make_small(home: Path, database: str) -> Small:
    """Write the project into a folder of ``home`` and prepare the empty ``database`` for it."""
    folder = home / "small"
    (folder / "models").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    dbt = environments.ensure("dbt") / "bin/dbt"
    made = Small(
        Project(folder, dbt, home / "artefacts"),
        Database(conninfo_to_dict(database)),
        database,
    )
    made.execute(
        BUILDER, "CREATE SCHEMA marts", "CREATE SCHEMA marts_build AUTHORIZATION marts_builder",
        "CREATE TABLE source AS SELECT generate_series(1, 5) AS n",
        "GRANT SELECT ON source TO marts_builder",
    )  # fmt: skip
    return made


@pytest.fixture
def small(tmp_path: Path, database: str) -> Small:
    return make_small(tmp_path, database)
