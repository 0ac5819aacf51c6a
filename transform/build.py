"""Runs dbt as a child: it is given one database, one folder to write into, and a limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from frame.failure import without_passwords
from transform.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# The template's project takes 8 s on two cores; beyond this something hangs.
LIMIT = 1800.0  # seconds
BUILD_SCHEMA = "marts_build"
MARTS_SCHEMA = "marts"
# dbt hides what such a variable holds in all that it writes.
PASSWORD = "DBT_ENV_SECRET_MODELS_PASSWORD"  # noqa: S105


@dataclass(frozen=True)
class Database:
    """Where the models are built, as libpq's parameters; never printed."""

    parameters: Mapping[str, Any] = field(repr=False)

    def environment(self, schema: str) -> dict[str, str]:
        """Return what the project's profiles.yml reads; ``schema`` is where models land."""
        known = {
            "MODELS_HOST": "host",
            "MODELS_PORT": "port",
            "MODELS_USER": "user",
            "MODELS_DATABASE": "dbname",
            "MODELS_SSLMODE": "sslmode",
            PASSWORD: "password",
        }
        given = {
            variable: str(self.parameters[name])
            for variable, name in known.items()
            if self.parameters.get(name) not in (None, "")
        }
        return {**given, "MODELS_SCHEMA": schema}


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
        environment: Mapping[str, str],
        *,
        limit: float = LIMIT,
        say: Callable[[str], None] = lambda _line: None,
    ) -> int:
        """Run dbt and return its exit code; ``say`` hears each line.

        Raises BuildError after ``limit`` seconds, with everything ended that dbt started.
        """
        self.artefacts.mkdir(parents=True, exist_ok=True)
        with subprocess.Popen(
            [self.dbt, "--no-use-colors", *words,
             "--project-dir", self.folder, "--profiles-dir", self.folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=self.artefacts,
            start_new_session=True,
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
                os.killpg(child.pid, signal.SIGKILL)

            timer = threading.Timer(limit, end)
            timer.start()
            try:
                for line in lines:
                    say(without_passwords(line.rstrip("\n")))
                code = child.wait()
            except BaseException:
                os.killpg(child.pid, signal.SIGKILL)
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
                "Its log says why dbt ended before: a model or a file that it cannot read.",
            ) from None
        return found


def build(
    project: Project,
    database: Database,
    *,
    limit: float = LIMIT,
    say: Callable[[str], None] = lambda _line: None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build and test everything in the schema of builds; return dbt's manifest and its results.

    Models and tests that fail stand in the results. Raises BuildError if there are none.
    """
    for stale in ("manifest.json", "run_results.json"):
        (project.artefacts / stale).unlink(missing_ok=True)
    project.run(["build"], database.environment(BUILD_SCHEMA), limit=limit, say=say)
    return project.read("manifest.json"), project.read("run_results.json")


def document(project: Project, database: Database) -> Path:
    """Write the project's page of documentation and lineage, one HTML file; return its path.

    It shows what readers have, so it comes after publishing. Raises BuildError.
    """
    # In a folder of its own: it writes another manifest, of the schema of readers.
    beside = Project(project.folder, project.dbt, project.artefacts / "docs")
    lines: list[str] = []
    code = beside.run(
        ["docs", "generate", "--static"], database.environment(MARTS_SCHEMA), say=lines.append
    )
    page = beside.artefacts / "static_index.html"
    if code or not page.exists():
        raise BuildError(
            f"dbt docs: expected its page, found exit code {code}: {' '.join(lines[-3:])}",
            "The marts are published all the same; run the models again for the page.",
        )
    return page
