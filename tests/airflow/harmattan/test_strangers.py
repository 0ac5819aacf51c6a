from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from frame.launcher import command_line
from harmattan.strangers import STRANGER, child_environment
from scripts.repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.programs

PARENT = {
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": "cat /secrets/database_uri",
    "AIRFLOW__CORE__FERNET_KEY_CMD": "cat /secrets/fernet_key",
    "AIRFLOW__CORE__FERNET_KEY_SECRET": "a/path",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://airflow:a-password@db/airflow",
    "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": "[]",
    "AIRFLOW__SECRETS__BACKEND": "harmattan.nowhere.Backend",
    "AIRFLOW__SECRETS__BACKEND_KWARGS": '{"token": "a-token"}',
    "NOMAD_SECRETS_DIR": "/secrets",
    "NOMAD_TOKEN": "a-token",
    "NOMAD_ADDR": "http://10.0.0.1:4646",
    "PATH": "/opt/venv/bin:/usr/bin",
    "HOME": "/root",
    "_AIRFLOW_PROCESS_CONTEXT": "server",
}


def test_a_child_gets_no_way_to_a_secret() -> None:
    before = dict(PARENT)
    assert child_environment(PARENT) == {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": "[]",
        "_AIRFLOW_PROCESS_CONTEXT": "client",
        "PATH": "/opt/venv/bin:/usr/bin",
        "HOME": "/tmp",  # noqa: S108 - of a container
    }
    assert before == PARENT


def test_there_is_no_database_even_where_none_was_named() -> None:
    assert child_environment({})["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == ("sqlite://")


def test_the_user_is_the_images_stranger() -> None:
    dockerfile = (ROOT / "airflow/Dockerfile").read_text()
    assert f"useradd --uid {STRANGER} --gid {STRANGER} --no-create-home" in dockerfile


# What stands for `harmattan.strangers` in the new interpreter: its child looks around.
CHILD = """
import json, os, socket, sys
from pathlib import Path

def tried(action):
    try:
        return action() and None
    except OSError as error:
        return type(error).__name__

def child():
    parent = os.getppid()
    status = Path("/proc/self/status").read_text()
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd")
                         if os.path.exists(f"/proc/self/fd/{name}"))
    socket.socket(fileno=3).sendall(json.dumps({
        "target": sys.argv[1],
        "users": os.getresuid(), "groups": os.getresgid(), "more_groups": os.getgroups(),
        "capabilities": [line.split()[1] for line in status.splitlines()
                         if line.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb"))],
        "privileges": "NoNewPrivs:\\t1" in status,
        "descriptors": descriptors,
        "environment": dict(os.environ),
        "file": tried(lambda: Path(os.environ["SECRET_FILE"]).read_text()),
        "parents_environment": tried(lambda: Path(f"/proc/{parent}/environ").read_bytes()),
        "parents_memory": tried(lambda: open(f"/proc/{parent}/mem", "rb").close()),
        "back_to_root": tried(lambda: os.setuid(0)),
        "back_to_parent": tried(lambda: os.setuid(50000)),
        "signal_parent": tried(lambda: os.kill(parent, 0)),
    }).encode())
"""
# The parent holds a secret in a file and by an open descriptor, and forks as Airflow does.
PROGRAM = """
import importlib.util, os, socket, sys
spec = importlib.util.spec_from_file_location("strangers", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
secret = open(os.environ["SECRET_FILE"])
os.set_inheritable(secret.fileno(), True)
held = os.dup2(secret.fileno(), 200)
sys.executable = sys.argv[2]
pairs = [socket.socketpair() for _ in range(4)]
(_, requests), (_, stdout), (_, stderr), (ours, logs) = pairs
pid = os.fork()
if pid == 0:
    module.become_stranger(requests, stdout, stderr, logs.fileno(), os.path.join)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(ours.recv(65536).decode())
sys.exit(code)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the stranger can look into."""
    folder = Path(tempfile.mkdtemp(prefix="harmattan-stranger-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["0:0", "50000:50000"], ids=["root", "the-service"])
def around(place: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return what a child that became the stranger sees around it."""
    if os.geteuid() != 0:
        pytest.fail("this test changes users for real: run it as root")
    secret = place / "secret"
    secret.write_text("the fernet key")
    secret.chmod(0o400)
    os.chown(secret, *map(int, request.param.split(":")))
    package = place / "path" / "harmattan"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "strangers.py").write_text(CHILD)
    # The tests' own interpreter may stand where only root gets to; Debian's is for everyone.
    python = shutil.which("python3", path="/usr/bin")
    assert python is not None, "apt-get install python3"
    parent = [python, "-c", PROGRAM, str(ROOT / "airflow/harmattan/strangers.py"), python]
    done = subprocess.run(
        command_line(request.param, "setuid,setgid,kill", parent),
        env={**PARENT, "SECRET_FILE": str(secret), "PYTHONPATH": f"{place / 'path'}:{ROOT}",
             "PATH": "/usr/bin:/bin"},
        cwd=place, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_a_child_is_another_user_and_cannot_come_back(around: dict[str, Any]) -> None:
    assert around["users"] == [STRANGER] * 3
    assert around["groups"] == [STRANGER] * 3
    assert around["more_groups"] == []
    assert set(around["capabilities"]) == {"0" * 16}
    assert around["privileges"] is True
    assert around["back_to_root"] == around["back_to_parent"] == "PermissionError"


def test_a_child_reads_nothing_of_its_parents(around: dict[str, Any]) -> None:
    assert around["file"] == "PermissionError"
    assert around["parents_environment"] == "PermissionError"
    assert around["parents_memory"] == "PermissionError"
    assert around["signal_parent"] == "PermissionError"


def test_a_child_keeps_its_four_sockets_and_nothing_else(around: dict[str, Any]) -> None:
    assert around["descriptors"] == [0, 1, 2, 3]


def test_a_child_is_told_what_airflow_would_have_called(around: dict[str, Any]) -> None:
    assert around["target"] == "posixpath:join"


def test_a_childs_environment_is_the_one_that_was_made_for_it(around: dict[str, Any]) -> None:
    environment = around["environment"]
    assert not [name for name in environment if name.endswith("_CMD") or "NOMAD" in name]
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "sqlite://"
    assert "a-password" not in str(environment)


def test_airflow_has_what_a_child_stands_for(airflow_program: Any) -> None:
    """Names of Airflow that are not for others: a new version may move them."""
    code = """
import inspect, pkgutil
from airflow.dag_processing import processor
from airflow.dag_processing.processor import _parse_file_entrypoint
from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor
from airflow.sdk.execution_time import supervisor
from harmattan.strangers import fork_strangers
assert callable(processor._pre_import_airflow_modules)
print(list(inspect.signature(supervisor._fork_main).parameters))
print("_fork_main" in supervisor.WatchedSubprocess.start.__func__.__code__.co_names)
for target in (_parse_file_entrypoint, TriggerRunnerSupervisor.run_in_process):
    print(pkgutil.resolve_name(f"{target.__module__}:{target.__qualname__}") == target)
fork_strangers()
print(supervisor._fork_main.__name__)
"""
    done = airflow_program(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-5:] == [
        "['requests', 'child_stdout', 'child_stderr', 'log_fd', 'target']",
        "True",
        "True",
        "True",
        "become_stranger",
    ]


def test_sockets_are_what_a_child_is_given() -> None:
    """`socket(fileno=0)` finds out by itself what it was given."""
    ours, theirs = socket.socketpair()
    program = "import socket; socket.socket(fileno=0).send(b'found')"
    with ours, theirs:
        subprocess.run([sys.executable, "-c", program], stdin=theirs, check=True, timeout=30)
        assert ours.recv(10) == b"found"
