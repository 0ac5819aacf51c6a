"""Strangers in the containers of the platform, by hand: what they reach of Nomad's folders."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from harmattan.strangers import STRANGER
from scripts.local.home import VOLUMES
from scripts.repository import HOME

if TYPE_CHECKING:
    from scripts.access import Access

ANALYST = 50008
# Task of a job: the user that strangers' code runs as.
TASKS = {
    ("airflow-dag-processor-pipelines", "dag-processor"): STRANGER,
    ("airflow-dag-processor-analysts", "dag-processor"): STRANGER,
    ("airflow-triggerer", "triggerer"): STRANGER,
    ("airflow-worker-analysts", "worker"): ANALYST,
}
FOLDERS = ("/secrets", "/alloc", "/alloc/logs", "/local")
IDENTITY = "/secrets/nomad_connections.jwt"
# Tries each way to have Nomad write through a link, and prints those that went through.
ATTACK = """
import json, os, sys
done = []
for folder in sys.argv[1:]:
    for way, tried in {
        "plant in": lambda: os.symlink("/planted", f"{folder}/planted"),
        "move": lambda: os.rename(folder, f"{folder}.moved"),
        "open": lambda: os.chmod(folder, 0o777),
        "list": lambda: os.listdir(folder),
    }.items():
        try:
            tried()
        except OSError:
            continue
        done.append(f"{way} {folder}")
print(json.dumps(done))
"""


def running(platform: Access, job_id: str, task: str) -> list[str]:
    """Return the containers of the task: one an allocation that runs."""
    return [
        f"{task}-{each['ID']}"
        for each in platform.nomad.job.get_allocations(job_id)
        if each["ClientStatus"] == "running"
    ]


def execute(name: str, user: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", "exec", "--user", str(user), name, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("job_id", "task"), TASKS)
def test_a_stranger_changes_nothing_where_nomad_writes(
    platform: Access, job_id: str, task: str
) -> None:
    names = running(platform, job_id, task)
    assert names
    for name in names:
        done = execute(name, TASKS[job_id, task], "python", "-c", ATTACK, *FOLDERS)
        assert (done.returncode, json.loads(done.stdout)) == (0, []), done.stderr
        # The attack itself works, where one may.
        done = execute(name, TASKS[job_id, task], "python", "-c", ATTACK, "/dev/shm")  # noqa: S108
        assert json.loads(done.stdout) == ["plant in /dev/shm", "list /dev/shm"]
        execute(name, TASKS[job_id, task], "rm", "/dev/shm/planted")  # noqa: S108


# What a stranger could fill: the folders of disks and memory that it may write.
WRITABLE = r"""
for folder in $(find / -type d -writable -not -path '/proc/*' -not -path '/sys/*' 2>/dev/null); do
  stat --file-system --format "%T $folder" "$folder"
done | grep -v '^tmpfs \|^mqueue '
"""
FILL = """
import os
held, room = [], 0
try:
    while True:
        held.append(open("/dev/null"))
except OSError as error:
    print(error.errno, len(held))
held.clear()
try:
    with open("/tmp/filled", "wb", buffering=0) as file:
        while True:
            room += file.write(bytes(2**20))
except OSError as error:
    print(error.errno, room // 2**20)
"""


@pytest.mark.parametrize(("job_id", "task"), TASKS)
def test_a_stranger_writes_bounded_memory_and_at_most_the_disk_of_logs(
    platform: Access, job_id: str, task: str
) -> None:
    (name, *_) = running(platform, job_id, task)
    disks = execute(name, TASKS[job_id, task], "sh", "-c", WRITABLE).stdout.splitlines()
    assert [each for each in disks if "/var/log/airflow" not in each] == []
    assert bool(disks) == (task == "worker")


def test_a_task_that_takes_all_descriptors_and_all_of_tmp_stops_itself(platform: Access) -> None:
    (name, *_) = running(platform, "airflow-worker-analysts", "worker")
    try:
        descriptors, room = execute(name, ANALYST, "python", "-c", FILL).stdout.splitlines()
    finally:
        execute(name, ANALYST, "rm", "-f", "/tmp/filled")  # noqa: S108
    errno, held = map(int, descriptors.split())
    assert (errno, held < 4096) == (24, True), "EMFILE"
    errno, mebibytes = map(int, room.split())
    assert (errno, mebibytes < 1024) == (28, True), "ENOSPC"


FORK = """
import subprocess
started = []
try:
    while len(started) < 2000:
        started.append(subprocess.Popen(["sleep", "20"]))
except OSError as error:
    print(error.errno)
for each in started:
    each.kill()
print(len(started))
"""


def test_a_task_that_forks_without_end_stops_itself(platform: Access) -> None:
    (name, *_) = running(platform, "airflow-worker-analysts", "worker")
    errno, started = execute(name, ANALYST, "python", "-c", FORK).stdout.split()
    assert int(errno) == 11, "EAGAIN"
    assert int(started) < 512


EAT = """
taken = []
while True:
    taken.append(b"x" * (len(taken) + 1))
"""


def test_a_task_that_takes_all_memory_ends_and_its_worker_stays(platform: Access) -> None:
    """In its own processes, as Celery forks them: what serves others is ended last."""
    job = "airflow-worker-analysts"
    before = restarts(platform, job)
    (name, *_) = running(platform, job, "worker")
    assert execute(name, ANALYST, "python", "-c", EAT).returncode == 137
    assert restarts(platform, job) == before


def restarts(platform: Access, job_id: str) -> dict[str, int]:
    return {
        f"{task} of {each['ID']}": state["Restarts"]
        for each in platform.nomad.job.get_allocations(job_id)
        for task, state in each["TaskStates"].items()
    }


def test_a_worker_reads_the_identity_that_nomad_renews_and_cannot_replace_it(
    platform: Access,
) -> None:
    (name, *_) = running(platform, "airflow-worker-analysts", "worker")
    assert execute(name, ANALYST, "cat", IDENTITY).stdout.count(".") == 2
    for words in (["rm", "-f", IDENTITY], ["ln", "-sf", "/planted", IDENTITY]):
        done = execute(name, ANALYST, *words)
        assert done.returncode != 0
        assert "denied" in done.stderr
    written = HOME / "nomad/alloc" / name.removeprefix("worker-") / "worker" / IDENTITY[1:]
    assert not written.is_symlink()


def test_no_process_of_a_container_with_strangers_stays_root(platform: Access) -> None:
    for job_id, task in TASKS:
        for name in running(platform, job_id, task):
            inspect = ["docker", "inspect", "--format", "{{.State.Pid}}", name]
            top = psutil.Process(int(subprocess.check_output(inspect)))
            users = {each.uids().real for each in [top, *top.children(recursive=True)]}
            assert 0 not in users, (name, users)


def test_each_triggerer_runs_its_triggers_as_the_stranger(platform: Access) -> None:
    bundles = set()
    for name in running(platform, "airflow-triggerer", "triggerer"):
        inspect = ["docker", "inspect", "--format", "{{.State.Pid}}", name]
        top = psutil.Process(int(subprocess.check_output(inspect)))
        family: dict[int, list[Any]] = {}
        for each in top.children(recursive=True):
            family.setdefault(each.uids().real, []).append(each)
        (child,) = family[STRANGER]
        assert not [key for key in child.environ() if key.endswith("_CMD")]
        module = ["-m", "harmattan.triggerer"]
        (parent,) = [each for each in family[50000] if each.cmdline()[1:3] == module]
        assert child.ppid() == parent.pid
        bundles.add(parent.cmdline()[-2])
    assert bundles == {"pipelines", "analysts"}


def test_no_task_reaches_the_triggerers_logs() -> None:
    state = (VOLUMES / "airflow-trigger-logs").stat()
    assert (state.st_uid, state.st_mode & 0o777) == (50000, 0o755)
