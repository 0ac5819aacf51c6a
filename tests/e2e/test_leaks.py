"""No secret of the platform is found where one could be read: specifications, processes, logs."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from scripts.local import databases, processes
from scripts.local.home import VOLUMES
from scripts.repository import HOME, LOGS, SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripts.access import Access

PG_DUMP = "/usr/lib/postgresql/15/bin/pg_dump"
SHORTEST = 12  # characters: the shortest value that can be searched for without chance hits
# Fields of .local/secrets that hold names and public halves.
PUBLIC = {"public", "key_id", "account_id"}
PLANTED = "planted-by-the-leak-test-5f1c"


@dataclass(frozen=True)
class Secret:
    """A secret by its file and field, and the bytes that give it away."""

    name: str
    needle: bytes


@dataclass(frozen=True)
class Place:
    """One text that is searched, by a name that says where to look."""

    name: str
    content: bytes


def strings(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield every secret string in ``value`` by its path."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key not in PUBLIC:
                yield from strings(f"{name}.{key}", part)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from strings(f"{name}[{number}]", part)
    elif isinstance(value, str) and len(value) >= SHORTEST:
        yield name, value


def needle(value: str, public: str) -> str:
    """Return what to search for: of armoured text the middle line, as all begin and end alike."""
    lines = [line for line in value.split("\n") if line and not line.startswith("---")]
    secret = [line for line in lines if line not in public]
    return secret[len(secret) // 2]


@pytest.fixture(scope="module")
def secrets(platform: Access) -> list[Secret]:
    """Every value of .local/secrets."""
    found = []
    for file in sorted(SECRETS.glob("*.json")):
        value = json.loads(file.read_text())
        public = value.get("public", "") if isinstance(value, dict) else ""
        found += [
            Secret(name, needle(text, public).encode()) for name, text in strings(file.stem, value)
        ]
    return found


def leaks(places: Iterator[Place], secrets: list[Secret]) -> list[str]:
    """Return what was found where, without the secret itself."""
    searched = 0
    found = []
    for place in places:
        searched += len(place.content)
        found += [
            f"{each.name} in {place.name}" for each in secrets if each.needle in place.content
        ]
    assert searched, "there was nothing to search"
    return found


def docker(*words: str) -> bytes:
    return subprocess.run(["docker", *words], capture_output=True, check=True, timeout=60).stdout


def job_specifications(platform: Access) -> Iterator[Place]:
    for job in platform.nomad.jobs.get_jobs():
        versions = platform.nomad.job.get_versions(job["ID"])
        yield Place(f"nomad job inspect {job['ID']}", json.dumps(versions).encode())


def allocations(platform: Access) -> Iterator[Place]:
    for found in platform.nomad.allocations.get_allocations(resources=True, task_states=True):
        yield Place(f"nomad alloc status {found['ID']}", json.dumps(found).encode())


def containers(platform: Access) -> Iterator[Place]:
    for name in docker("ps", "--all", "--quiet").decode().split():
        # One may end between the two commands.
        shown = subprocess.run(["docker", "inspect", name], capture_output=True, check=False)
        yield Place(f"docker inspect {name}", shown.stdout)


def images(platform: Access) -> Iterator[Place]:
    for tag in set(docker("images", "--quiet", "harmattan/*").decode().split()):
        yield Place(f"docker history {tag}", docker("history", "--no-trunc", tag))
        yield Place(f"docker image inspect {tag}", docker("image", "inspect", tag))


def processes_of_the_platform(platform: Access) -> Iterator[Place]:
    tops = [processes.find(name) for name in ("nomad", "vault", "dockerd")]
    running = docker("ps", "--quiet").decode().split()
    if running:
        shown = docker("inspect", "--format", "{{.State.Pid}}", *running).decode().split()
        tops += [psutil.Process(int(pid)) for pid in shown if psutil.pid_exists(int(pid))]
    for top in filter(None, tops):
        try:
            family = [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        for process in family:
            for file in ("cmdline", "environ"):
                try:
                    content = Path(f"/proc/{process.pid}/{file}").read_bytes()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                yield Place(f"/proc/{process.pid}/{file} ({process.name()})", content)


def files(*tops: Path) -> Iterator[Place]:
    for top in tops:
        for file in top.rglob("*"):
            if file.is_file() and not file.is_symlink():
                yield Place(str(file), file.read_bytes())


def allocation_logs(platform: Access) -> Iterator[Place]:
    yield from files(*(HOME / "nomad/alloc").glob("*/alloc"))


def host_logs(platform: Access) -> Iterator[Place]:
    yield from files(LOGS)


def task_logs(platform: Access) -> Iterator[Place]:
    yield from files(VOLUMES / "airflow-logs", VOLUMES / "airflow-trigger-logs")


def metadata_database(platform: Access) -> Iterator[Place]:
    dump = subprocess.run(
        [PG_DUMP, "--no-password", "--inserts", databases.superuser("airflow")],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    yield Place("the database airflow", dump.stdout)


def git_repositories(platform: Access) -> Iterator[Place]:
    yield from files(VOLUMES / "dag-mirror", VOLUMES / "dag-incoming")
    for top in ("dag-mirror", "local-git"):
        for head in (VOLUMES / top).rglob("HEAD"):
            if not (head.parent / "objects").is_dir():
                continue
            objects = subprocess.run(
                ["git", "-c", "safe.directory=*", "-C", head.parent, "cat-file",
                 "--batch-all-objects", "--batch"],
                capture_output=True, check=True, timeout=60,
            )  # fmt: skip
            yield Place(f"the objects of {head.parent}", objects.stdout)


SEARCHED = (
    job_specifications,
    allocations,
    containers,
    images,
    processes_of_the_platform,
    allocation_logs,
    host_logs,
    task_logs,
    metadata_database,
    git_repositories,
)


@pytest.mark.parametrize("gather", SEARCHED, ids=lambda each: each.__name__.replace("_", "-"))
def test_no_secret_is_found_in(
    gather: Callable[[Access], Iterator[Place]], platform: Access, secrets: list[Secret]
) -> None:
    assert leaks(gather(platform), secrets) == []


def test_every_kept_secret_is_searched_for(secrets: list[Secret]) -> None:
    names = {each.name.split(".")[0].split("[")[0] for each in secrets}
    assert names == {file.stem for file in SECRETS.glob("*.json")}
    assert all(len(each.needle) >= SHORTEST for each in secrets)
    assert len({each.needle for each in secrets}) == len(secrets)


def test_a_secret_planted_in_a_container_is_found_in_its_specification_and_its_process(
    platform: Access,
) -> None:
    image = docker("images", "--quiet", "harmattan/backup").decode().split()[0]
    container = (
        docker("run", "--detach", "--rm", "--network=none", f"--env=PLANTED={PLANTED}",
               "--entrypoint=sleep", image, "120").decode().strip()
    )  # fmt: skip
    planted = [Secret("planted", PLANTED.encode())]
    try:
        assert leaks(containers(platform), planted) == [
            f"planted in docker inspect {container[:12]}"
        ]
        found = leaks(processes_of_the_platform(platform), planted)
        assert [line for line in found if line.endswith("/environ (sleep)")]
    finally:
        docker("rm", "--force", container)


def test_a_secret_planted_in_a_log_is_found(secrets: list[Secret], tmp_path: Path) -> None:
    for number, secret in enumerate(secrets):
        text = b"uri=postgresql://user:" + secret.needle + b"@host/\xff\xfe\0"
        (tmp_path / f"{number}.log").write_bytes(b"\0" * 70_000 + text)
    expected = {
        f"{each.name} in {tmp_path / f'{number}.log'}" for number, each in enumerate(secrets)
    }
    assert expected == set(leaks(files(tmp_path), secrets))


def test_a_value_planted_in_the_metadata_database_would_be_in_the_dump(platform: Access) -> None:
    # The dump holds rows, not only the schema.
    (dump,) = metadata_database(platform)
    assert b"INSERT INTO public.dag VALUES" in dump.content
    assert b"INSERT INTO public.connection " not in dump.content
    assert b"INSERT INTO public.variable " not in dump.content
