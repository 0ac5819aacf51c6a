"""Runs dbt as a child: it is given one database, one folder to write into, and a limit.

It ends with whoever started it: what it still wrote afterwards would stand beside what a later run
has tested.
"""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import yaml
from psycopg import sql

from frame.failure import without_passwords
from transform.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# The template's project takes 12 s on two cores; beyond this something hangs.
LIMIT = 1800.0  # seconds
BUILD_SCHEMA = "marts_build"
MARTS_SCHEMA = "marts"
# Whose rights dbt has: the schema of builds, and reading what the pipelines publish.
BUILDER = "marts_builder"
PROFILE = "harmattan"
APPLICATION = "harmattan models: dbt"  # what DBAs see in pg_stat_activity
# What an earlier run left: its sessions, if its process was killed, and what it built.
_END_SESSIONS: LiteralString = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE usename = current_user AND datname = current_database() AND application_name = %s
"""
_LEFT: LiteralString = """
SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, relname
FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p', 'v', 'm')
"""
_EMPTY: LiteralString = """
SELECT name FROM unnest(%s::text[]) AS name WHERE NOT EXISTS (
  SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
  WHERE nspname = name AND relkind IN ('r', 'p', 'v', 'm'))
"""


@dataclass(frozen=True)
class Database:
    """Where the models are built, as libpq's parameters; never printed."""

    parameters: Mapping[str, Any] = field(repr=False)

    def environment(self, schema: str) -> dict[str, str]:
        """Return what a profile reads; ``schema`` is where models land.

        The project's own profiles.yml may read the same variables, and is for a desk: here the
        platform's is used, so that no project chooses its schema, role or search path.
        """
        known = {
            "MODELS_HOST": "host",
            "MODELS_PORT": "port",
            "MODELS_USER": "user",
            "MODELS_DATABASE": "dbname",
            "MODELS_SSLMODE": "sslmode",
            "MODELS_SSLROOTCERT": "sslrootcert",
        }
        given = {
            variable: str(self.parameters[name])
            for variable, name in known.items()
            if self.parameters.get(name) not in (None, "")
        }
        return {**given, "MODELS_SCHEMA": schema}

    @contextmanager
    def password_file(self) -> Iterator[Path]:
        """Yield a file of libpq's form with the password, there for the block and for us alone.

        An environment is for every process of the same user to read; so dbt knows no password.
        """
        password = str(self.parameters.get("password") or "")
        with TemporaryDirectory(prefix="harmattan-dbt-") as folder:
            file = Path(folder) / "pgpass"
            file.touch(mode=0o600)
            escaped = password.replace("\\", "\\\\").replace(":", "\\:")
            file.write_text(f"*:*:*:*:{escaped}\n" if password else "")
            yield file


@dataclass(frozen=True)
class Project:
    """A dbt project: its ``folder``, which is only read, and the program.

    ``artefacts`` is the folder that dbt writes into: manifest, results, compiled SQL, its log.
    """

    folder: Path
    dbt: Path
    artefacts: Path

    def run(
        self,
        words: list[str],
        database: Database,
        schema: str,
        *,
        limit: float = LIMIT,
        say: Callable[[str], None] = lambda _line: None,
    ) -> int:
        """Run dbt on ``schema`` of the database and return its exit code; ``say`` hears each line.

        Raises BuildError after ``limit`` seconds, with dbt ended.
        """
        with database.password_file() as file:
            environment = {**database.environment(schema), "PGPASSFILE": str(file)}
            return self._run(words, environment, limit=limit, say=say)

    def _run(
        self,
        words: list[str],
        environment: Mapping[str, str],
        *,
        limit: float,
        say: Callable[[str], None],
    ) -> int:
        profiles = self.artefacts / "profiles"
        profiles.mkdir(parents=True, exist_ok=True)
        (profiles / "profiles.yml").write_text(yaml.safe_dump(_profile()))
        with subprocess.Popen(
            # In the process group of the task, which Airflow ends, and never beyond its parent.
            ["setpriv", "--pdeathsig", "KILL", self.dbt, "--no-use-colors", *words,
             "--project-dir", self.folder, "--profiles-dir", profiles, "--profile", PROFILE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=self.artefacts,
            env={
                "PATH": f"{self.dbt.parent}:/usr/bin:/bin",
                "HOME": str(self.artefacts),
                "LANG": "C.UTF-8",
                "DBT_TARGET_PATH": str(self.artefacts),
                "DBT_LOG_PATH": str(self.artefacts / "logs"),
                **environment,
            },
        ) as child:  # fmt: skip
            lines = child.stdout or ()  # never empty: it is a pipe
            late = threading.Event()

            def end() -> None:
                late.set()
                child.kill()

            timer = threading.Timer(limit, end)
            timer.start()
            try:
                for line in lines:
                    say(without_passwords(line.rstrip("\n")))
                code = child.wait()
            except BaseException:
                child.kill()
                raise
            finally:
                timer.cancel()
        if late.is_set():
            raise BuildError(
                f"dbt {words[0]}: expected it to end within {limit:.0f} s, found it at work",
                "Look in its log for the model that takes so long, and for what it waits for.",
            )
        return code

    def read(self, name: str) -> dict[str, Any]:
        """Return one of dbt's artefacts, such as ``manifest.json``. Raises BuildError."""
        try:
            found: dict[str, Any] = json.loads((self.artefacts / name).read_text())
        except (OSError, ValueError):
            raise BuildError(
                f"the dbt project {self.folder.name}: expected {name}, found none",
                "Its log says why dbt ended before: a model or a file that it cannot read, or a"
                " warehouse that it cannot log in to.",
            ) from None
        return found


def _profile() -> dict[str, Any]:
    """Return the platform's profile: every value of the environment, and no secret in it."""
    warehouse = {
        "type": "postgres",
        "host": "{{ env_var('MODELS_HOST') }}",
        "port": "{{ env_var('MODELS_PORT', '5432') | as_number }}",
        "user": "{{ env_var('MODELS_USER') }}",
        "password": "",  # libpq then reads PGPASSFILE
        "dbname": "{{ env_var('MODELS_DATABASE') }}",
        "schema": "{{ env_var('MODELS_SCHEMA') }}",
        "sslmode": "{{ env_var('MODELS_SSLMODE', 'prefer') }}",
        "sslrootcert": "{{ env_var('MODELS_SSLROOTCERT', '') }}",
        "role": BUILDER,
        "application_name": APPLICATION,
        "search_path": "pg_catalog",
        "threads": 2,
    }
    return {PROFILE: {"target": "warehouse", "outputs": {"warehouse": warehouse}}}


def expect_loaded(connection: psycopg.Connection[Any], schemas: Sequence[str]) -> None:
    """Raise BuildError if one of ``schemas`` has no table yet, which dbt takes seconds to find."""
    found = connection.execute(_EMPTY, [list(schemas)]).fetchall()
    if empty := [schema for (schema,) in found]:
        raise BuildError(
            f"the warehouse: expected tables in {', '.join(empty)}, found none",
            "Its pipeline starts the models as soon as it has published; look whether it runs.",
        )


def clear(connection: psycopg.Connection[Any]) -> None:
    """End what is left of an earlier run and empty the schema of builds. Raises psycopg.Error."""
    connection.execute(_END_SESSIONS, [APPLICATION])
    for kind, name in connection.execute(_LEFT, [BUILD_SCHEMA]).fetchall():
        connection.execute(
            sql.SQL("DROP {} IF EXISTS {} CASCADE").format(
                sql.SQL(kind), sql.Identifier(BUILD_SCHEMA, name)
            )
        )


def build(
    project: Project,
    database: Database,
    *,
    limit: float = LIMIT,
    say: Callable[[str], None] = lambda _line: None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build and test everything in the schema of builds; return dbt's manifest and its results.

    The schema is to be cleared before. Models and tests that fail stand in the results. Raises
    BuildError if there are none.
    """
    for stale in ("manifest.json", "run_results.json"):
        (project.artefacts / stale).unlink(missing_ok=True)
    project.run(["build"], database, BUILD_SCHEMA, limit=limit, say=say)
    return project.read("manifest.json"), project.read("run_results.json")


def document(project: Project, database: Database) -> Path:
    """Write the project's page of documentation and lineage, one HTML file; return its path.

    It shows what readers have, so it comes after publishing. Raises BuildError.
    """
    # In a folder of its own: it writes another manifest, of the schema of readers.
    beside = Project(project.folder, project.dbt, project.artefacts / "docs")
    lines: list[str] = []
    code = beside.run(["docs", "generate", "--static"], database, MARTS_SCHEMA, say=lines.append)
    page = beside.artefacts / "static_index.html"
    if code or not page.exists():
        raise BuildError(
            f"dbt docs: expected its page, found exit code {code}: {' '.join(lines[-3:])}",
            "The marts are published all the same; run the models again for the page.",
        )
    return page
