"""The platform's jobs: a file of nomad/jobs, once, or for each bundle, database, source."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backup.registry import load_registry
from backup.settings import REGISTRY
from frame.failure import WrongUse
from scripts.containers import load_containers
from scripts.repository import ROOT
from scripts.sources import load_sources
from scripts.variables import read_variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

JOBS = ROOT / "nomad/jobs"


@dataclass(frozen=True)
class Namespaces:
    """Nomad's two namespaces of one environment: of its jobs, and of what Airflow may launch."""

    jobs: str = "default"
    runs: str = "runs"

    def __post_init__(self) -> None:
        """Raise WrongUse if they are one: Airflow could stop the platform's own jobs."""
        if self.jobs == self.runs:
            raise WrongUse(
                f"namespace {self.jobs}: expected two, found one for jobs and for runs",
                "Give what Airflow may launch a namespace of its own: runs_namespace.",
            )


@dataclass(frozen=True)
class Deployment:
    """One ``nomad job run``: the file, the job's id and the variables of its own."""

    file: Path
    id: str
    variables: dict[str, str] = field(default_factory=dict)


def job(name: str, suffix: str = "", **variables: str) -> Deployment:
    """Return the deployment of nomad/jobs/NAME.nomad.hcl; ``suffix`` is what its id ends with."""
    return Deployment(JOBS / f"{name}.nomad.hcl", name + suffix, variables)


def platform(*, analysts_python: bool = True) -> Iterator[Deployment]:
    """Yield all jobs of the platform, in the order in which they are run.

    Without ``analysts_python`` none is among them that only runs what analysts write in Python.
    """
    yield job("redis")
    yield job("dag-mirror")
    yield job("airflow-migrate")
    yield job("airflow-logs")
    yield job("airflow-webserver")
    yield job("airflow-scheduler")
    for bundle in ("pipelines", "analysts") if analysts_python else ("pipelines",):
        yield job("airflow-dag-processor", f"-{bundle}", bundle=bundle)
    yield job("airflow-triggerer")
    if analysts_python:
        yield job("airflow-worker", "-analysts")
    yield job("dag-sync")
    yield job("airflow-clean")
    yield job("superset-migrate")
    yield job("superset")
    yield job("superset-dashboards")
    registry = load_registry(REGISTRY)
    for entry in registry.entries:
        if entry.vault_path:
            yield job(
                "backup",
                f"-{entry.name}",
                database=entry.name,
                database_path=entry.vault_path,
                backup_schedule=entry.schedule,
            )
        else:
            yield Deployment(
                JOBS / "backup-snapshot.nomad.hcl",
                f"backup-{entry.name}",
                {"snapshot": entry.name, "backup_schedule": entry.schedule},
            )
    servers = {server.name: server.vault_path for server in registry.server}
    yield job("backup-coverage", servers=json.dumps(servers))
    yield job("backup-monthly")
    yield job("restore-drill")
    yield job("restore-drill", "-now", drill_start="dispatch")


def runs() -> Iterator[Deployment]:
    """Yield the jobs that Airflow may launch, which have a namespace of their own."""
    for source in load_sources():
        yield job(
            "ingest",
            f"-{source.name}",
            source=source.name,
            source_connections=json.dumps(source.paths),
        )
    for container in load_containers():
        yield job(
            "container",
            f"-{container.name}",
            container=container.name,
            # For Nomad to fill in when it runs, and not for the file when it is read.
            container_args=json.dumps(container.args).replace("${", "$${"),
            container_meta=json.dumps(container.meta),
            container_memory=str(container.memory),
        )


def namespaces(variable_files: Sequence[Path]) -> Namespaces:
    """Return where the jobs go: of each what the last of the files says that says something."""
    given = _given(variable_files)
    return Namespaces(
        str(given.get("namespace", Namespaces.jobs)),
        str(given.get("runs_namespace", Namespaces.runs)),
    )


def runs_analysts_python(variable_files: Sequence[Path]) -> bool:
    """Return whether what analysts write in Python runs, by the same rule."""
    return str(_given(variable_files).get("analysts_python", True)).lower() != "false"


def _given(variable_files: Sequence[Path]) -> dict[str, Any]:
    return {name: value for file in variable_files for name, value in read_variables(file).items()}


def stand_ins() -> list[Deployment]:
    """Return the jobs that stand in, on one machine, for what a real cluster already has."""
    folder = ROOT / "nomad/local"
    return [
        Deployment(folder / f"{name}.nomad.hcl", name)
        for name in ("local-postgres", "local-b2", "local-git")
    ]
