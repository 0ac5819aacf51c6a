"""Processes of Airflow's as their jobs run them: the user, the capabilities, secrets in files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from cryptography.fernet import Fernet

from frame.launcher import command_line
from scripts.repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

AIRFLOW = 50000
# As in a container: who ends all processes of a user ends none of another container's.
APART = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]


@dataclass(frozen=True)
class Service:
    """A folder with bundles and secrets, a metadata database, and how processes are started."""

    place: Path
    uri: str
    secrets: tuple[str, str]  # the Fernet key, and the password of the database
    environment: dict[str, str]

    def seed(self, code: str, *words: str) -> None:
        """Run ``code`` as root, with the database and the key."""
        done = subprocess.run(
            [_python(), "-W", "ignore", "-c", code, *words],
            env=self.environment, cwd=self.place,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    def start(self, output: IO[str], module: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a module as the job file does, with the capabilities of its container."""
        command = command_line(
            f"{AIRFLOW}:{AIRFLOW}", "setuid,setgid,kill", [_python(), "-m", module, *words]
        )
        return subprocess.Popen(
            [*APART, "setpriv", "--bounding-set=-all,+setuid,+setgid,+kill", *command]
            if module == "harmattan.dag_processor"
            else ["setpriv", "--bounding-set=-all,+setuid,+setgid,+kill", *command],
            env=self.environment, cwd=self.place, stdout=output, stderr=output,
        )  # fmt: skip


def _python() -> str:
    # The tests' own interpreter may stand where only root gets to; Debian's is for everyone.
    python = shutil.which("python3", path="/usr/bin")
    assert python is not None, "apt-get install python3"
    return python


@contextmanager
def service(uri: str, code: str, bundles: Iterable[str]) -> Iterator[Service]:
    """Make a service whose processes and their children may import ``code`` as strangers_code.

    ``uri`` is that of its migrated metadata database.
    """
    if os.geteuid() != 0:
        pytest.fail("this test changes users for real: run it as root")
    place = Path(tempfile.mkdtemp(prefix="harmattan-service-", dir="/tmp"))
    place.chmod(0o755)
    (place / "code").mkdir()
    (place / "code/strangers_code.py").write_text(code)
    key = Fernet.generate_key().decode()
    listed = []
    for bundle in bundles:
        (place / bundle).mkdir()
        listed.append(
            {
                "name": bundle,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(place / bundle)},
            }
        )
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(place),
        "TMPDIR": str(_writable(place / "tmp")),
        "LOGNAME": "airflow",  # the image has the user
        "PYTHONPATH": f"{place / 'code'}:{ROOT}/airflow:{ROOT}:{packages}",
        "AIRFLOW_HOME": str(_writable(place / "home")),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__FERNET_KEY_CMD": _secret(place / "fernet_key", key),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": _secret(
            place / "database_uri", uri.replace("postgresql:", "postgresql+psycopg2:")
        ),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(listed),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(_writable(place / "logs")),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(
            _writable(place / "parse-logs")
        ),
    }
    _writable(place / "free")
    try:
        yield Service(place, uri, (key, str(urlsplit(uri).password)), environment)
    finally:
        shutil.rmtree(place)


def _secret(path: Path, text: str) -> str:
    """Write a secret as Nomad's template does, and return the command that reads it."""
    path.write_text(text)
    path.chmod(0o400)
    os.chown(path, AIRFLOW, AIRFLOW)
    return f"cat {path}"


def _writable(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o777)
    return path
