"""Job files as Nomad parses them: to JSON, offline, by ``nomad job run -output``."""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import hcl2
import pytest

from scripts.jobs import platform, runs, stand_ins
from scripts.repository import ROOT
from scripts.tools import NOMAD, ensure
from tests.nomad.table import Job, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scripts.jobs import Deployment

Test = TypeVar("Test", bound="Callable[..., None]")

LOCAL = ROOT / "nomad/vars/local.hcl"
FILES = sorted([*ROOT.glob("nomad/jobs/*.hcl"), *ROOT.glob("nomad/local/*.hcl")])
VARIABLE_FILES = sorted(ROOT.glob("nomad/vars/*.hcl"))
IMAGES = {
    f"{name}_image": f"registry.test:5000/{name}:0123456789ab"
    for name in ("airflow", "backup", "ingest", "local", "redis", "superset")
} | {"container_images": "registry.test:5000/meltano:0123456789ab"}
DEPLOYMENTS = {each.id: each for each in [*stand_ins(), *platform(), *runs()]}
RUNS = [each.id for each in runs()]
PLATFORM = [*(each.id for each in platform()), *RUNS]
SECRET = re.compile(r'secret\s+"secret/data/local/([^"]+)"')


def for_each(job_ids: Iterable[str]) -> Callable[[Test], Test]:
    """Run a test for each of these jobs, with its id as ``job_id``; Nomad renders them."""

    def mark(test: Test) -> Test:
        return pytest.mark.programs(pytest.mark.parametrize("job_id", list(job_ids))(test))

    return mark


every_job = for_each(DEPLOYMENTS)
platform_job = for_each(PLATFORM)


@functools.cache
def binary() -> Path:
    """Return the ``nomad`` of the toolchain."""
    return ensure(NOMAD)


def nomad(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the ``nomad`` of the toolchain where no agent answers."""
    return subprocess.run(
        [binary(), *words],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "NOMAD_ADDR": "http://127.0.0.1:1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@functools.cache
def image_variables() -> Path:
    """Return a variables file like the one that the build of the images writes."""
    folder = Path(tempfile.mkdtemp(prefix="harmattan-jobs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "images.hcl"
    given = {name: f'"{tag}"' for name, tag in IMAGES.items()}
    given["container_images"] = f"{{ meltano = {given['container_images']} }}"
    path.write_text("".join(f"{name} = {value}\n" for name, value in given.items()))
    return path


def output(
    deployment: Deployment,
    variables: Path = LOCAL,
    verb: tuple[str, ...] = ("run", "-output"),
    **changes: str,
) -> subprocess.CompletedProcess[str]:
    """Render ``deployment`` with the flags of scripts/deploy.py; ``changes`` overrule variables."""
    given = {**deployment.variables, **changes}
    return nomad(
        "job", *verb, "-hcl2-strict=false",
        f"-var-file={variables}", f"-var-file={image_variables()}",
        *[f"-var={name}={value}" for name, value in given.items()],
        deployment.file,
    )  # fmt: skip


@functools.cache
def rendered(job_id: str, variables: Path = LOCAL) -> dict[str, Any]:
    """Return the job as the API takes it."""
    done = output(DEPLOYMENTS[job_id], variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["Job"]  # type: ignore[no-any-return]


def groups(job_id: str) -> list[dict[str, Any]]:
    return rendered(job_id)["TaskGroups"]  # type: ignore[no-any-return]


def tasks(job_id: str) -> list[dict[str, Any]]:
    return [task for group in groups(job_id) for task in group["Tasks"]]


def templates(task: dict[str, Any]) -> list[dict[str, Any]]:
    return task["Templates"] or []


def row(job_id: str) -> Job:
    """Return what the rendered job says, in the words of the table."""
    ports: dict[str, tuple[int | None, int]] = {}
    sources: dict[str, tuple[str, bool]] = {}
    for group in groups(job_id):
        for network in group["Networks"] or []:
            for port in network["ReservedPorts"] or []:
                ports[port["Label"]] = (port["Value"], port["To"])
            for port in network["DynamicPorts"] or []:
                ports[port["Label"]] = (None, port["To"])
        for name, volume in (group["Volumes"] or {}).items():
            assert volume["Type"] == "host"
            sources[name] = (volume["Source"], volume["ReadOnly"])
    several = len(groups(job_id)) > 1
    return Job(
        rendered(job_id)["Type"],
        {
            f"{group['Name']}/{task['Name']}" if several else task["Name"]: _task(task, sources)
            for group in groups(job_id)
            for task in group["Tasks"]
        },
        ports,
    )


def runs_as(task: dict[str, Any]) -> str:
    """Return the user that the task's program runs as, after frame.launcher."""
    words = task["Config"].get("entrypoint", [])
    users = [word.removeprefix("--user=") for word in words if word.startswith("--user=")]
    return users[0] if users else str(task["User"])


def _task(task: dict[str, Any], sources: dict[str, tuple[str, bool]]) -> Task:
    config = task["Config"]
    mounts = {}
    for mount in task["VolumeMounts"] or []:
        source, whole_read_only = sources[mount["Volume"]]
        read_only = bool(mount["ReadOnly"]) or whole_read_only
        mounts[source] = mount["Destination"] + (":ro" if read_only else "")
    identities = [*(task["Identities"] or []), *([task["Identity"]] if task["Identity"] else [])]
    launcher = [word for word in config.get("entrypoint", []) if word.startswith("--") and word[2:]]
    backend = json.loads((task["Env"] or {}).get("AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS", "{}"))
    return Task(
        image=next((name for name, tag in IMAGES.items() if tag == config["image"]), "unpinned"),
        user=runs_as(task),
        role=_of_local((task["Vault"] or {}).get("Role"), "-"),
        secrets={path for each in templates(task) for path in SECRET.findall(each["EmbeddedTmpl"])},
        connections=_of_local(backend.get("connections_path"), "/"),
        login=_of_local(backend.get("jwt_role"), "-"),
        identities={
            each.get("Name") or "default" for each in identities if each["File"] or each["Env"]
        },
        vault_token=bool(task["Vault"]) and not task["Vault"]["DisableFile"],
        volumes=mounts,
        network_mode=config.get("network_mode"),
        cap_add=config.get("cap_add", []),
        launcher=[word for word in launcher if not word.startswith("--user=")],
    )


def _of_local(name: str | None, separator: str) -> str | None:
    """Return a name without the environment, which it must have."""
    if name is None:
        return None
    environment = f"local{separator}"
    assert name.startswith(environment), name
    return name.removeprefix(environment)


@functools.cache
def declared(file: Path) -> dict[str, dict[str, Any]]:
    """Return the variable blocks of a job file by name."""
    with file.open() as text:
        blocks = hcl2.load(text)["variable"]
    return {name.strip('"'): body for block in blocks for name, body in block.items()}
